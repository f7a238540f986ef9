"""A recommender that is given away: the same answers elsewhere, nobody's data in it, another language model refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_world import TinyWorld

import allmrec
from allmrec.core.errors import ArtifactError, ConfigError, ModelNotFoundError, UnknownIdError
from allmrec.data.build import read_table
from allmrec.export.pretrained import TrainedALLMRec
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from allmrec.testing.tiny_lm import save_tiny_language_model


@pytest.fixture(scope="module")
def run(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder: Path = tmp_path_factory.mktemp("run") / "run"
    shutil.copytree(tiny_world.folder / "language model", folder.parent / "lm")
    config = load_recipe(str(tiny_world.recipe), {"llm.name": str(folder.parent / "lm"), "answer.cold_below": 3})
    made = Run.create(folder, read_table(tiny_world.interactions, tiny_world.items), config)
    made.train()
    return made


@pytest.fixture(scope="module")
def saved(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    run.recommender().save_pretrained(folder)
    return folder


def test_it_recommends_the_same(run: Run, saved: Path) -> None:
    loaded = allmrec.ALLMRec.from_pretrained(saved)
    assert loaded.recommend(history=["i1", "i2"]) == run.recommender().recommend(history=["i1", "i2"])
    assert isinstance(loaded, TrainedALLMRec)


def test_no_user_is_in_it_unless_asked(run: Run, saved: Path, tmp_path: Path) -> None:
    everything = b"".join(file.read_bytes() for file in saved.rglob("*") if file.is_file())
    # Three bytes stand among random weights now and then, and thirty such ids do not.
    assert sum(user.encode() in everything for user in run.dataset.users.ids if len(user) == 3) < 3
    with pytest.raises(UnknownIdError, match="u3"):
        allmrec.ALLMRec.from_pretrained(saved).recommend(user="u3")
    run.recommender().save_pretrained(tmp_path / "whole", interactions=True)
    whole = allmrec.ALLMRec.from_pretrained(tmp_path / "whole")
    assert whole.recommend(user="u3") == run.recommender().recommend(user="u3")


def test_added_items_come_along_without_the_encoder(run: Run, tmp_path: Path) -> None:
    model = run.recommender()
    model.add_items([{"item_id": "new", "title": "Item 5", "description": "A thing."}])
    model.save_pretrained(tmp_path / "model")
    loaded = allmrec.ALLMRec.from_pretrained(tmp_path / "model")
    loaded._text_side = None  # it may be asked for nothing
    assert loaded.recommend(history=["new", "i1"]) == model.recommend(history=["new", "i1"])
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    assert allmrec.ALLMRec.from_pretrained(again).recommend(history=["new"]) == model.recommend(history=["new"])


def test_a_prior_that_reads_titles_reads_those_of_added_items_too(run: Run, tmp_path: Path) -> None:
    config = run.config.changed({"tune.prompt.pointer.prior": "fused"})
    fused = Run.create(tmp_path / "run", run.dataset, config)
    fused.train()
    model = fused.recommender()
    model.add_items([{"item_id": "new", "title": "Item 5"}, {"item_id": "other"}])
    number = fused.dataset.n_items + 1
    similarity = model.ranker.prior_scores.texts
    assert similarity is not None
    twin, stranger = fused.dataset.items.number("i5"), fused.dataset.items.number("i9")
    found = similarity.scores(np.array([twin]), np.array([number, stranger, number + 1]))
    assert found[0] == pytest.approx(1, abs=1e-5)
    assert found[2] == pytest.approx(found[:2].mean(), abs=1e-5)  # without a title
    model.save_pretrained(tmp_path / "model")
    loaded = allmrec.ALLMRec.from_pretrained(tmp_path / "model")
    assert loaded.recommend(history=["new", "i1"]) == model.recommend(history=["new", "i1"])


def test_it_is_not_trained_further(saved: Path) -> None:
    with pytest.raises(ConfigError, match="made to be used"):
        Run.open(saved).train()


def test_another_language_model_of_that_name_is_refused(run: Run, saved: Path) -> None:
    folder = Path(run.config.llm.name)
    kept = folder.with_name("kept")
    folder.rename(kept)
    try:
        save_tiny_language_model(folder, "opt", layers=2, seed=1)
        with pytest.raises(ArtifactError, match="other weights"):
            allmrec.ALLMRec.from_pretrained(saved)
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)


def test_another_sentence_encoder_of_that_name_is_refused_when_it_is_needed(
    run: Run, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = allmrec.ALLMRec.from_pretrained(saved)
    monkeypatch.setattr("allmrec.stages.frozen.fingerprint", lambda model: "another")
    assert loaded.recommend(history=["i1"])
    with pytest.raises(ArtifactError, match=r"sentence encoder .* other weights"):
        loaded.add_items([{"item_id": "new", "title": "x"}])


def test_other_folders_are_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no saved recommender"):
        run.recommender().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="the run itself"):
        run.recommender().save_pretrained(run.path)


def test_a_name_that_is_nowhere_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="neither a folder nor"):
        allmrec.ALLMRec.from_pretrained("nobody/nothing-of-that-name")


def test_the_card_says_what_the_run_knows(run: Run, saved: Path) -> None:
    card = (saved / "README.md").read_text()
    assert card.startswith('---\nlibrary_name: "allmrec"\n')
    assert "24 users, 36 items, 144 interactions" in card
    assert "No user's data is included." in card
    assert "Not evaluated." in card


def test_publishing_uploads_what_saving_writes(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub itself is not asked; its client's two calls are, with the arguments that it takes."""
    calls: list[tuple[str, Any]] = []

    class Api:
        def __init__(self, token: str | None = None) -> None:
            calls.append(("token", token))

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            calls.append(("create", (name, private, exist_ok)))

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
            shutil.copytree(folder_path, tmp_path / "hub")
            calls.append(("upload", repo_id))
            return "address"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert run.recommender().push_to_hub("me/shop", token="t") == "address"
    assert calls == [("token", "t"), ("create", ("me/shop", True, True)), ("upload", "me/shop")]
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, revision: str(tmp_path / "hub"))
    loaded = allmrec.ALLMRec.from_pretrained("me/shop")
    assert loaded.recommend(history=["i1"]) == run.recommender().recommend(history=["i1"])

"""A run knows its frozen models: others under the same name are refused at every opening, and paths hold from anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_world import TinyWorld

from allmrec.core.errors import ArtifactError, ModelNotFoundError
from allmrec.data.build import read_table
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from allmrec.stages.frozen import encoder_parts, language_model
from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.tiny_lm import save_tiny_language_model


@pytest.fixture(scope="module")
def home(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run whose models were named from within the folder."""
    folder: Path = tmp_path_factory.mktemp("home")
    shutil.copytree(tiny_world.folder / "language model", folder / "models/lm")
    shutil.copytree(tiny_world.folder / "encoder", folder / "models/encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        names = {"llm.name": "./models/lm", "encoder.name": "models/encoder"}
        config = load_recipe(str(tiny_world.recipe), names)
        run = Run.create(Path("run"), read_table(tiny_world.interactions, tiny_world.items), config)
        run.train()
    return folder


@contextmanager
def _another(folder: Path, encoder: bool = False) -> Iterator[None]:
    """Other weights under the same name."""
    kept = folder.with_name(f"{folder.name} before")
    folder.rename(kept)
    try:
        if encoder:
            save_tiny_encoder(folder, seed=1)
        else:
            save_tiny_language_model(folder, "opt", layers=2, seed=1)
        yield
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)


def test_a_run_works_from_any_folder_whatever_is_called_alike_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_language_model(tmp_path / "models/lm", "opt", layers=2, seed=5)
    monkeypatch.chdir(tmp_path)
    run = Run.open(home / "run")
    assert run.recommender().recommend(history=["i1", "i2"])
    named = json.loads((home / "run/run.json").read_text())["config"]
    assert str(home / "models/lm") == run.config.llm.name
    assert str(home / "models/encoder") == named["encoder"]["name"]


def test_the_same_command_again_finds_every_stage_there(
    home: Path, tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    said: list[str] = []
    config = load_recipe(str(tiny_world.recipe), {"llm.name": "models/lm", "encoder.name": "./models/encoder"})
    Run.create(Path("run"), read_table(tiny_world.interactions, tiny_world.items), config).train(said.append)
    assert said
    assert all("there already" in line for line in said)
    assert len(json.loads((home / "run/run.json").read_text())["fingerprints"]) == 2


def test_another_language_model_under_the_name_is_refused_wherever_it_is_loaded(home: Path) -> None:
    known = json.loads((home / "run/run.json").read_text())["fingerprints"]
    mine = next(value for key, value in known.items() if key.startswith("llm "))
    with _another(home / "models/lm"):
        with pytest.raises(ArtifactError, match=rf"other weights \(fingerprint \w+\) than .* with \({mine[:16]}\)"):
            Run.open(home / "run").recommender()
        with pytest.raises(ArtifactError, match="another folder"):
            language_model(Run.open(home / "run"))
    assert Run.open(home / "run").recommender()


def test_another_encoder_under_the_name_is_refused_when_it_is_needed(home: Path) -> None:
    with _another(home / "models/encoder", encoder=True):
        model = Run.open(home / "run").recommender()
        assert model.recommend(history=["i1"])
        with pytest.raises(ArtifactError, match=r"sentence encoder .* other weights"):
            model.add_items([{"item_id": "new", "title": "x"}])


def test_training_on_with_another_model_is_refused_before_it_begins(home: Path) -> None:
    run = Run.open(home / "run")
    changed = run.with_config(run.config.changed({"tune.training.learning_rate": 1e-5}))
    with _another(home / "models/lm"), pytest.raises(ArtifactError, match="other weights"):
        changed.train()


def test_fingerprints_stay_when_the_configuration_changes(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    run = Run.open(tmp_path / "run")
    Run.create(run.path, run.dataset, run.config.changed({"evaluation.users": 5}))
    with _another(home / "models/lm"), pytest.raises(ArtifactError, match="other weights"):
        language_model(Run.open(tmp_path / "run"))


def test_damaged_fingerprints_are_an_error_with_the_file(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    about = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps({**about, "fingerprints": ["x"]}))
    with pytest.raises(ArtifactError, match=r"run\.json: fingerprints"):
        Run.open(tmp_path / "run")


def test_a_run_from_elsewhere_cannot_allow_code_by_itself(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stranger's run says trust_remote_code, and its encoder's file would leave a mark."""
    shutil.copytree(home / "run", tmp_path / "run")
    mark = tmp_path / "mark"
    encoder = tmp_path / "encoder"
    shutil.copytree(home / "models/encoder", encoder)
    code = f"open({str(mark)!r}, 'w').close()\nfrom transformers import BertConfig, BertModel\n"
    code += "class Theirs(BertConfig):\n    model_type = 'theirs'\nclass TheirModel(BertModel):\n    config_class = Theirs\n"
    (encoder / "theirs.py").write_text(code)
    config = json.loads((encoder / "config.json").read_text())
    auto = {"AutoConfig": "theirs.Theirs", "AutoModel": "theirs.TheirModel"}
    (encoder / "config.json").write_text(json.dumps({**config, "model_type": "theirs", "auto_map": auto}))
    about = json.loads((tmp_path / "run/run.json").read_text())
    about["config"]["encoder"] |= {"name": str(encoder), "trust_remote_code": True}
    (tmp_path / "run/run.json").write_text(json.dumps(about))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked on the terminal"))
    monkeypatch.delenv("ALLMREC_TRUST_REMOTE_CODE", raising=False)
    with pytest.raises(ModelNotFoundError, match="ALLMREC_TRUST_REMOTE_CODE=1"):
        encoder_parts(Run.open(tmp_path / "run"))
    assert not mark.exists()
    monkeypatch.setenv("ALLMREC_TRUST_REMOTE_CODE", "1")
    assert type(encoder_parts(Run.open(tmp_path / "run")).model).__name__ == "TheirModel"
    assert mark.exists()

"""Systems beside A-LLMRec in a run: each trained by name, evaluated with the rest, and the same after loading."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import TinyWorld
from transformers import LongformerConfig, LongformerModel

from allmrec.baselines.recformer import Recformer
from allmrec.baselines.recformer_text import ItemTokens
from allmrec.cf.recommender import BackboneRecommender
from allmrec.core.errors import ArtifactError, ConfigError, DataError
from allmrec.data.build import read_table
from allmrec.data.interactions import InteractionDataset
from allmrec.evaluation import Report, draw_protocol, evaluate_rankers, markdown, render
from allmrec.library import Run
from allmrec.ranking import Query
from allmrec.recipes.config import RunConfig
from allmrec.recipes.files import load_recipe
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.retrieve import BackboneRetriever
from allmrec.store.stages import Stage, stage_record
from allmrec.systems.baselines import encoder_note
from allmrec.systems.evaluating import _pairs, earlier_report, evaluate_run, keep_report
from allmrec.systems.own import OWN
from allmrec.systems.recommending import recommender
from allmrec.systems.registry import SYSTEMS, checked_settings, open_systems, train_systems
from allmrec.systems.variants import VARIANTS, open_variant
from allmrec.testing.tiny_lm import tiny_tokenizer
from allmrec.testing.worlds import taste_world

SHORT = {"epochs": 1, "batch_size": 16}
SMALL = {
    "systems.morec.encoder.tune": "frozen",
    "systems.morec.pretrain.training": SHORT,
    "systems.ctrl.pretrain.training": SHORT,
    "systems.ctrl.contrast": SHORT,
    "systems.recformer.model": {"dim": 16, "layers": 1},
    "systems.recformer.pretraining": SHORT,
    "systems.recformer.first": SHORT,
    "systems.recformer.second": SHORT,
    "systems.tallrec.training": {"epochs": 1, "batch_size": 4},
    "evaluation.users": 6,
    "encoder.tune": "full",
}


@pytest.fixture(scope="module")
def data(tiny_world: TinyWorld) -> InteractionDataset:
    return read_table(tiny_world.interactions, tiny_world.items)


@pytest.fixture(scope="module")
def config(tiny_world: TinyWorld) -> RunConfig:
    return load_recipe(str(tiny_world.recipe), SMALL)


@pytest.fixture(scope="module")
def trained(data: InteractionDataset, config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("run") / "run", data, config)
    run.train()
    return run


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Run:
    shutil.copytree(trained.path, tmp_path / "copy")
    return Run.open(tmp_path / "copy")


def heard(run: Run, *names: str) -> list[str]:
    """What training reports, without its times."""
    lines: list[str] = []
    train_systems(run, names, lines.append)
    return [line.split(" in ")[0] for line in lines]


def last_stage(run: Run, name: str) -> Stage:
    """The stage that is trained for a system alone."""
    of, stages = SYSTEMS[name].job(run)
    return of.stage(stages[-1])


# What the tiny run is itself already.
ITSELF = ("sasrec", "plain-prior")


@pytest.mark.parametrize("name", [name for name in SYSTEMS if not SYSTEMS[name].own and name not in ITSELF])
def test_each_is_trained_by_name_ranks_and_is_the_same_after_loading(copy: Run, name: str) -> None:
    assert any(line.endswith(": done") for line in heard(copy, name))
    assert all(line.endswith("there already, made of the same inputs") for line in heard(copy, name))
    first = evaluate_run(copy, [name]).systems[0]
    again = evaluate_run(Run.open(copy.path), [name]).systems[0]
    assert (first.key, first.users, first.ranks) == (name, again.users, again.ranks)
    assert None not in first.ranks
    assert first.costs["train_seconds"] >= 0
    items = [item.item_id for item in recommender(Run.open(copy.path), name).recommend(history=["i1", "i2"], k=3)]
    assert len(set(items)) == 3
    assert not {"i1", "i2"} & set(items)
    assert list((copy.path / ".resume").iterdir()) == []


def test_a_variant_trains_only_what_sets_it_apart(copy: Run) -> None:
    there = "there already, made of the same inputs"
    lines = heard(copy, "without-user", "without-matching", "mlp-llm")
    assert lines == [
        *(f"{name}: {there}" for name in ("pretrain", "reference", "align")),
        "without-user.tune: done",
        "without-matching.align: done",
        "without-matching.tune: done",
        "mlp-llm.tune: done",
    ]
    folders = {str(path.relative_to(copy.path / "systems")) for path in (copy.path / "systems").glob("*/*/")}
    assert folders == {"without-user/tune", "without-matching/align", "without-matching/tune", "mlp-llm/tune"}


def test_the_variants_change_what_they_say(trained: Run) -> None:
    changed = {name: open_variant(trained, name).config for name in VARIANTS if name not in ITSELF}
    fused = Run(trained.path, trained.dataset, changed["fused-prior"])
    assert open_variant(fused, "plain-prior").config == trained.config
    assert changed["without-matching"].align.matching_weight == 0
    assert changed["without-reconstruction"].align.item_reconstruction_weight == 0
    assert changed["without-reconstruction"].align.text_reconstruction_weight == 0
    assert changed["without-recommendation"].align.recommendation_weight == 0
    assert changed["frozen-encoder"].encoder.tune == "frozen"
    assert not changed["without-user"].tune.prompt.user_vector
    assert not changed["without-joint"].tune.prompt.item_vectors
    assert changed["random-joint"].tune.items == "random"
    assert changed["mlp-llm"].tune.items == "backbone"
    assert changed["no-llm"].tune.prompt.pointer.layers == 0
    assert (changed["all-items"].align.positions, changed["all-items"].tune.positions) == ("all", "all")


def test_a_run_that_is_the_variant_itself_has_no_such_variant(trained: Run) -> None:
    itself = Run(trained.path, trained.dataset, trained.config.changed({"tune.items": "random"}))
    with pytest.raises(ConfigError, match="'random-joint' in its own configuration"):
        open_variant(itself, "random-joint")


def test_what_a_run_has_nothing_of_is_no_variant_of_it(trained: Run) -> None:
    """It would be trained again, and stand in the table as an ablation."""
    for name in ("fused-prior", "prior-alone", "without-prior"):
        for change in ({"tune.prompt.pointer.cf_prior": False}, {"tune.select_weight": 0.0}):
            bare = Run(trained.path, trained.dataset, trained.config.changed(change))
            with pytest.raises(ConfigError, match=r"varies the pointer head's prior|no variant of it"):
                open_variant(bare, name)
    plain = Run(trained.path, trained.dataset, trained.config.changed({"tune.items": "backbone"}))
    with pytest.raises(ConfigError, match="no variant of it"):
        open_variant(plain, "without-matching")


@pytest.mark.parametrize("name", ["text-similarity", "bm25", "morec", "ctrl", "recformer"])
def test_what_knows_items_by_their_texts_is_refused_where_there_are_none(
    tiny_world: TinyWorld, config: RunConfig, tmp_path: Path, name: str
) -> None:
    run = Run.create(tmp_path / "run", read_table(tiny_world.interactions), config)
    with pytest.raises(DataError, match=r"none of the 36 items .* has one.*--items"):
        train_systems(run, [name], lambda text: None)


def test_variants_share_one_language_model(trained: Run) -> None:
    run = Run.open(trained.path)
    models = [open_variant(run, name).lm for name in ("no-llm", "slots-both")]
    assert models[0] is models[1] is run.lm


def test_mlp_llm_shows_the_cf_models_own_vectors_and_random_ones_are_drawn_once(trained: Run) -> None:
    made = open_variant(trained, "mlp-llm")
    assert made.stages == ["pretrain", "reference", "tune"]
    np.testing.assert_array_equal(made.joint().cf[1:], trained.backbone().item_vectors()[1:].detach())
    drawn = [open_variant(trained, "random-joint").joint().cf for _ in range(2)]
    assert drawn[0].equal(drawn[1])
    assert drawn[0].shape == trained.joint().cf.shape


def test_a_run_may_hold_other_systems_alone(data: InteractionDataset, config: RunConfig, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", data, config)
    assert heard(run, "late-fusion") == [f"{name}: done" for name in ("pretrain", "reference", "texts", "late-fusion")]
    report = evaluate_run(run)
    assert [s.key for s in report.systems] == ["popularity", "backbone", "backbone-held-out", "late-fusion"]
    assert len(recommender(run).recommend(history=["i1"], k=3)) == 3
    assert heard(run, "text-similarity") == [
        "texts: there already, made of the same inputs",
        "text-similarity: done",
    ]
    with pytest.raises(ConfigError, match="has text-similarity, late-fusion; say which is to recommend with --system"):
        recommender(run)
    with pytest.raises(ArtifactError, match=r"has no stage 'align'.*allmrec train"):
        evaluate_run(run, ["allmrec-select"])


def test_one_command_tells_what_the_language_model_adds(
    data: InteractionDataset, config: RunConfig, tmp_path: Path
) -> None:
    """Late fusion with its score trains what it reads, and late fusion without it."""
    run = Run.create(tmp_path / "run", data, config)
    assert heard(run, "late-fusion-llm") == [
        f"{name}: done"
        for name in ("pretrain", "reference", "texts", "late-fusion", "align", "tune", "late-fusion-llm")
    ]
    report = evaluate_run(run, ["late-fusion", "late-fusion-llm"])
    (pair,) = report.pairs
    assert (pair.title, pair.system) == ("What the language model adds", "Late fusion with the LLM")
    assert (pair.against, pair.differences[0].n_users) == ("Late fusion", 6)
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    assert "\nWhat the language model adds: Hit@1 of Late fusion with the LLM less Late fusion: " in markdown(report)
    assert evaluate_run(run, ["late-fusion-llm"]).pairs == ()
    with_it = report.systems[1]
    seconds = {name: stage_record(run.path, run.stage(name))["seconds"] for name in run.stages}
    assert with_it.costs["train_seconds"] >= sum(seconds.values())
    # Where no layer of it is run, nothing is said to be its doing.
    bare = Run(run.path, run.dataset, run.config.changed({"tune.prompt.pointer.layers": 0}))
    (without_layers,) = _pairs(bare, open_systems(run, ["late-fusion", "late-fusion-llm"]))
    assert without_layers.title == "What the pointer head adds, no layer of the language model run"


def test_late_fusion_reads_the_language_model_as_the_table_does(copy: Run) -> None:
    train_systems(copy, ["late-fusion-llm"], lambda text: None)
    made = open_systems(copy, ["allmrec-select", "late-fusion-llm"])
    query, items = Query(np.array([1, 2, 3])), np.arange(1, 9)
    parts = made["late-fusion-llm"].ranker._parts  # type: ignore[attr-defined]  # a LateFusion
    (own,), (read,) = (s.rank([query], [items]) for s in (made["allmrec-select"].ranker, parts["LLM"]))
    np.testing.assert_array_equal(own.items, read.items)
    np.testing.assert_array_equal(own.scores, read.scores)
    assert not made["late-fusion-llm"].titles
    # One prompt holds few candidates, so the CF model retrieves what it ranks.
    retriever = recommender(copy, "late-fusion-llm")._retriever
    assert isinstance(retriever, BackboneRetriever)


def test_late_fusion_by_the_title_loss_is_slow_and_compared_on_few_users(copy: Run) -> None:
    changes = {"tune.title_weight": 1.0, "tune.select_weight": 0.0, "systems.late-fusion.validation_users": 4}
    by_title = Run.create(copy.path, copy.dataset, copy.config.changed(changes))
    train_systems(by_title, ["late-fusion-llm"], lambda text: None)
    few, all_of_them = open_systems(by_title, ["late-fusion", "late-fusion-llm"]).values()
    assert (few.titles, all_of_them.titles) == (False, True)
    report = evaluate_run(by_title, ["late-fusion", "late-fusion-llm"])
    assert [system.n_users for system in report.systems] == [6, 3]
    assert report.pairs[0].differences[0].n_users == 3
    other = Run(copy.path, copy.dataset, by_title.config.changed({"answer.normalisation": "mean"}))
    with pytest.raises(ArtifactError, match=r"made of other inputs.*--system late-fusion-llm"):
        open_systems(other, ["late-fusion-llm"])
    assert list(open_systems(other, ["late-fusion"])) == ["late-fusion"]


def test_what_scores_titles_recommends_without_a_cf_model(
    data: InteractionDataset, config: RunConfig, tmp_path: Path
) -> None:
    """Popularity proposes then, and that is said; with a CF model, that proposes."""
    run = Run.create(tmp_path / "run", data, config)
    assert heard(run, "llm-only", "tallrec") == ["llm-only: nothing to train", "tallrec: done"]
    for name, called in (("tallrec", "TALLRec"), ("llm-only", "LLM-Only")):
        said: list[str] = []
        found = recommender(run, name, said.append).recommend(history=["i1", "i2"], k=3)
        assert len({item.item_id for item in found} - {"i1", "i2"}) == 3
        (line,) = said
        assert f"popularity retrieves what {called} ranks" in line
        assert f"train {run.path} --system sasrec" in line
    assert len(recommender(run).recommend(history=["i1", "i2"], k=3)) == 3
    heard(run, "sasrec")
    said = []
    recommender(run, "tallrec", said.append)
    assert said == []


def test_a_longformer_by_name_is_read_in_its_own_tokens(
    data: InteractionDataset, config: RunConfig, tmp_path: Path
) -> None:
    """The sentence encoder's numbers would mean nothing to it."""
    tokenizer = tiny_tokenizer(["title category one two three", *(t for t in data.catalogue.titles if t)][:3], bos=True)
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    shape = LongformerConfig(
        vocab_size=len(tokenizer), type_vocab_size=1, attention_window=[4], max_position_embeddings=66, pad_token_id=1,
        **sizes,
    )  # fmt: skip
    LongformerModel(shape, add_pooling_layer=False).save_pretrained(tmp_path / "longformer")
    model = {"longformer": str(tmp_path / "longformer"), "max_tokens": 64}
    run = Run.create(tmp_path / "run", data, config.changed({"systems.recformer.model": model}))
    with pytest.raises(ConfigError, match=r"tokenizer .*do not belong together"):
        train_systems(run, ["recformer"], lambda text: None)
    tokenizer.save_pretrained(tmp_path / "longformer")
    assert heard(run, "recformer")[-1] == "recformer: done"
    made = open_systems(run, ["recformer"])["recformer"].ranker
    arrays = run.folder.tensors(last_stage(run, "recformer"))
    own = Recformer.from_arrays(
        arrays, ItemTokens.of(data.catalogue, tokenizer), SYSTEMS["recformer"].settings.of(run.config).model
    )
    query = Query(np.array([1, 2, 3]))
    (found,), (wanted,) = (
        system.rank([query], [np.arange(1, 9)]) for system in (made, BackboneRecommender(own, "own"))
    )
    assert made.name == "RECFORMER"
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)


class ReachedError(Exception):
    """Far enough."""


@pytest.mark.parametrize("name", ["text-similarity", "morec", "ctrl"])
def test_texts_are_encoded_where_the_run_computes(
    data: InteractionDataset, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On a device that holds no numbers: the first texts to reach the encoder find its weights there."""
    original = torch.nn.Embedding.forward
    reached: list[tuple[str, str]] = []

    def forward(self: torch.nn.Embedding, numbers: torch.Tensor) -> torch.Tensor:
        # The probe at load reads a few words where the weights were loaded.
        if self.weight.shape[1] != config.pretrain.model.dim and self.weight.device.type == "meta":
            reached.append((self.weight.device.type, numbers.device.type))
            raise ReachedError
        return original(self, numbers)

    run = Run.create(tmp_path / "run", data, config, "meta")
    monkeypatch.setattr(torch.nn.Embedding, "forward", forward)
    with pytest.raises(ReachedError):
        train_systems(run, [name], lambda text: None)
    assert reached == [("meta", "meta")]


def test_what_decides_text_vectors_decides_whose_they_are(trained: Run) -> None:
    changed = Run(trained.path, trained.dataset, trained.config.changed({"encoder.max_tokens": 8}))
    for name in ("text-similarity", "late-fusion", "morec", "ctrl"):
        assert last_stage(changed, name).key != last_stage(trained, name).key
    assert last_stage(changed, "recformer").key == last_stage(trained, "recformer").key


def test_settings_of_a_system_are_checked_by_its_own_class(config: RunConfig) -> None:
    assert checked_settings(config) == config
    for changes, message in (
        (
            {"systems.tallrek.lora.r": 4},
            r"systems\.tallrek: no system has settings of that name\. Did you mean systems\.tallrec",
        ),
        ({"systems.ease.regularization": 4}, r"systems\.ease .* no such field; did you mean regularisation"),
        ({"systems.bm25.b": 2}, r"systems\.bm25 .* b: Input should be less than or equal to 1 \(found 2\)"),
        ({"systems.popularity.x": 2}, r"systems\.popularity: no system has settings"),
    ):
        with pytest.raises(ConfigError, match=message):
            checked_settings(config.changed(changes))


def test_paths_in_settings_are_whole_wherever_the_run_is_opened(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "longformer").mkdir()
    monkeypatch.chdir(tmp_path)
    changed = config.changed({"systems.recformer.model.longformer": "longformer"})
    model = checked_settings(changed).systems["recformer"]["model"]
    assert model == {"dim": 16, "layers": 1, "longformer": str(tmp_path / "longformer")}


def test_what_a_system_is_not_told_is_as_in_the_runs_own_stages(config: RunConfig) -> None:
    changed = config.changed(
        {
            "pretrain.training.epochs": 9,
            "pretrain.model.dim": 12,
            "tune.training.batch_size": 3,
            "tune.prompt.budget.title_tokens": 5,
            "systems.morec": {},
            "systems.tallrec": {"training": {"epochs": 7}},
            "systems.gru4rec": {"model": {"layers": 2}},
        }
    )
    morec, tallrec, gru = (SYSTEMS[name].settings.of(changed) for name in ("morec", "tallrec", "gru4rec"))
    assert (morec.pretrain.training.epochs, morec.pretrain.model.dim) == (9, 12)
    assert (morec.pretrain.training.learning_rate, morec.encoder.tune) == (1e-4, "full")
    assert (tallrec.training.epochs, tallrec.training.batch_size, tallrec.training.learning_rate) == (7, 3, 1e-4)
    assert tallrec.budget.title_tokens == 5
    assert (gru.training.epochs, gru.model.dim, gru.model.layers, gru.backbone) == (9, 12, 2, "gru4rec")
    assert gru.model.objective.loss == "bpr_max"


def test_an_encoder_that_is_not_tuned_as_the_papers_tune_it_is_noted(config: RunConfig) -> None:
    notes = {
        "full": "",
        "frozen": "its sentence encoder frozen",
        2: "its sentence encoder tuned in the last 2 layers only",
    }
    for tuned, note in notes.items():
        changed = config.changed({"systems.morec.encoder.tune": tuned})
        assert encoder_note(SYSTEMS["morec"].settings.of(changed)) == note


def test_the_runs_own_cf_model_may_be_all_of_it(data: InteractionDataset, config: RunConfig, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", data, config)
    assert heard(run, "sasrec") == ["pretrain: done", "reference: done"]
    assert [s.key for s in evaluate_run(run, ["sasrec"]).systems] == ["backbone"]
    assert len(recommender(run, "sasrec").recommend(user="u3", k=4)) == 4
    # Neither `evaluate` nor `recommend` needs to be told.
    assert [s.key for s in evaluate_run(run).systems] == ["popularity", "backbone", "backbone-held-out"]
    assert recommender(run).recommend(user="u3", k=4) == recommender(run, "sasrec").recommend(user="u3", k=4)


def test_by_default_all_that_is_there_is_evaluated(copy: Run) -> None:
    train_systems(copy, ["item-knn", "no-llm"], lambda text: None)
    report = evaluate_run(copy)
    assert [system.key for system in report.systems] == [*(kind.name for kind in OWN), "no-llm", "item-knn"]
    shown = evaluate_run(copy, ["allmrec-select", "no-llm"]).systems
    assert [system.name for system in shown] == ["A-LLMRec (select)", "no LLM (select)"]
    assert shown[0].costs["trained_parameters"] == shown[1].costs["trained_parameters"]
    assert shown[0].costs["peak_memory"] > 2**20


def test_what_was_trained_on_other_inputs_is_left_out_and_named(copy: Run) -> None:
    train_systems(copy, ["late-fusion", "item-knn"], lambda text: None)
    changed = Run.create(copy.path, copy.dataset, copy.config.changed({"pretrain.training.epochs": 1}))
    changed.train()
    told: list[str] = []
    names = open_systems(changed, None, told.append)
    assert "item-knn" in names
    assert "late-fusion" not in names
    again = f"allmrec train {copy.path} --system late-fusion"
    assert told == [f"Left out, trained on other inputs than the run now has: late-fusion. {again}"]
    with pytest.raises(ArtifactError, match=r"made of other inputs.*--system late-fusion"):
        open_systems(changed, ["late-fusion"])


def test_a_system_that_a_run_cannot_have_says_why(copy: Run) -> None:
    without = Run(copy.path, copy.dataset, copy.config.changed({"held_out_targets": 0, "tune.positions": "last"}))
    with pytest.raises(ConfigError, match="no system 'backbone-held-out': held_out_targets is 0"):
        evaluate_run(without, ["backbone-held-out"])


def test_another_cf_model_in_its_place_shows_before_and_after(copy: Run, data: InteractionDataset) -> None:
    wanted = ["popularity", "backbone", "allmrec-select"]
    first = evaluate_run(copy, wanted)

    def compared(run: Run, report: Report) -> Report | None:
        earlier = earlier_report(run, report, "report")
        keep_report(run, report, "report")
        return earlier

    assert compared(copy, first) is None
    assert compared(copy, evaluate_run(copy, wanted)) is None

    swapped = Run.create(copy.path, data, copy.config.changed({"pretrain.backbone": "gru4rec"}))
    swapped.train()
    second = evaluate_run(swapped, wanted)
    before = compared(swapped, second)
    assert before is not None
    assert [s.ranks for s in before.systems] == [s.ranks for s in first.systems]
    shown = [str(column._cells) for column in render(second, before).renderables[-1].columns]  # type: ignore[attr-defined]  # a Table
    assert "SASRec, now GRU4Rec" in shown[0]
    assert "+0.000 [+0.000, +0.000]" in shown[3]  # popularity's change
    # Asked again without any change, the last change is still shown.
    assert compared(swapped, evaluate_run(swapped, wanted)) is not None


@pytest.fixture(scope="module")
def tastes(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose CF model knows the tastes of its users; stages 1 and 2 are left to the variants."""
    changes = {
        "pretrain.training": {"epochs": 40, "batch_size": 32, "learning_rate": 5e-3},
        "align.training": {"epochs": 10, "batch_size": 32, "learning_rate": 3e-3},
        "tune.samples_per_epoch": None,
        "tune.training": {"epochs": 8, "batch_size": 8, "learning_rate": 5e-3},
        "encoder.tune": "frozen",
    }
    data = taste_world(users=96, tastes=4)
    run = Run.create(tmp_path_factory.mktemp("tastes") / "run", data, config.changed(changes))
    run.train(until="pretrain")
    return run


def blind_hit(tastes: Run, name: str, trained: bool = True) -> float:
    """Hit@1 of a variant without the CF model's scores in the head: what is right has come through the slots."""
    blind = Run(tastes.path, tastes.dataset, tastes.config.changed({"tune.prompt.pointer.cf_prior": False}))
    train_systems(blind, [name], lambda text: None)
    variant = open_variant(blind, name)
    protocol = draw_protocol(variant.split, "test", None, 6, 0)
    system = LanguageRanker(variant.ranker(trained), variant.method, name)
    return evaluate_rankers([system], protocol, variant.split).systems[0].metrics["Hit@1"].value


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "mlp-llm",
        "all-items",
        "no-llm",
        "slots-both",
        "slots-gate",
        "without-matching",
        "without-reconstruction",
        "without-recommendation",
        "without-user",
    ],
)
def test_a_variant_learns_what_its_untrained_self_does_not_know(tastes: Run, name: str) -> None:
    after, before = (blind_hit(tastes, name, trained) for trained in (True, False))
    print(f"{name}: Hit@1 {after:.2f}, untrained {before:.2f}")
    assert after > before + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["without-joint", "random-joint"])
def test_without_the_items_vectors_the_tastes_are_not_found(tastes: Run, name: str) -> None:
    """They take away what MLP-LLM, whose slots carry the CF model's own vectors, knows of the candidates."""
    whole, without = blind_hit(tastes, "mlp-llm"), blind_hit(tastes, name)
    print(f"{name}: Hit@1 {without:.2f}, with them {whole:.2f}")
    assert without < whole - 0.2

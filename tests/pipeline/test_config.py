"""A run's configuration: the recipes, single changes, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from allmrec.cf.gru4rec import GRU4RecConfig
from allmrec.core.errors import ConfigError
from allmrec.recipes.config import RunConfig, for_backbone
from allmrec.recipes.files import load_recipe, parse_changes, recipe_names


def flat(values: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """Nested fields by their paths."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{parent}{name}.") if isinstance(value, dict) else {parent + name: value}
    return found


def test_there_are_recipes_and_each_fits() -> None:
    assert {"cpu", "demo", "paper", "released"} <= set(recipe_names())
    for name in recipe_names():
        config = load_recipe(name)
        # What is written to run.json gives the same configuration back.
        assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_paper_is_the_default() -> None:
    assert load_recipe("paper") == RunConfig()


def test_released_differs_from_paper_in_the_named_fields_only() -> None:
    paper, released = (flat(load_recipe(name).model_dump(mode="json")) for name in ("paper", "released"))
    assert paper.keys() == released.keys()
    assert {name: (paper[name], released[name]) for name in paper if paper[name] != released[name]} == {
        "encoder.name": (
            "sentence-transformers/all-mpnet-base-v2",
            "sentence-transformers/nq-distilbert-base-v1",
        ),
        "item_text.full": ("Title: {title}, Description: {description}", '"{title}, {description}"'),
        "item_text.title_only": ("Title: {title}", '"{title}"'),
        "pretrain.model.mask_padding": (True, False),
        "align.reconstructed": ("positive", "both"),
        "align.recommendation_score": ("sum", "mean"),
        "align.text_reconstruction_weight": (0.5, 0.2),
        "tune.prompt.template.item": (None, '"{title}"{item}'),
        "tune.prompt.budget.user_before_bos": (False, True),
        "tune.prompt.projection.scale": ("tokens", "none"),
        "tune.prompt.projection.standardise": (True, False),
        "tune.training.batch_size": (4, 2),
        "tune.training.epochs": (5, 10),
        "evaluation.users": (None, 10000),
        "answer.generate.repetition_penalty": (1.0, 1.5),
    }


def test_changes_are_read_as_toml_else_as_text() -> None:
    texts = [
        "tune.training.epochs=3",
        "llm.name = a/b=c ",
        "align.samples_per_epoch=none",
        "x=true",
        "y=[1, 2.5]",
        "z=1e-3",
    ]
    assert parse_changes(texts) == {
        "tune.training.epochs": 3,
        "llm.name": "a/b=c",
        "align.samples_per_epoch": None,
        "x": True,
        "y": [1, 2.5],
        "z": 1e-3,
    }


@pytest.mark.parametrize("text", ["tune.training.epochs", "=3", " = 3"])
def test_a_change_without_a_name_or_a_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected field=value, e\.g\. tune\.training\.epochs=3"):
        parse_changes([text])


def test_a_change_takes_the_place_of_the_recipes_value() -> None:
    config = load_recipe("cpu", {"tune.training.epochs": 7, "encoder.name": "other"})
    assert (config.tune.training.epochs, config.encoder.name) == (7, "other")
    rest = load_recipe("cpu")
    assert config.tune.training.learning_rate == rest.tune.training.learning_rate
    assert config.encoder.tune == rest.encoder.tune
    assert rest.changed({"tune.training.epochs": 7, "encoder.name": "other"}) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tune.traning.epochs=3", "tune.traning: no such field; did you mean tune.training?"),
        ("epochs=3", "did you mean pretrain.training.epochs or align.training.epochs or tune.training.epochs?"),
        ("tune.training.epochs=0", "tune.training.epochs: Input should be greater than or equal to 1 (found 0)"),
        ("encoder.tune=half", "encoder.tune: Input should be 'full' or 'frozen' (found 'half')"),
        ("pretrain.backbone=sasreq", "There is no backbone 'sasreq'; known are gru4rec, imported, nc"),
        ("tune.positions=held_out", "tune.positions is 'held_out', which needs held_out_targets of at least 1"),
    ],
)
def test_a_change_that_does_not_fit_is_explained(change: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("paper", parse_changes([change]))
    assert str(caught.value).startswith("The recipe paper with the changes given does not fit RunConfig:")
    assert message in str(caught.value)


def test_a_group_given_in_part_keeps_its_own_defaults_in_the_rest(tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text("[tune.training]\nepochs = 3\n")
    assert load_recipe(str(tmp_path / "some.toml")) == RunConfig().changed({"tune.training.epochs": 3})
    # The default of stage 2, and not of a training anywhere.
    assert load_recipe(str(tmp_path / "some.toml")).tune.training.learning_rate == 1e-4


@pytest.mark.parametrize("recipe", ["cpu", "released"])
def test_a_change_that_is_a_group_changes_those_fields_alone(recipe: str) -> None:
    """`tune.training.epochs = 3` under `[changes]` of a plan is such a group; the recipe's other fields stay."""
    group = {"tune": {"training": {"epochs": 3}, "candidates": 7}, "systems": {"item-knn": {"neighbours": 3}}}
    single = {"tune.training.epochs": 3, "tune.candidates": 7, "systems.item-knn.neighbours": 3}
    assert load_recipe(recipe, group) == load_recipe(recipe, single)
    assert load_recipe(recipe, {"tune": {}}) == load_recipe(recipe)
    by_name = load_recipe(recipe, {"pretrain.backbone": "gru4rec"})
    assert load_recipe(recipe, {"pretrain": {"backbone": "gru4rec"}}) == by_name


def test_another_backbone_in_a_recipe_has_its_own_defaults(tmp_path: Path) -> None:
    (tmp_path / "gru.toml").write_text('[pretrain]\nbackbone = "gru4rec"\nmodel = { layers = 2 }\n')
    assert load_recipe(str(tmp_path / "gru.toml")).pretrain.model == GRU4RecConfig(layers=2)


@pytest.mark.parametrize("group", ["pretrain", "align", "tune", "answer", "evaluation", "llm", "systems"])
@pytest.mark.parametrize("value", ["5", "[1]", '"text"', "[{ a = 1 }]"])
@pytest.mark.parametrize("base", ["", 'base = "cpu"\n'])
def test_a_single_value_in_the_place_of_a_group_is_refused(tmp_path: Path, group: str, value: str, base: str) -> None:
    (tmp_path / "mine.toml").write_text(f"{base}{group} = {value}\n")
    with pytest.raises(ConfigError, match=rf"mine\.toml does not fit RunConfig: {group}"):
        load_recipe(str(tmp_path / "mine.toml"))
    with pytest.raises(ConfigError, match=rf"{group}"):
        load_recipe("cpu", parse_changes([f"{group}={value}"]))


@pytest.mark.parametrize("name", ["[]", '["gru4rec"]', "3", "{ a = 1 }", "true"])
def test_a_backbone_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.toml").write_text(f"pretrain.backbone = {name}\n")
    with pytest.raises(ConfigError, match=r"backbone is .*; expected the name of one"):
        load_recipe(str(tmp_path / "mine.toml"))
    with pytest.raises(ConfigError, match="backbone"):
        load_recipe("cpu", parse_changes([f"pretrain.backbone={name}"]))


@pytest.mark.parametrize("base", ["mine.toml", "other.toml"])
def test_a_recipe_in_another_encoding_is_refused(tmp_path: Path, base: str) -> None:
    (tmp_path / "mine.toml").write_bytes("# für uns\n".encode("latin-1"))
    (tmp_path / "other.toml").write_text('base = "mine.toml"\n')
    with pytest.raises(ConfigError, match=r"mine\.toml is no TOML: .*Save it as UTF-8"):
        load_recipe(str(tmp_path / base))


def test_a_change_inside_a_single_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Cannot change seed\.x: seed is a single value"):
        RunConfig().changed({"seed.x": 1})


def test_a_recipe_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('llm.name = "mine"\n[tune]\ncandidates = 5\n')
    assert load_recipe(str(file)) == RunConfig().changed({"llm.name": "mine", "tune.candidates": 5})
    file.write_text("x = 1\nllm = [\n")
    with pytest.raises(ConfigError, match=r"mine\.toml is no TOML"):
        load_recipe(str(file))
    with pytest.raises(ConfigError, match=r"There is no recipe 'papre': neither a file nor one of .*paper"):
        load_recipe("papre")


def test_a_recipe_says_what_it_changes_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "one.toml").write_text('base = "cpu"\n[tune.training]\nepochs = 7\n')
    (tmp_path / "far" / "two.toml").write_text('base = "../one.toml"\n[tune.prompt.budget]\ntitle_tokens = 3\n')
    cpu, two = flat(load_recipe("cpu").model_dump()), flat(load_recipe(str(tmp_path / "far" / "two.toml")).model_dump())
    assert {name: two[name] for name in cpu if two[name] != cpu[name]} == {
        "tune.training.epochs": 7,
        "tune.prompt.budget.title_tokens": 3,
    }


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ('"other.toml"', "its own base"),
        ('"nowhere"', "There is no recipe 'nowhere'"),
        ("3", "expected the name or the path"),
    ],
)
def test_a_base_that_cannot_be_is_refused(tmp_path: Path, base: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(f"base = {base}\n")
    (tmp_path / "other.toml").write_text('base = "mine.toml"\n')
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(tmp_path / "mine.toml"))


def test_another_backbone_keeps_sizes_and_nothing_that_suits_the_old_one_alone() -> None:
    config = load_recipe("paper", {"pretrain.model": {"dim": 24, "dropout": 0.7}, "pretrain.training.epochs": 7})
    other = for_backbone(config.pretrain, "gru4rec")
    assert (other.backbone, other.model.model_dump()["dim"], other.training.epochs) == ("gru4rec", 24, 7)
    assert other.model == GRU4RecConfig(dim=24)
    assert config.changed({"pretrain.backbone": "gru4rec"}).pretrain == other

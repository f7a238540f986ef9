"""docs/configuration.md is what the config classes say; fields, recipes and plans that the documents name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from allmrec.core.errors import ConfigError
from allmrec.data.build import PrepareConfig
from allmrec.experiments.plan import load_plan
from allmrec.recipes.config import RunConfig
from allmrec.recipes.files import load_recipe, recipe_names
from tests.docs.conftest import PAGES, ROOT, blocks, program, without_blocks

GENERATOR = program(ROOT / "docs" / "generate_configuration.py")
FIELDS = [name for name, _, _ in GENERATOR.fields(RunConfig())]
_DOTTED = re.compile(r"`((?:pretrain|align|tune|answer|evaluation|encoder|item_text|llm)\.[a-z_.]+)`")


def test_the_page_is_what_the_classes_say() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == GENERATOR.reference(), "run: python docs/generate_configuration.py"


def test_every_field_of_a_run_is_listed_with_a_description() -> None:
    for name, _, about in GENERATOR.fields(RunConfig()):
        assert about, f"{name} has no description"
    assert {"llm.name", "tune.training.epochs", "pretrain.model.dropout"} <= set(FIELDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_fields_named_in_a_page_exist(page: Path) -> None:
    for name in _DOTTED.findall(without_blocks(page)):
        known = name in FIELDS or any(field.startswith(f"{name}.") for field in FIELDS)
        assert known, f"{page.name} names {name}, which is no field of a run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_in_a_page_load(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "toml")):
        recipe = tmp_path / f"{number}.toml"
        recipe.write_text(text, encoding="utf-8")
        if page.name == "experiments.md":
            assert load_plan(str(recipe)).asked
        else:
            assert load_recipe(str(recipe)) != RunConfig()


def test_a_recipe_with_a_misspelled_field_would_be_noticed(tmp_path: Path) -> None:
    recipe = tmp_path / "wrong.toml"
    recipe.write_text("[tune.prompt.pointer]\nlayer = 3\n")
    with pytest.raises(ConfigError, match="layers"):
        load_recipe(str(recipe))


def test_every_recipe_is_explained() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    for name in recipe_names():
        assert f"## `{name}`\n" in text, f"docs/recipes.md has no section on {name}"
        assert f"| `{name}`" in (ROOT / "README.md").read_text(encoding="utf-8"), f"README.md does not list {name}"


def test_the_table_of_differences_tells_the_truth() -> None:
    paper, released = load_recipe("paper"), load_recipe("released")
    two = [{name: value for name, value, _ in GENERATOR.fields(recipe)} for recipe in (paper, released)]
    rows = {
        "align.reconstructed": ("positive", "both"),
        "align.text_target": ("detached", "detached"),
        "align.recommendation_score": ("sum", "mean"),
        "align.text_reconstruction_weight": (0.5, 0.2),
        "align.joint_dim": (128, 128),
        "tune.prompt.projection.scale": ("tokens", "none"),
        "tune.prompt.projection.standardise": (True, False),
        "encoder.tune": ("full", "full"),
        "tune.training.batch_size": (4, 2),
        "tune.training.epochs": (5, 10),
        "tune.prompt.budget.max_history": (10, 10),
        "tune.prompt.budget.user_before_bos": (False, True),
        "tune.prompt.template.item": (None, '"{title}"{item}'),
        "evaluation.users": (None, 10_000),
        "pretrain.model.mask_padding": (True, False),
        "tune.select_weight": (0.0, 0.0),
        "tune.prompt.pointer.cf_prior": (False, False),
        "held_out_targets": (0, 0),
    }
    for name, expected in rows.items():
        assert (two[0][name], two[1][name]) == expected, name
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    different = [name for name in FIELDS if two[0][name] != two[1][name]]
    assert all(f"`{name}`" in text for name in different), different
    assert PrepareConfig().core_passes == "one"

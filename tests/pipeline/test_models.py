"""Models asked for before training: what is here and whole passes, what is not is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_world import TinyWorld

from allmrec.core.errors import ModelNotFoundError
from allmrec.data.build import read_table
from allmrec.pipeline.run import Run
from allmrec.recipes.files import load_recipe
from allmrec.stages.frozen import check_encoder, check_language_model, try_encoder, try_language_model

# The test run is offline (HF_HUB_OFFLINE), so the hub is never asked.
CHECKS = [(check_language_model, "llm.name", "language model"), (check_encoder, "encoder.name", "sentence encoder")]
LOADS = [(try_language_model, "llm.name", "language model"), (try_encoder, "encoder.name", "sentence encoder")]


def _run(world: TinyWorld, folder: Path, field: str, name: str) -> Run:
    data = read_table(world.interactions, world.items)
    return Run.draft(folder / "run", data, load_recipe(str(world.recipe), {field: name}))


@pytest.mark.parametrize("name", ["no/such-model", "/no such folder"])
@pytest.mark.parametrize(("check", "field", "kind"), CHECKS)
def test_a_name_that_leads_nowhere_is_named(
    check: Callable[[Run], None], field: str, kind: str, name: str, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFoundError, match=f"The {kind} '{name}' is no folder here"):
        check(_run(tiny_world, tmp_path, field, name))


@pytest.mark.parametrize(("load", "field", "kind"), LOADS)
def test_a_folder_that_is_no_model_is_refused_before_any_training(
    load: Callable[[Run], None], field: str, kind: str, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match=f"The {kind} .* could not be loaded"):
        load(_run(tiny_world, tmp_path, field, str(tmp_path)))


@pytest.mark.parametrize(("load", "field", "kind"), LOADS)
def test_what_is_here_and_whole_passes_and_its_fingerprint_is_noted(
    load: Callable[[Run], None], field: str, kind: str, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    config = load_recipe(str(tiny_world.recipe))
    name = config.llm.name if field == "llm.name" else config.encoder.name
    run = _run(tiny_world, tmp_path, field, name)
    load(run)
    load(run)
    assert [key.split(" ", 1)[1].startswith(name) for key in run.fingerprints] == [True]
    assert not run.path.exists()

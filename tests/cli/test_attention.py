"""`allmrec attention`: a figure, its numbers and a table from a tiny run, in both forms of the prompt."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import call, fails

from allmrec.library import Run
from allmrec.recommend.attention import Group

# Weights of a softmax in bfloat16, which the language model is held in where the processor is faster at it.
ROUNDED = 5e-3
BY_ONE = {Group.OTHER_SLOTS, Group.OTHER_TITLE_STARTS, Group.OTHER_TITLE_RESTS}


def drawn(run: Path, output: Path, *options: str) -> tuple[Any, dict[str, Any]]:
    result = call("attention", run, "-o", output, "--users", "5", *options)
    assert result.exit_code == 0, result.output
    return result, json.loads(output.with_suffix(".json").read_text())


def sums(values: dict[str, Any], candidates: int) -> np.ndarray:
    """Over all groups; those of the other candidates are stored as the mean per candidate."""
    return sum(np.asarray(values[group]) * (candidates - 1 if group in BY_ONE else 1) for group in Group)


def test_the_papers_form_gives_a_png_and_its_numbers(copy: Path, tmp_path: Path) -> None:
    result, numbers = drawn(copy, tmp_path / "figures" / "attention.png", "--gains", "3")
    assert (tmp_path / "figures" / "attention.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    run = Run.open(copy)
    assert (numbers["users"], numbers["candidates"], numbers["layers"], numbers["heads"]) == (5, 20, 2, 2)
    assert (numbers["language_model"], numbers["form"], numbers["parallel"]) == (run.config.llm.name, "paper", False)
    assert numbers["tune"] == run.stage("tune").key
    for when in ("before", "after"):
        by_layer = numbers[when]["by_layer"]
        np.testing.assert_allclose(sums(by_layer, 20), [1, 1], atol=ROUNDED)
        assert all(share > 0 for group in Group for share in by_layer[group])
        assert set(numbers[when]["by_layer_and_head"]) == {Group.TARGET_TITLE_START, Group.OTHER_TITLE_STARTS}
    # Training moved something, and the table says what is in the file.
    assert numbers["before"] != numbers["after"]
    first = numbers["largest_gains"][0]
    shares = numbers["after"]["by_layer_and_head"][Group.TARGET_TITLE_START]
    assert shares[first["layer"] - 1][first["head"] - 1] == pytest.approx(first["after"], abs=1e-6)
    assert len(numbers["largest_gains"]) == 3
    assert f"{first['before']:.4f}" in result.stdout
    assert "pointer head alone" not in result.stdout
    assert "Written: " in result.stdout


def test_the_form_copy_gives_an_svg_and_every_head(copy: Path, tmp_path: Path) -> None:
    changed = ["--set", "tune.prompt.template.form=copy", "--set", "tune.title_weight=0"]
    assert call("train", copy, *changed).exit_code == 0
    result, numbers = drawn(copy, tmp_path / "attention.svg", "--layer-by-head")
    text = (tmp_path / "attention.svg").read_text()
    assert text.startswith("<?xml")
    for words in ("Before training", "After training", "first token of its title", "the user's slot", '"copy"'):
        assert words in text
    assert "the history" not in text  # a prompt without a history has no line for it
    assert (numbers["form"], numbers["parallel"]) == ("copy", True)
    for when in ("before", "after"):
        by_head = numbers[when]["by_layer_and_head"]
        np.testing.assert_allclose(sums(by_head, 20), np.ones((2, 2)), atol=ROUNDED)
        assert np.any(by_head[Group.HISTORY]) == np.False_
        assert np.all(np.asarray(by_head[Group.OTHER_SLOTS]) > 0)
    assert "pointer head alone" in result.stdout
    # The same numbers give the same file.
    before = (tmp_path / "attention.svg").read_bytes()
    drawn(copy, tmp_path / "attention.svg", "--layer-by-head")
    assert (tmp_path / "attention.svg").read_bytes() == before


def test_without_an_output_the_figure_stands_in_the_run(copy: Path) -> None:
    assert call("attention", copy, "--users", "1").exit_code == 0
    assert (copy / "attention.png").is_file()
    assert json.loads((copy / "attention.json").read_text())["users"] == 1


def test_another_ending_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    assert "'.jpg'; a figure ends in .png or .svg" in fails("attention", tmp_path / "gone", "-o", tmp_path / "a.jpg")
    assert "'nothing'" in fails("attention", tmp_path / "gone", "-o", tmp_path / "attention")


def test_without_matplotlib_the_command_to_install_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'allmrec[plots]'" in fails("attention", tmp_path / "gone")


def test_a_run_that_is_not_trained_is_named(workplace: Path, tmp_path: Path, tiny_world: Any) -> None:
    run = tmp_path / "run"
    assert call("pretrain", workplace / "data", "-o", run, "--recipe", tiny_world.recipe).exit_code == 0
    assert "align" in fails("attention", run)
    assert not (run / "attention.png").exists()

"""Help of every verb, and that neither it nor a typing error waits for torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.cli.conftest import call

from allmrec.cli.main import _VERBS

VERBS = [
    "align",
    "attention",
    "compare",
    "demo",
    "doctor",
    "evaluate",
    "experiment",
    "import-backbone",
    "plan",
    "prepare",
    "pretrain",
    "recommend",
    "serve",
    "train",
    "tune",
    "update",
]


def test_the_program_lists_its_verbs() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert sorted(_VERBS) == VERBS
    for name, (_, text) in _VERBS.items():
        # In whole: a line that is cut off says less than a short one.
        assert f"  {name} " in result.stdout
        assert text in result.stdout


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_each_verb_has_help(verb: str, option: str) -> None:
    result = call(verb, option)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


@pytest.mark.parametrize("source", ["table", "movielens"])
def test_each_source_has_help(source: str) -> None:
    result = call("prepare", source, "--help")
    assert result.exit_code == 0
    assert "--output" in result.stdout


def test_training_names_the_recipes() -> None:
    assert "paper, released" in call("train", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'"),
        (["train", "data", "--recipee", "cpu"], "No such option: --recipee"),
        (["prepare", "tabel"], "No such command 'tabel'. Did you mean 'table'?"),
        (["prepare", "table", "--interactions", "x.csv"], "Missing option"),
        (["recommend", "run", "--k", "0"], "Invalid value for '--k'"),
        (["train"], "Missing argument"),
    ],
)
def test_a_typing_error_is_answered_in_a_line(arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_version_is_told() -> None:
    assert call("--version").stdout.startswith("allmrec 0.")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from allmrec.cli.main import app; app(['--help'], standalone_mode=False);"
        "print(sorted({'torch', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"

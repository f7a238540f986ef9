"""The command line as the tests call it, and a folder in which data and a trained run stand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_world import TinyWorld
from typer.testing import CliRunner

from allmrec.cli.main import app

Allmrec = Callable[..., Any]


def call(*arguments: str | Path) -> Any:
    """Run a verb in this process; the result has `exit_code`, `stdout` and `stderr`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def fails(*arguments: str | Path) -> str:
    """Run a verb that must fail with our message alone; returns the message."""
    result = call(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    return str(result.stderr.removeprefix("error: ").strip())


@pytest.fixture(scope="session")
def workplace(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` prepared from the raw files, and `run` trained on it."""
    folder = tmp_path_factory.mktemp("workplace")
    made = call(
        "prepare",
        "table",
        "--interactions",
        tiny_world.interactions,
        "--items",
        tiny_world.items,
        "-o",
        folder / "data",
    )
    assert made.exit_code == 0, made.output
    trained = call("train", folder / "data", "-o", folder / "run", "--recipe", tiny_world.recipe)
    assert trained.exit_code == 0, trained.output
    (folder / "trained.txt").write_text(trained.stdout)
    return folder


@pytest.fixture
def copy(workplace: Path, tmp_path: Path) -> Path:
    """The run in a place of its own, for tests that change it."""
    return Path(shutil.copytree(workplace / "run", tmp_path / "run"))

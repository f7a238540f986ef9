"""`allmrec compare` of runs and reports: what does not compare is refused, and says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import call, fails


@pytest.fixture(scope="module")
def evaluated(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a report of its candidates and one of its catalogue."""
    run = shutil.copytree(workplace / "run", tmp_path_factory.mktemp("compare") / "run")
    for more in ([], ["--catalogue"]):
        assert call("evaluate", run, "--systems", "popularity,backbone", *more).exit_code == 0
    (run / "report-selected.json").rename(run / "report.json")
    return Path(run)


def test_a_report_with_itself_differs_by_nothing(evaluated: Path) -> None:
    for name in ("report.json", "report-catalogue.json"):
        found = call("compare", evaluated / name, evaluated / name)
        assert found.exit_code == 0
        assert "Their settings are the same." in found.stdout


def test_ranks_in_the_catalogue_and_among_candidates_do_not_compare(evaluated: Path) -> None:
    """They are of the same users and targets, whom one protocol names."""
    files = [evaluated / "report.json", evaluated / "report-catalogue.json"]
    for pair in (files, files[::-1]):
        message = fails("compare", *pair)
        assert "among 20" in message
        assert "among 36 " in message
        assert "Give two reports of candidates, or two of the whole catalogue." in message


def test_what_one_side_alone_has_is_named(evaluated: Path, tmp_path: Path) -> None:
    run = shutil.copytree(evaluated, tmp_path / "run")
    assert call("evaluate", run, "--systems", "backbone").exit_code == 0
    fewer = run / "report-selected.json"
    for pair in ((evaluated, fewer), (fewer, evaluated)):
        assert f"Only in {evaluated}: Popularity." in call("compare", *pair).stdout
    assert "Only in" not in call("compare", evaluated, evaluated).stdout


def test_what_is_no_report_is_named(evaluated: Path, workplace: Path, tmp_path: Path) -> None:
    assert fails("compare", evaluated, tmp_path / "nowhere").startswith(f"There is no {tmp_path / 'nowhere'};")
    message = fails("compare", evaluated, workplace / "data")
    assert message.startswith(f"{workplace / 'data'} has neither")
    assert "is no report of format" in fails("compare", evaluated, evaluated / "protocol.json")
    assert "There is no figure 'Hit@3'" in fails("compare", evaluated, evaluated, "--metric", "Hit@3")

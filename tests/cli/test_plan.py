"""`allmrec plan`: no word is cut at any width, a file has whole lines, JSON has every row."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console
from tests.cli.conftest import call, fails

from allmrec.cli import options, plan
from allmrec.planning import Size, plan_rows, read_rates

SIZE = ("--users", "1e8", "--items", "1e7")
ROWS = plan_rows(Size(users=1e8, items=1e7, interactions=1e9), read_rates())


def shown(monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    """What a terminal of a width shows."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)
    for module in (plan, options):
        monkeypatch.setattr(module, "CONSOLE", console)
    assert call("plan", *SIZE).exit_code == 0
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("option", ["--users", "--items", "--interactions", "--requests", "--tune-users"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf"])
def test_a_size_that_cannot_be_is_refused(option: str, value: str) -> None:
    sizes = {"--users": "100", "--items": "10", option: value}
    message = fails("plan", *(word for pair in sizes.items() for word in pair))
    assert re.search(r"expected (a finite number above 0|at most the 100 users)", message)


def test_more_users_than_there_are_cannot_be_learned_from() -> None:
    assert "expected at most the 5 users that there are" in fails(
        "plan", "--users", "5", "--items", "5", "--tune-users", "6"
    )
    assert call("plan", "--users", "5", "--items", "5").exit_code == 0


def test_a_file_has_a_whole_line_for_each_formula() -> None:
    result = call("plan", *SIZE)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for row in ROWS:
        assert f"  {row.part}: {row.what}" in lines
        assert f"    {row.formula}" in lines
    assert not any(line.startswith(("\u2502", "\u2503", "|")) for line in lines)


@pytest.mark.parametrize("width", [60, 80, 119])
def test_a_narrow_terminal_breaks_lines_between_words(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    text = shown(monkeypatch, width)
    assert "\u2502" not in text
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for row in ROWS:
        assert f"{row.part}: {' '.join(row.what.split())}" in words
        assert " ".join(row.formula.split()) in words


def test_a_wide_terminal_has_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 200)
    assert all(row.what in text for row in ROWS)
    assert "\u2502" in text


def test_json_has_every_row_and_its_rate() -> None:
    result = call("plan", *SIZE, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [(row["what"], row["formula"]) for row in found["rows"]] == [(row.what, row.formula) for row in ROWS]
    assert {row["rate"] for row in found["rows"] if row["rate"]} == set(found["rates"])
    assert found["size"]["users"] == 1e8

"""`allmrec plan`: no word is cut at any width, a file has whole lines, JSON has every row."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from tests.cli.conftest import call

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

"""docs/cli.md is what the command line says of itself."""

from __future__ import annotations

from tests.docs.conftest import ROOT, program


def test_the_page_is_what_the_command_line_says() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == program(ROOT / "docs" / "generate_cli.py").reference(), "run: python docs/generate_cli.py"


def test_the_page_has_every_verb() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for verb in ("attention", "demo", "doctor", "evaluate", "prepare table", "recommend", "train"):
        assert f"## `allmrec {verb}`" in text

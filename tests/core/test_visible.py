"""Texts are shown as they are, whatever they hold."""

from __future__ import annotations

import io
import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from allmrec.core.visible import as_html, as_markdown, as_markdown_code, as_terminal, json_text, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Amélie 2001 · 七人の侍", "Amélie 2001 · 七人の侍"),
        ("line\nbreak\tand tab", r"line\nbreak\tand tab"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("c1\x9b2J", r"c1\x9b2J"),
        ("half \ud800", r"half \ud800"),
        ("\U000e0041tag", r"\U000e0041tag"),
        ("family 👨\u200d👩\u200d👧, می\u200cخواهم", "family 👨\u200d👩\u200d👧, می\u200cخواهم"),
    ],
)
def test_what_is_not_seen_stands_as_its_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(codec=None)))
def test_nothing_that_moves_or_turns_is_left(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not [
        c
        for c in shown
        if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ]
    assert visible(shown) == shown
    assert visible(text, lines=True).replace("\n", r"\n") == shown


@given(st.text(st.characters(codec=None)))
def test_json_is_read_back_as_it_was(text: str) -> None:
    written = json_text({"title": text})
    assert json.loads(written) == {"title": text}
    assert visible(written, lines=True) == written


@pytest.mark.parametrize(
    "text", ["[/rec] A Film", "The [bold red]Bold[/] Film", "[link=http://evil]click[/link]", "\\[b]", "[", "a\\"]
)
def test_a_terminal_shows_markup_as_text(text: str) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    console.print(as_terminal(text))
    assert re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()) == f"{text}\n"  # type: ignore[attr-defined]  # it was made over a StringIO


def test_markdown_and_html_hold_no_markup() -> None:
    text = "a|b `c` <b>d</b> **e** [f](http://g) ![h](i) \n# j"
    assert as_markdown(text) == r"a\|b \`c\` \<b\>d\</b\> \*\*e\*\* [f\](http://g) ![h\](i) \\n\# j"
    assert as_markdown("+0.1 [-0.2, +0.3]") == "+0.1 [-0.2, +0.3]", "intervals stay readable"
    assert as_markdown_code("plain") == "`plain`"
    assert as_markdown_code("a ``b` c\n") == "``` a ``b` c\\n ```"
    assert as_html('<script>"x"</script>\u202e') == r"&lt;script&gt;&quot;x&quot;&lt;/script&gt;\u202e"

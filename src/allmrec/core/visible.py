"""Texts of a catalogue as they are shown: on a terminal, in Markdown, in HTML, in JSON.

A title may hold anything: control characters that move a terminal's cursor, marks that turn the direction of what follows,
markup of the program that shows it. Each is shown as what it is, an escape such as `\\x1b`, and does nothing.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

from rich.text import Text

__all__ = ["as_html", "as_markdown", "as_markdown_code", "as_terminal", "json_text", "visible"]

# Control characters, lone surrogates, line and paragraph separators, marks and overrides of direction, invisible operators,
# the byte order mark, annotations and tags. Joiners (U+200C, U+200D) stay: Persian, Hindi and emoji are written with them.
_UNSEEN = "\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
_UNSEEN += "\U000e0000-\U000e007f"
_HIDDEN = re.compile(f"[{_UNSEEN}]")
_HIDDEN_IN_LINES = re.compile(f"(?!\n)[{_UNSEEN}]")
_HIDDEN_IN_JSON = re.compile(f"(?![\x00-\x1f])[{_UNSEEN}]")

# What begins something in Markdown wherever it stands in a line. A bracket alone begins nothing, so that intervals can stay
# as they are.
_MARKDOWN = re.compile(r"[\\`*_<>|~$&#]|\](?=[(\[])")


def visible(text: str, lines: bool = False) -> str:
    """A text in which every character is seen: what moves, hides or turns others stands as its escape.

    Args:
        text: any text.
        lines: whether line breaks stay, as in a message of several lines.
    """
    return (_HIDDEN_IN_LINES if lines else _HIDDEN).sub(lambda found: _escape(found[0]), text)


def as_terminal(text: str, lines: bool = False) -> Text:
    """A text for rich, which takes square brackets in a plain string for markup."""
    return Text(visible(text, lines))


def as_markdown(text: str) -> str:
    """A text for a line or a table's cell of a Markdown document, in which none of it is markup."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(text))


def as_markdown_code(text: str) -> str:
    """A text as code in a Markdown document, between more backticks than it holds."""
    text = visible(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks, space = "`" * (longest + 1), " " if longest else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def as_html(text: str) -> str:
    """A text for an HTML page, in which none of it is a tag."""
    return html.escape(visible(text))


def json_text(value: Any) -> str:
    """Readable JSON; characters that are not seen stand as escapes, so that reading it gives the same texts."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return _HIDDEN_IN_JSON.sub(lambda found: _json_escape(found[0]), text)


def _json_escape(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else json.dumps(character)[1:-1]


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

"""A JSON array as the texts of its elements, so that one bad element is one bad record."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

__all__ = ["array_elements", "is_array"]

_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*(?:\{|\]|\Z)")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{},]', re.DOTALL)


def is_array(beginning: bytes) -> bool:
    """Whether a file that begins so is an array of objects, and not a file of lines of which the first is bad."""
    # In UTF-16 letters have zeros between them.
    return (
        _BEGINNING.match(beginning.replace(b"\0", b"").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")) is not None
    )


def array_elements(data: bytes) -> tuple[list[bytes], list[int]]:
    """The elements of an array as JSON texts, which need not be right, and the line on which each begins.

    Args:
        data: one JSON array in UTF-8.

    Raises:
        ValueError: what is there does not end as an array does.
    """
    elements: list[bytes]
    try:
        elements = [bytes(element) for element in msgspec.json.decode(data, type=list[msgspec.Raw])]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        elements = list(_elements(data))
    lines, line, place = [], 1, 0
    for element in elements:
        found = data.index(element, place)
        line += data.count(b"\n", place, found)
        place = found
        lines.append(line)
    return elements, lines


def _elements(data: bytes) -> Iterator[bytes]:
    """The same where some element is no JSON, or deeper than a parser goes: by counting brackets outside texts."""
    depth = 0
    start = 0
    for token in _TOKEN.finditer(data):
        mark = token.group()
        if mark in b"[{":
            depth += 1
            if depth == 1:
                start = token.end()
        elif mark in b"]}":
            depth -= 1
            if depth == 0:
                if mark != b"]" or data[token.end() :].strip():
                    raise ValueError(f"the array ends at byte {token.end():,}, and more follows")
                if last := data[start : token.start()].strip():
                    yield last
                return
        elif mark == b"," and depth == 1:
            yield data[start : token.start()].strip()
            start = token.end()
    raise ValueError("the array has no end; the file is cut off, or a bracket or quote is missing")

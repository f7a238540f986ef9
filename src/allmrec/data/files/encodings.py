"""What encoding and what delimiter a text file has, as far as its bytes tell; knows nothing of columns."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from itertools import islice

__all__ = [
    "DELIMITERS",
    "WHITE_SPACE",
    "by_mark",
    "guessed_delimiter",
    "guessed_encoding",
    "is_utf_8",
    "looks_like_json",
    "said_delimiter",
]

# The delimiter of "plain" files: any run of blanks and tabs.
WHITE_SPACE = ""

DELIMITERS = (",", ";", "\t", "|", "::")

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, whose mark it begins with.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_HIGH = re.compile(rb"[\x80-\xff]+")
_UTF_8_CHARACTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_LETTER = re.compile(rb"[A-Za-z]")
# Letters of cp1252 and latin-1 beyond ASCII, and the punctuation that word processors put into titles.
_WESTERN = re.compile(rb"[\xc0-\xff\x80\x85\x8a\x8c\x8e\x91-\x97\x99-\x9c\x9e\x9f\xa0-\xbf]+")
_NOT_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")

_JSON = re.compile(r"\s*\[?\s*\{\s*[\"'][^\"']*[\"']\s*:")
# A first line for spreadsheets.
_SAID = re.compile(rb"(?:\xef\xbb\xbf)?sep=([\x20-\x7e\t])(?=\r?\n)")

_LOOKED_AT = 1 << 16
_SAMPLE_LINES = 20
_HIGH_RUNS = 20_000


def is_utf_8(encoding: str) -> bool:
    """Whether a name means UTF-8."""
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")


def looks_like_json(text: str) -> bool:
    """Whether a text begins with an object of JSON or Python, or an array of them."""
    return _JSON.match(text) is not None


def said_delimiter(data: bytes) -> str | None:
    """The delimiter that a first line such as `sep=;` names, as spreadsheets write it; None where there is none."""
    said = _SAID.match(data)
    return None if said is None else said[1].decode()


def by_mark(data: bytes) -> str:
    """The encoding that a file's first bytes tell: by a byte order mark, or the zeros of UTF-16; else UTF-8."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    head = data[:4096]
    half = len(head) // 2
    if half > 1:
        # Text of Western letters has a zero in every second byte.
        if head[1::2].count(0) > 0.9 * half and head[::2].count(0) < 0.1 * half:
            return "utf-16-le"
        if head[::2].count(0) > 0.9 * half and head[1::2].count(0) < 0.1 * half:
            return "utf-16-be"
    return "utf-8"


def guessed_encoding(data: bytes) -> str:
    """UTF-8, or cp1252 (or latin-1) where the bytes are words of a Western language in that and not UTF-8.

    Bytes that are neither stay UTF-8, so that their lines are reported: a file of UTF-8 with some damage is no file in
    another encoding, and one in Cyrillic or Chinese needs a word from the user.
    """
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        pass
    western = odd = 0
    for run in islice(_HIGH.finditer(data), _HIGH_RUNS):
        if _UTF_8_CHARACTER.search(run.group()):
            return "utf-8"
        before, after = data[run.start() - 1 : run.start()] if run.start() else b"", data[run.end() : run.end() + 1]
        in_word = _LETTER.match(before) or _LETTER.match(after)
        if len(run.group()) > 2 or not _WESTERN.fullmatch(run.group()):
            odd += 1
        elif in_word:
            western += 1
    if western <= 10 * odd:
        return "utf-8"
    return "latin-1" if _NOT_CP1252.search(data) else "cp1252"


def guessed_delimiter(text: str, usual: str, quoting: bool) -> str:
    """What stands between the columns of a text's first lines.

    The usual delimiter of the format counts wherever it is in the first line. Otherwise it is the one that splits the
    first lines into the most columns, all of them into as many; the usual one where there is none.

    Args:
        text: the beginning of the file.
        usual: the delimiter that the format has where nothing is said, or WHITE_SPACE.
        quoting: whether double quotes enclose fields.
    """
    lines = _first_lines(text)
    if not lines or (usual != WHITE_SPACE and usual in lines[0]):
        return usual
    counts = {mark: _columns(lines, mark, quoting) for mark in DELIMITERS if mark != usual}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] > 1 else usual


def _first_lines(text: str) -> list[str]:
    """The first lines that are not empty, without one that may be cut off."""
    lines = [line for line in text[:_LOOKED_AT].splitlines(keepends=True) if line.strip()][: _SAMPLE_LINES + 1]
    if len(lines) > 1 and (len(lines) > _SAMPLE_LINES or (len(text) > _LOOKED_AT and not lines[-1].endswith("\n"))):
        lines.pop()
    return [line.rstrip("\r\n") for line in lines]


def _columns(lines: Sequence[str], delimiter: str, quoting: bool) -> int:
    """Into how many columns a delimiter splits most of some lines; 0 where they disagree."""
    if len(delimiter) == 1 and quoting:
        records = csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, skipinitialspace=True)
        counts = [len(fields) for fields in records if fields]
    else:
        counts = [line.count(delimiter) + 1 for line in lines]
    first = counts[0]
    # A bad line or two do not make another delimiter.
    return first if counts.count(first) >= 0.8 * len(counts) else 0

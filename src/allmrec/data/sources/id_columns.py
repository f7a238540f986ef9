"""Columns of ids, checked id by id: what holds for an id holds for all its rows, and there are far fewer ids than rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from allmrec.core.errors import DataError
from allmrec.data.files import shown
from allmrec.data.sources.base import Checks
from allmrec.data.sources.patterns import CONTROL, EXACT_DIGITS, INTEGRAL, MISSING, SCIENTIFIC, WHOLE

__all__ = ["id_column"]

# Ids that are looked at before all are.
_FIRST = 100


def id_column(checks: Checks, name: str, word: str) -> pa.DictionaryArray:
    """Ids without white space around them, each kept once. Missing ones and control characters are refused.

    Where all are numbers and some end with .0, as a column of whole numbers with gaps does in pandas, they are the whole
    numbers.

    Raises:
        DataError: such numbers have lost digits; or an id is bad where that fails.
    """
    ids = _encoded(checks.rows.columns[name])
    ids = _replaced(ids, pc.utf8_trim_whitespace(ids.dictionary))
    ids = _without_points(checks, ids, name)
    known = ids.dictionary
    for bad, kind, describe in (
        (
            pc.equal(known, ""),
            f"empty {word} id",
            lambda row: f"column {name!r} is empty; expected the id of the {word}",
        ),
        (
            _missing_ids(known),
            f"missing {word} id",
            lambda row: (
                f"column {name!r} holds {shown(ids[row].as_py())}, a missing value; expected the id of the {word}"
            ),
        ),
        (
            _control_characters(known),
            f"control character in {word} id",
            lambda row: f"column {name!r} holds {shown(ids[row].as_py())}; expected an id without control characters",
        ),
    ):
        if _mask(bad).any():
            checks.reject(_mask(bad)[ids.indices.to_numpy()], kind, describe)
    return ids


def _control_characters(known: pa.Array) -> pa.Array:
    """Which ids hold one."""
    # Most ids are printable ASCII, which is known in a tenth of the time.
    if pc.all(pc.ascii_is_printable(known)).as_py():
        return pa.array(np.zeros(len(known), dtype=bool))
    return pc.match_substring_regex(known, CONTROL)


def _missing_ids(known: pa.Array) -> pa.Array:
    """Which ids stand for a missing value."""
    words = pc.is_in(pc.utf8_lower(known), value_set=pa.array(MISSING, known.type))
    return pc.or_(words, pc.equal(known, "NA"))


def _without_points(checks: Checks, ids: pa.DictionaryArray, name: str) -> pa.DictionaryArray:
    """Ids such as 12.0 as 12, where all ids of the column are whole numbers and some are written so."""
    known = ids.dictionary
    if not pc.all(_numbers_or_missing(known.slice(0, _FIRST))).as_py():
        return ids
    rest = pc.or_(pc.equal(known, ""), _missing_ids(known))
    scientific = pc.match_substring_regex(known, SCIENTIFIC)
    if pc.any(scientific).as_py() and pc.all(_numbers_or_missing(known)).as_py():
        raise DataError(
            f"column {name!r} holds ids such as {known.filter(scientific)[0].as_py()}, as a spreadsheet or R shortens large "
            "numbers, so that different ids may have become one; write ids as text or whole numbers",
            checks.rows.path,
        )
    pointed = pc.match_substring_regex(known, INTEGRAL)
    if not pc.any(pointed).as_py():
        return ids
    if not pc.all(pc.or_(pc.match_substring_regex(known, WHOLE), rest)).as_py():
        return ids
    whole = pc.replace_substring_regex(known, r"\.0*$", "")
    path = checks.rows.path
    long = pc.and_(pointed, pc.greater(pc.utf8_length(whole), EXACT_DIGITS))
    if pc.any(long).as_py():
        raise DataError(
            f"column {name!r} holds ids such as {known.filter(long)[0].as_py()}, in which floating point has lost the last "
            "digits; write ids as text or whole numbers (Int64 in pandas)",
            path,
        )
    example = known.filter(pointed)[0].as_py()
    checks.problems.note(
        f"{path.name}: column {name!r} holds whole numbers written as {example}; read as {example.partition('.')[0]}"
    )
    return _replaced(ids, whole)


def _numbers_or_missing(known: pa.Array) -> pa.Array:
    """Which ids are whole numbers, perhaps with a point behind or as a spreadsheet writes them, or no ids."""
    numbers = pc.or_(pc.match_substring_regex(known, WHOLE), pc.match_substring_regex(known, SCIENTIFIC))
    return pc.or_(numbers, pc.or_(pc.equal(known, ""), _missing_ids(known)))


def _replaced(ids: pa.DictionaryArray, known: pa.Array) -> pa.DictionaryArray:
    """Ids that have become others, each kept once again."""
    return ids if known.equals(ids.dictionary) else _encoded(known.take(ids.indices))


def _encoded(ids: pa.Array) -> pa.DictionaryArray:
    """Each id once, and which one each row has; a missing id is an empty one."""
    if pa.types.is_dictionary(ids.type):
        if not ids.null_count:
            return ids
        ids = ids.dictionary_decode()
    return pc.fill_null(ids, "").dictionary_encode()


def _mask(array: pa.Array) -> Bool[np.ndarray, " rows"]:
    mask: Bool[np.ndarray, " rows"] = array.to_numpy(zero_copy_only=False).astype(bool)
    return mask

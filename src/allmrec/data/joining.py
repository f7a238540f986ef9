"""Whether the items of the interactions are those of the items file; knows ids and no texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from allmrec.core.errors import DataError
from allmrec.data.files import shown

__all__ = ["require_joined"]

# Below this share of items with a row, the two files hardly belong together as they are.
_LITTLE = 0.5
# So many more would join if ids were written alike: no chance.
_GAIN = 0.05

# How one id is written in two ways.
_ALIKE: dict[str, Callable[[str], str]] = {
    "upper and lower case": str.casefold,
    "accents written in two ways": lambda name: unicodedata.normalize("NFKC", name),
    "leading zeros": lambda name: name.lstrip("0") or "0",
    "a .0 at the end": lambda name: re.sub(r"\.0+$", "", name),
    "blanks within": lambda name: re.sub(r"\s+", "", name),
    "a mark or quotes around": lambda name: name.strip("'\"#:/ "),
    "a prefix of letters": lambda name: re.sub(r"^[A-Za-z]+[_\-:]?(?=\d)", "", name),
}


def require_joined(names: pa.Array, counts: Int[np.ndarray, " names"], rows: Sequence[str]) -> str | None:
    """Check that items which were interacted with have rows.

    Args:
        names: every item of the interactions once.
        counts: how many interactions each has.
        rows: every item of the items file once.

    Returns:
        What to warn of, where few have one, or some would if ids were written alike; else None.

    Raises:
        DataError: not a single one has.
    """
    has = pc.is_in(names, value_set=pa.array(rows, names.type)).to_numpy(zero_copy_only=False).astype(bool)
    here, there = int(counts[has].sum()), int(counts.sum())
    n_has, n_names = int(np.count_nonzero(has & (counts > 0))), int(np.count_nonzero(counts))
    if n_has == n_names:
        return None
    lacking = names.filter(pa.array(~has & (counts > 0))).to_pylist()
    reason, gain = _written_otherwise(lacking, set(rows))
    if n_has / n_names >= _LITTLE and gain < _GAIN * n_names:
        return None
    examples = f"found {_some(lacking)} in the interactions and {_some(rows)} in the items file"
    if not n_has:
        raise DataError(
            f"none of the {n_names:,} items of the interactions has a row in the items file: {examples}. {reason}Give the "
            "items of these interactions, name the right columns (--item, --items-item), or leave the items file out"
        )
    return (
        f"only {n_has:,} of the {n_names:,} items of the interactions ({n_has / n_names:.1%}, with "
        f"{here / there:.1%} of the interactions) have a row in the items file: {examples}. {reason}The others have no "
        "title"
    )


def _written_otherwise(lacking: Sequence[str], rows: Collection[str]) -> tuple[str, int]:
    """What would make the most of the items join that do not, as a sentence, and how many those are."""
    reason, most = "", 0
    for what, alike in _ALIKE.items():
        known = {alike(row): row for row in rows}
        joined = [(name, known[alike(name)]) for name in lacking if alike(name) in known]
        if len(joined) > most:
            most = len(joined)
            reason = f"{most:,} would join but for {what}, as {shown(joined[0][0])} and {shown(joined[0][1])}. "
    return reason, most


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:3]))

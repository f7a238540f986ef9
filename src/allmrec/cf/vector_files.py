"""Vectors with ids from files of other systems: `.npy`, Parquet, safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Float32
from safetensors import SafetensorError
from safetensors.numpy import load_file

from allmrec.core.errors import DataError
from allmrec.data.vocabulary import Vocabulary

__all__ = ["read_vectors"]

# Names in a message: enough to find the mistake, few enough to read.
_NAMED = 5


def read_vectors(
    path: Path,
    ids: Path | None,
    vocabulary: Vocabulary,
    word: str,
    unknown: Literal["fail", "leave_out"] = "fail",
    every: bool = True,
) -> tuple[Float32[np.ndarray, "rows d"], Bool[np.ndarray, " rows"], int]:
    """Read vectors and put them in the order of a vocabulary's numbers.

    Args:
        path: one of
            `.npy`: an array with one row a vector;
            `.safetensors`: one tensor with one row a vector;
            `.parquet`: a column of ids and either a column of lists or d columns of numbers, in their order. The ids
            are in the column `id`, `item_id` or `user_id` (by `word`), `item` or `user`.
        ids: for the first two a text file with the id of each row, one a line. None: rows are in the order of the
            vocabulary's numbers; where these begin at 1 there may be a row for the padding before them.
        vocabulary: ids and numbers of the data set.
        word: "item" or "user", for the messages.
        unknown: whether ids that the vocabulary does not hold are an error or left out.
        every: whether each id of the vocabulary must have a vector.

    Returns:
        The vectors by number (rows before the first number, and of ids without a vector, are 0), which numbers have one,
        and how many unknown ids were left out.

    Raises:
        DataError: no such file, another format or shape, ids that are missing, twice or unknown, or a number that is
            not finite; the message counts them and names the first.
    """
    names, values = _read(path, ids, word)
    if values.ndim != 2 or not values.shape[1] or values.dtype.kind not in "fiu":
        raise DataError(
            f"holds an array of shape {values.shape} and type {values.dtype}; expected numbers, one row for each "
            f"{word} and one column for each dimension",
            path,
        )
    if names is None:
        names, values = _in_order(values, vocabulary, word, path)
    if len(names) != len(values):
        raise DataError(f"holds {len(values)} vectors and {ids} {len(names)} ids; expected one id for each", path)
    _none(_twice(names), f"{word} ids stand twice", "give each one vector", ids or path)
    finite = np.isfinite(values).all(axis=1)
    _none([names[row] for row in np.flatnonzero(~finite)], f"{word}s have a NaN or infinite number", "mend them", path)
    numbers = [vocabulary.get(name) for name in names]
    strangers = [name for name, number in zip(names, numbers, strict=True) if number is None]
    if unknown == "fail":
        _none(
            strangers,
            f"{word} ids are not in the data set, which has {len(vocabulary)}",
            "compare how the ids are written, or have unknown ids left out",
            ids or path,
        )
    held = [row for row, number in enumerate(numbers) if number is not None]
    at = np.array([numbers[row] for row in held], dtype=np.int64)
    rows = vocabulary.first + len(vocabulary)
    vectors, has = np.zeros((rows, values.shape[1]), dtype=np.float32), np.zeros(rows, dtype=bool)
    vectors[at] = values[held]
    has[at] = True
    if every:
        lacking = [vocabulary.id(int(n)) for n in np.flatnonzero(~has) if n >= vocabulary.first]
        _none(lacking, f"{word}s of the data set have no vector", "give each one a vector", ids or path)
    return vectors, has, len(strangers)


def _read(path: Path, ids: Path | None, word: str) -> tuple[list[str] | None, np.ndarray]:
    """Ids, where there are any, and values."""
    suffix = path.suffix.lower()
    readers = {".npy": _read_npy, ".safetensors": _read_safetensors}
    if suffix not in (*readers, ".parquet"):
        raise DataError(f"has the ending {suffix!r}; expected .npy, .parquet or .safetensors", path)
    for file in (path, ids):
        if file is not None and not file.is_file():
            raise DataError("there is no such file", file)
    if suffix == ".parquet":
        if ids is not None:
            raise DataError(f"has its ids in a column; leave out the file of ids {ids}", path)
        return _read_parquet(path, word)
    if ids is None:
        return None, readers[suffix](path)
    try:
        return ids.read_text(encoding="utf-8-sig").splitlines(), readers[suffix](path)
    except UnicodeDecodeError as error:
        raise DataError(f"is no UTF-8 text ({error}); expected one id a line", ids) from error


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot be read as a NumPy array ({error}); write it with numpy.save", path) from error


def _read_safetensors(path: Path) -> np.ndarray:
    try:
        tensors = load_file(path)
    except (OSError, ValueError, SafetensorError, KeyError, TypeError) as error:
        raise DataError(f"cannot be read as safetensors ({error}); get the file again", path) from error
    if len(tensors) != 1:
        raise DataError(f"holds the tensors {sorted(tensors)}; expected a single one", path)
    return next(iter(tensors.values()))


def _read_parquet(path: Path, word: str) -> tuple[list[str], np.ndarray]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"this is no Parquet file, or a damaged one ({error}); get the file again", path) from error
    wanted = ("id", f"{word}_id", word)
    found = [name for name in table.column_names if name in wanted]
    if len(found) != 1:
        raise DataError(
            f"has the columns {_first(table.column_names)}; expected just one of {', '.join(wanted)} for the ids", path
        )
    names = table.column(found[0])
    if names.null_count:
        raise DataError(f"{names.null_count} ids are missing in column {found[0]!r}; give each row one", path)
    others = [name for name in table.column_names if name != found[0]]
    columns = [table.column(name) for name in others]
    if len(columns) == 1 and _is_list(columns[0].type):
        lists = columns[0].combine_chunks()
        rows = [np.asarray(row if row is not None else [], dtype=np.float64) for row in lists.to_pylist()]
        lengths = [len(row) for row in rows]
        usual = max(set(lengths), key=lengths.count) if lengths else 0
        wrong = [str(name) for name, size in zip(names.to_pylist(), lengths, strict=True) if size != usual]
        _none(wrong, f"{word}s have another number of dimensions than {usual}", "give all vectors one length", path)
        values = np.stack(rows) if rows else np.zeros((0, 0))
    elif columns and all(pa.types.is_floating(c.type) or pa.types.is_integer(c.type) for c in columns):
        values = np.stack([c.to_numpy() for c in columns], axis=1)
    else:
        kinds = [f"{name} ({column.type})" for name, column in zip(others, columns, strict=True)]
        raise DataError(
            f"beside the ids there are {_first(kinds) or 'no columns'}; expected one column of lists, or numbers only",
            path,
        )
    return [str(name) for name in names.to_pylist()], values


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _in_order(
    values: np.ndarray, vocabulary: Vocabulary, word: str, path: Path
) -> tuple[list[str], Float[np.ndarray, "rows d"]]:
    """Vectors that came without ids, in the order of the numbers; a row for the padding is left away."""
    allowed = {len(vocabulary), len(vocabulary) + vocabulary.first}
    if len(values) not in allowed:
        raise DataError(
            f"holds {len(values)} vectors without ids; expected {' or '.join(map(str, sorted(allowed)))}, one for each "
            f"{word} of the data set in the order of their numbers, or a file of ids",
            path,
        )
    return list(vocabulary), values[len(values) - len(vocabulary) :].astype(np.float64)


def _twice(names: Sequence[str]) -> list[str]:
    """Ids that stand more than once, each once."""
    unique, counts = np.unique(np.array(names, dtype=object), return_counts=True)
    return [str(name) for name in unique[counts > 1]]


def _none(names: Sequence[str], what: str, advice: str, path: Path) -> None:
    """Raise if there are any."""
    if names:
        raise DataError(f"{len(names)} {what}: {_first(names)}; {advice}", path)


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMED]))
    return shown + (", …" if len(names) > _NAMED else "")

"""Values of fields, as columns take them: texts, lists of texts, and numbers where all of a column are."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pyarrow as pa

from allmrec.data.files.parts import is_number
from allmrec.data.files.rows import Role, shown

__all__ = [
    "NUMBERS",
    "MixedError",
    "UnusableError",
    "array_of",
    "mixed_array",
    "readable",
    "uniform_array",
    "usable_value",
]

_KINDS: dict[Role, pa.DataType] = {
    "id": pa.large_string(),
    "number": pa.large_string(),
    "time": pa.large_string(),
    "text": pa.large_string(),
    "texts": pa.large_list(pa.large_string()),
}

NUMBERS: tuple[Role, ...] = ("number", "time")
"""Values of these may be numbers."""

# Categories of categories are two or three deep.
_DEEPEST = 50


class UnusableError(ValueError):
    """A line's or a value's trouble: its kind, then the message."""


def usable_value(value: object, name: str, role: Role) -> str | list[str] | None:
    """A field as text, as a list of texts where the role allows it, or None where it is missing.

    Raises:
        UnusableError: the role does not allow the value.
    """
    if value is None:
        return None
    if role == "texts":
        return _texts(value, name)
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnusableError("unexpected value", f"{name} is a {type(value).__name__}; expected text or a number")
    if role == "id" and isinstance(value, float) and not value.is_integer():
        raise UnusableError("unexpected value", f"{name} is {shown(value)}; expected text or a whole number")
    try:
        return repr(value)
    except ValueError:
        raise UnusableError("unexpected value", f"{name} is a number of thousands of digits") from None


class MixedError(ValueError):
    """Values are not all of one kind."""


def uniform_array(values: list[Any], role: Role) -> pa.Array:
    """An array of values that need no change: texts, or numbers in a "number" column.

    Raises:
        MixedError: some value needs a look.
    """
    try:
        if role in NUMBERS and values and isinstance(values[0], int | float):
            array = pa.array(values)  # told to expect integers, Arrow would cut off fractions without a word
            if is_number(array):
                return array
        if role != "texts":
            return pa.array(values, pa.large_string())
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        raise MixedError from None
    raise MixedError


def mixed_array(values: list[Any], name: str, role: Role) -> pa.Array:
    """An array of values of any kinds, as `usable_value` has them; of numbers where all are.

    Raises:
        UnusableError: the role does not allow a value.
    """
    if role in NUMBERS and all(isinstance(value, int | float) for value in values):
        with suppress(OverflowError):
            return pa.array(list(map(float, values)), pa.float64())
    return pa.array([usable_value(value, name, role) for value in values], _KINDS[role])


def array_of(values: list[Any], name: str, role: Role) -> pa.Array:
    """An array of values that are usable."""
    try:
        return uniform_array(values, role)
    except MixedError:
        return mixed_array(values, name, role)


def readable(text: str) -> str:
    """Text that can be written as UTF-8. An escape may hold half a character, as cut-off emoji do."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _texts(value: object, name: str, depth: int = 0) -> list[str]:
    """A text, or lists of texts however nested (older Amazon files nest categories), as one flat list."""
    if isinstance(value, str):
        return [readable(value)]
    if depth > _DEEPEST:
        raise UnusableError("nested too deeply", f"{name} holds lists more than {_DEEPEST} deep; expected one of texts")
    if isinstance(value, list):
        return [text for part in value if part is not None for text in _texts(part, name, depth + 1)]
    raise UnusableError("unexpected value", f"{name} holds a {type(value).__name__}; expected text or a list of texts")

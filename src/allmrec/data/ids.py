"""Ids as users give them (text or whole numbers, singly, in lists or in arrays) to ids as text."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from typing import Any, SupportsIndex, TypeAlias

import numpy as np

from allmrec.core.errors import ConfigError
from allmrec.data.files.rows import shown

__all__ = ["Id", "id_text", "id_texts", "plain_list"]

# A whole number means the same id as its decimal digits. NumPy's and torch's whole numbers are accepted too.
Id: TypeAlias = str | SupportsIndex


def id_text(value: object, kind: str = "item") -> str:
    """One id as text.

    Args:
        value: text, or a whole number of Python, NumPy or torch.
        kind: the word for it in messages.

    Raises:
        ConfigError: it is neither. 12.0 is refused as well: a column of whole numbers with gaps becomes floating point,
            and large ids lose digits in it.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, SupportsIndex) and not isinstance(value, bool | np.bool_):
        # torch's tensors and NumPy's arrays have the method whatever they hold.
        with suppress(TypeError):
            return str(operator.index(value))
    raise ConfigError(f"{shown(value)} is no {kind} id; expected text or a whole number.")


def id_texts(values: object, what: str = "The history", kind: str = "item") -> list[str]:
    """Several ids as text, in their order.

    Args:
        values: a list or tuple, a NumPy array, a torch tensor, a pandas or polars Series, an Arrow array.
        what: the word for all of them in messages.
        kind: the word for one of them in messages.

    Raises:
        ConfigError: it is one text, or has no order, or holds something that is no id.
    """
    return [id_text(value, kind) for value in plain_list(values, what)]


def plain_list(values: object, what: str) -> list[Any]:
    """The values of a list, array, tensor or series as plain Python values.

    Raises:
        ConfigError: it is one text or one value, or has no order.
    """
    if isinstance(values, str | bytes):
        raise ConfigError(
            f"{what} is no list: found the text {shown(values)}. Give a list such as ['a', 'b'], or split the text: "
            "text.split(',')."
        )
    if isinstance(values, Mapping | Set):
        raise ConfigError(f"{what} is no list: found a {type(values).__name__}, which has no order. Give a list.")
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(values, method):
            values = getattr(values, method)()
            break
    if not isinstance(values, Iterable):
        raise ConfigError(f"{what} is no list: found {shown(values)}. Give [{shown(values)}].")
    return list(values)

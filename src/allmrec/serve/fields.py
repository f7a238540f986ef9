"""Kinds of fields that requests share: ids, texts, lists of ids."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, WithJsonSchema

__all__ = ["IdText", "Ids", "In", "Text", "checked_id", "has_control", "without_nul"]

_LONGEST_ID = 512
_LONGEST_TEXT = 20_000


def has_control(text: str) -> bool:
    """Whether a text holds characters that no id has (prepared data has none either)."""
    return any(character < " " or "\x7f" <= character < "\xa0" for character in text)


def checked_id(value: Any) -> str:
    """An id as text; whole numbers are taken too."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"an id is a text or a whole number; found {type(value).__name__}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an id that is a number has 64 bits at the most")
    text = str(value)
    if not text or len(text) > _LONGEST_ID:
        raise ValueError(f"an id has 1 to {_LONGEST_ID} characters; found {len(text)}")
    if has_control(text):
        raise ValueError("an id holds no control characters, such as line ends")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("an id is text in Unicode; found half of a surrogate pair") from None
    return text


def without_nul(value: str) -> str:
    """A text, which databases cannot hold with a NUL character in it."""
    if "\x00" in value:
        raise ValueError("a text holds no NUL character")
    return value


IdText: TypeAlias = Annotated[
    str,
    BeforeValidator(checked_id),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": _LONGEST_ID},
                {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
            ]
        }
    ),
]
Text: TypeAlias = Annotated[StrictStr, Field(max_length=_LONGEST_TEXT), AfterValidator(without_nul)]
Ids: TypeAlias = Annotated[list[IdText], Field(max_length=10_000)]


class In(BaseModel):
    """A body, or a part of one, with no other fields than its own."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

"""The typed pieces that a prompt consists of before it is tokenised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Block", "ItemSlot", "Piece", "Text", "Title", "UserSlot"]


@dataclass(frozen=True)
class Text:
    """Words of the template, tokenised on their own."""

    text: str


@dataclass(frozen=True)
class Title:
    """An item's title, tokenised on its own, so that nothing in it can be mistaken for a slot."""

    item: int
    role: Literal["history", "candidate"]


@dataclass(frozen=True)
class UserSlot:
    """The place of the user's vector."""


@dataclass(frozen=True)
class ItemSlot:
    """The place of an item's vector."""

    item: int
    role: Literal["history", "candidate"]


@dataclass(frozen=True)
class Block:
    """One candidate of a parallel list: it sees what stands before the list and its own tokens, no other candidate."""

    pieces: tuple[Text | Title | ItemSlot, ...]


Piece = Text | Title | UserSlot | ItemSlot | Block

"""What is known of each item in words, and the template that makes one text of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import Field, field_validator

from allmrec.core.config import Config
from allmrec.core.errors import DataError

__all__ = ["Catalogue", "ItemTextTemplate"]

_PLACE = re.compile(r"\{(\w*)\}")
_PLACES = ("title", "description", "categories")


class ItemTextTemplate(Config):
    """Words around an item's title, description and categories, as data.

    Places are `{title}`, `{description}` and `{categories}`. They are filled in one pass, so a title that contains
    braces stays a title. The defaults are the paper's "Title: t, Description: d" (section 4.1); where a part is
    missing, the text is made of what there is.
    """

    full: str = Field("Title: {title}, Description: {description}", description="Where both are known.")
    title_only: str = Field("Title: {title}", description="Where there is no description.")
    description_only: str = Field("Description: {description}", description="Where there is no title.")
    neither: str = Field("", description="Where there is neither; empty, as nothing is known.")
    category_separator: str = Field(", ", description="Stands between two categories.")

    @field_validator("full", "title_only", "description_only", "neither")
    @classmethod
    def _known_places(cls, text: str) -> str:
        unknown = [place for place in _PLACE.findall(text) if place not in _PLACES]
        if unknown:
            raise ValueError(f"unknown place {{{unknown[0]}}}; known are {{title}}, {{description}} and {{categories}}")
        return text

    def render(self, title: str | None, description: str | None = None, categories: Sequence[str] = ()) -> str:
        """The text of one item."""
        if title is not None:
            template = self.title_only if description is None else self.full
        else:
            template = self.neither if description is None else self.description_only
        words = {
            "title": title or "",
            "description": description or "",
            "categories": self.category_separator.join(categories),
        }
        return _PLACE.sub(lambda place: words[place[1]], template)


@dataclass(frozen=True)
class Catalogue:
    """Titles, descriptions and categories by item number. Entry 0 is padding: None, None, ().

    A title or description that the source lacks is None, a fact that others can count, never an invented text.

    Raises:
        DataError: the three have different lengths, or entry 0 is not empty.
    """

    titles: tuple[str | None, ...]
    descriptions: tuple[str | None, ...]
    categories: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        lengths = {len(self.titles), len(self.descriptions), len(self.categories)}
        if len(lengths) > 1 or 0 in lengths:
            raise DataError(
                f"A catalogue has {len(self.titles)} titles, {len(self.descriptions)} descriptions and "
                f"{len(self.categories)} categories; expected as many of each, with one more than items for padding."
            )
        if (self.titles[0], self.descriptions[0], self.categories[0]) != (None, None, ()):
            raise DataError("Entry 0 of a catalogue is padding; expected it to be empty.")

    @classmethod
    def without_texts(cls, n_items: int) -> Catalogue:
        """A catalogue of items of which nothing is known."""
        return cls((None,) * (n_items + 1), (None,) * (n_items + 1), ((),) * (n_items + 1))

    def __len__(self) -> int:
        """How many items there are, without padding."""
        return len(self.titles) - 1

    def title(self, item: int) -> str | None:
        """The title of an item, or None where the source has none."""
        return self.titles[item]

    def description(self, item: int) -> str | None:
        """The description of an item, or None where the source has none."""
        return self.descriptions[item]

    def item_text(self, item: int, template: ItemTextTemplate | None = None) -> str:
        """One text of an item for a sentence encoder; empty for padding."""
        if item == 0:
            return ""
        return (template or ItemTextTemplate()).render(
            self.titles[item], self.descriptions[item], self.categories[item]
        )

    def item_texts(self, template: ItemTextTemplate | None = None) -> list[str]:
        """Texts of all items by item number; entry 0 is the empty padding."""
        template = template or ItemTextTemplate()
        return ["", *(self.item_text(item, template) for item in range(1, len(self.titles)))]

    @cached_property
    def missing_titles(self) -> int:
        """How many items have no title; padding is no item."""
        return self.titles.count(None) - 1

    @cached_property
    def missing_descriptions(self) -> int:
        """How many items have no description; padding is no item."""
        return self.descriptions.count(None) - 1

    def extended(
        self,
        titles: Sequence[str | None],
        descriptions: Sequence[str | None] | None = None,
        categories: Sequence[tuple[str, ...]] | None = None,
    ) -> Catalogue:
        """A catalogue with more items behind these, whose numbers stay."""
        return Catalogue(
            (*self.titles, *titles),
            (*self.descriptions, *(descriptions if descriptions is not None else (None,) * len(titles))),
            (*self.categories, *(categories if categories is not None else ((),) * len(titles))),
        )

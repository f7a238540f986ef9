"""Which interactions and items remain of what was read."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from allmrec.core.config import Config
from allmrec.data.filtering import CorePasses, Repeats

__all__ = ["PrepareConfig"]


class PrepareConfig(Config):
    """Which interactions and items remain. Steps run in this order: rating, repeats, core."""

    min_rating: float | None = Field(None, description="An interaction counts from this rating on, itself included.")
    rating_scope: Literal["interactions", "counts"] = Field(
        "interactions",
        description="interactions: lower ratings are dropped. counts: they only do not count toward the core, and stay "
        "with users and items that pass it, as in the released program.",
    )
    repeats: Repeats = Field("keep", description="Which interactions stay where a user meets an item again.")
    core: int = Field(0, ge=0, description="Users and items with fewer interactions are removed; 0 removes none.")
    user_core: int | None = Field(None, ge=0, description="The same for users only, where it differs.")
    item_core: int | None = Field(None, ge=0, description="The same for items only, where it differs.")
    core_passes: CorePasses = Field(
        "one", description="one: counted once, as in the released program. all: repeated until nothing changes."
    )
    keep_items_without_interactions: bool = Field(
        False, description="Whether items of the items file without a remaining interaction get a number."
    )
    clean_texts: bool = Field(True, description="Unescape HTML entities, drop HTML tags, fold white space.")

    @model_validator(mode="after")
    def _counts_need_a_core(self) -> Self:
        if self.rating_scope == "counts" and (self.min_rating is None or not max(self.cores())):
            raise ValueError("rating_scope='counts' does nothing without min_rating and core")
        return self

    def cores(self) -> tuple[int, int]:
        """The least interactions of a user and of an item."""
        return (
            self.core if self.user_core is None else self.user_core,
            self.core if self.item_core is None else self.item_core,
        )

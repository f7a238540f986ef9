"""Where a data set came from, what was left out on the way, and its size."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = ["Provenance", "SourceFile", "Step", "Summary"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceFile(_Record):
    """One raw file: its name without folders, because folders differ between machines, and its bytes' hash."""

    name: str
    sha256: str


class Step(_Record):
    """What remained after one step of preparing, and how much that step dropped.

    Attributes:
        name: what was done, in words.
        users, items, interactions: what remains. Items are those with interactions.
        dropped_users, dropped_items, dropped_interactions: the difference to the step before.
    """

    name: str
    users: int
    items: int
    interactions: int
    dropped_users: int = 0
    dropped_items: int = 0
    dropped_interactions: int = 0

    @classmethod
    def after(cls, before: Step | None, name: str, users: int, items: int, interactions: int) -> Self:
        """What a step left, and what it dropped of what the one before it had; None: nothing came before."""
        if before is None:
            return cls(name=name, users=users, items=items, interactions=interactions)
        return cls(
            name=name,
            users=users,
            items=items,
            interactions=interactions,
            dropped_users=before.users - users,
            dropped_items=before.items - items,
            dropped_interactions=before.interactions - interactions,
        )

    def __str__(self) -> str:
        """One line for people."""
        kept = f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions"
        if not (self.dropped_users or self.dropped_items or self.dropped_interactions):
            return f"{self.name}: {kept}"
        return (
            f"{self.name}: {kept} (dropped {self.dropped_users:,} users, {self.dropped_items:,} items, "
            f"{self.dropped_interactions:,} interactions)"
        )


class Provenance(_Record):
    """How a data set was made. It takes no part in the content hash: the same data from elsewhere is the same data.

    Attributes:
        source: the name of the source that read the files, or "memory".
        files: what was read.
        options: the configs of source and preparation, without paths.
        steps: what remained after each step, in order.
        skipped: unusable lines that were left out, counted by file and kind.
        skipped_lines: which lines those are, such as "3-7, 12", where the format has lines.
        columns: by file, what its columns were used for, such as the time.
        notes: what was recognised in the files without being told: encodings, delimiters, units.
        warnings: what is probably not as it should be.
        items_without_row: items that were interacted with and have no row in the items file; they are kept without texts.
        items_without_interactions: items in the items file that no remaining interaction mentions.
        kept_items_without_interactions: whether those are in the vocabulary (for cold items) or were dropped.
    """

    source: str = "memory"
    files: tuple[SourceFile, ...] = ()
    options: dict[str, JsonValue] = Field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    skipped: dict[str, int] = Field(default_factory=dict)
    skipped_lines: dict[str, str] = Field(default_factory=dict)
    columns: dict[str, dict[str, str]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    items_without_row: int = 0
    items_without_interactions: int = 0
    kept_items_without_interactions: bool = False


@dataclass(frozen=True)
class Summary:
    """The size of a data set, as the paper's Table 2 has it, with density and missing texts.

    Attributes:
        users, items, interactions: counts; items without padding.
        average_length: interactions per user.
        density: the share of all user-item pairs that interacted. Repeats count once.
        items_without_title, items_without_description: items whose text the source lacks.
    """

    users: int
    items: int
    interactions: int
    average_length: float
    density: float
    items_without_title: int
    items_without_description: int

    def as_dict(self) -> dict[str, Any]:
        """The same as a mapping, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions, "
            f"{self.average_length:.2f} per user, density {self.density:.3%}, {self.items_without_title:,} items "
            f"without a title, {self.items_without_description:,} without a description"
        )

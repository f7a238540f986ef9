"""Item to joint vector, from CF or from text: what stage 1 hands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from allmrec.core.errors import ArtifactError

__all__ = ["JointItemTable"]


@dataclass(frozen=True)
class JointItemTable:
    """Both joint vectors of every item, and which of the two counts. Row = item number; row 0 pads and is 0.

    An item without a text has no text vector of its own. Its row holds the mean of those that have one, the only
    value that says nothing in particular, and `has_text` is false for it. An item added later has no CF vector:
    its row of `cf` is 0, `has_cf` is false, and its text vector counts whatever source is asked for.

    Attributes:
        cf: `e = f_I(E)`.
        text: `q = f_T(Q)`.
        has_cf: rows whose CF vector means something.
        has_text: rows whose text vector comes from a text.
        from_text: rows for which `vectors` gives the text vector.
    """

    cf: Float[Tensor, "rows joint"]
    text: Float[Tensor, "rows joint"]
    has_cf: Bool[Tensor, " rows"]
    has_text: Bool[Tensor, " rows"]
    from_text: Bool[Tensor, " rows"]

    @classmethod
    def of(
        cls, cf: Float[Tensor, "rows joint"], text: Float[Tensor, "rows joint"], has_text: Bool[Tensor, " rows"]
    ) -> JointItemTable:
        """A table of items that all have a CF vector, which counts.

        Args:
            cf: one row per item number.
            text: one row per item number; rows without a text are filled with the mean of the others.
            has_text: which rows have a text.
        """
        real = torch.ones_like(has_text)
        real[0] = False
        has_text = has_text & real
        table = cls(
            cf=cf.detach() * real[:, None],
            text=text.detach(),
            has_cf=real,
            has_text=has_text,
            from_text=torch.zeros_like(has_text),
        )
        filled = torch.where(has_text[:, None], table.text, table.mean_text)
        return replace(table, text=filled * real[:, None])

    @property
    def n_items(self) -> int:
        """Number of items, the padding not counted."""
        return len(self.cf) - 1

    @property
    def mean_text(self) -> Float[Tensor, " joint"]:
        """Mean of the text vectors that come from a text; 0 if there is none."""
        known = self.text[self.has_text]
        return known.mean(0) if len(known) else self.text.new_zeros(self.text.shape[1])

    def vectors(self, first: int = 0) -> Float[Tensor, "rows joint"]:
        """The vector that counts, for each item from the number `first` on."""
        return torch.where(self.from_text[first:, None], self.text[first:], self.cf[first:])

    def with_source(self, source: Literal["cf", "text"] | Bool[Tensor, " rows"]) -> JointItemTable:
        """The same table with other vectors counting.

        Args:
            source: "cf", "text", or true where the text vector is to count (e.g. items with few interactions). An item
                without a CF vector counts by its text in any case.

        Raises:
            ValueError: a mask has not one value per row.
        """
        if isinstance(source, str):
            wanted = torch.full_like(self.from_text, source == "text")
        elif len(source) == len(self.cf):
            wanted = torch.as_tensor(source, dtype=torch.bool, device=self.cf.device)
        else:
            raise ValueError(f"the mask has {len(source)} values; expected one per row, {len(self.cf)}.")
        from_text = wanted | ~self.has_cf
        from_text[0] = False
        return replace(self, from_text=from_text)

    def with_text_rows(
        self, text: Float[Tensor, "new joint"], has_text: Bool[Tensor, " new"] | None = None
    ) -> JointItemTable:
        """The same table with rows for new items behind the others, from text alone.

        Args:
            text: `q` of each new item.
            has_text: which of them have a text; all, if not given. The others get the mean of this table's texts.
        """
        if has_text is None:
            has_text = torch.ones(len(text), dtype=torch.bool, device=self.cf.device)
        filled = text.detach().to(self.text)
        if not bool(has_text.all()):  # the mean reads the whole table
            filled = torch.where(has_text[:, None], filled, self.mean_text)
        none = torch.zeros_like(has_text)
        return JointItemTable(
            cf=torch.cat([self.cf, torch.zeros_like(filled)]),
            text=torch.cat([self.text, filled]),
            has_cf=torch.cat([self.has_cf, none]),
            has_text=torch.cat([self.has_text, has_text]),
            from_text=torch.cat([self.from_text, ~none]),
        )

    def to(self, device: torch.device | str) -> JointItemTable:
        """The same table on another device."""
        return JointItemTable(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """All fields by name, as they are stored."""
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> JointItemTable:
        """The table that `tensors` gave.

        Raises:
            ArtifactError: a field is missing or superfluous, or the rows do not agree.
        """
        names = set(cls.__dataclass_fields__)
        if set(tensors) != names:
            raise ArtifactError(
                f"A joint item table holds {sorted(names)}; found {sorted(tensors)}. Run stage 1 again."
            )
        if len({len(tensor) for tensor in tensors.values()}) != 1 or tensors["cf"].shape != tensors["text"].shape:
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            raise ArtifactError(f"The joint item table's rows do not agree: {shapes}. Run stage 1 again.")
        return cls(**tensors)

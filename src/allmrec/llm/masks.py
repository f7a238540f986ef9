"""Which places each layer's attention may see, as transformers takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Locality", "additive_mask"]


def additive_mask(
    visible: Bool[Tensor, "batch tokens seen"], embeddings: Float[Tensor, "batch _tokens _dim"]
) -> Float[Tensor, "batch 1 tokens seen"]:
    """What attention adds to its scores: 0 where a place is seen, the lowest number where it is not."""
    hidden = ~visible[:, None].to(embeddings.device)
    mask = torch.zeros(hidden.shape, dtype=embeddings.dtype, device=embeddings.device)
    return mask.masked_fill_(hidden, torch.finfo(embeddings.dtype).min)


@dataclass(frozen=True)
class Locality:
    """How far the layers of a model look back.

    Distances are counted in positions. On a branch of a tree these are what stands on the branch, however many places of other
    branches lie between.

    Attributes:
        kinds: names of the kinds of layers; none: the model makes no difference between its layers.
        window: places that a layer with a sliding window sees, itself among them; none: there is none.
        chunk: places of a chunk, in layers that see their own chunk only; none: there are none.
    """

    kinds: tuple[str, ...] = ()
    window: int | None = None
    chunk: int | None = None

    @classmethod
    def of(cls, config: Any) -> Locality:
        """What a text model's configuration says."""
        kinds = tuple(dict.fromkeys(getattr(config, "layer_types", None) or ()))
        window, chunk = (_positive(getattr(config, name, None)) for name in ("sliding_window", "attention_chunk_size"))
        if kinds and not any("sliding" in kind for kind in kinds):
            window = None
        if not any("chunked" in kind for kind in kinds):
            chunk = None
        return cls(kinds, window, chunk)

    @property
    def is_local(self) -> bool:
        """Whether some layer does not look back to the beginning."""
        return self.window is not None or self.chunk is not None

    def mask(
        self,
        visible: Bool[Tensor, "batch tokens seen"],
        positions: Int[Tensor, "batch tokens"],
        seen_positions: Int[Tensor, "batch seen"],
        embeddings: Float[Tensor, "batch tokens dim"],
        by_kind: bool,
    ) -> Tensor | dict[str, Tensor]:
        """What a model's body takes as `attention_mask`.

        Args:
            visible: which places (last axis) each place sees as far as it looks back.
            positions: the position number of each place.
            seen_positions: the same of each place that may be seen.
            embeddings: their precision and device are the mask's.
            by_kind: a mask for each kind of layer; else one for all, within the window where there is one.
        """
        if not by_kind:
            kind = "sliding" if self.window is not None else "full"
            return additive_mask(self._near(kind, visible, positions, seen_positions), embeddings)
        made: dict[str, Tensor] = {}
        for kind in self.kinds or ("full_attention",):
            made[kind] = additive_mask(self._near(kind, visible, positions, seen_positions), embeddings)
        return made

    def _near(self, kind: str, visible: Tensor, positions: Tensor, seen_positions: Tensor) -> Tensor:
        """What a layer of this kind sees of it."""
        rows, columns = positions[:, :, None], seen_positions[:, None, :]
        if "sliding" in kind and self.window is not None:
            return visible & (rows - columns < self.window).to(visible.device)
        if "chunked" in kind and self.chunk is not None:
            return visible & (rows // self.chunk == columns // self.chunk).to(visible.device)
        return visible


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

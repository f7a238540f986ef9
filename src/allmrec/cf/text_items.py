"""Item vectors made of frozen text vectors, in the place of a table of items."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.cf.backbone import SequenceBackbone, row_count, with_parameters
from allmrec.cf.whitening import Whitening
from allmrec.core.errors import ConfigError

__all__ = [
    "ITEM_SOURCE",
    "TEXT_TABLES",
    "ItemSource",
    "TextItems",
    "kept_items",
    "loaded",
    "of_texts",
    "prepared",
    "with_new_items",
]

# Where a backbone keeps the vectors of texts.
TEXT_TABLES = ("item_emb.vectors", "item_emb.centre", "item_emb.matrix")

ItemSource = Literal["ids", "texts"]
ITEM_SOURCE = (
    "What item vectors are: ids: a table that is trained. texts: frozen vectors of the items' texts through a small network "
    "(ours, after EnsRec's text model)."
)

B = TypeVar("B", bound=SequenceBackbone)


def prepared(
    vectors: Float[Tensor, "rows texts"], whitening: Whitening | None = None
) -> tuple[Float[Tensor, "rows kept"], Whitening]:
    """Text vectors as a model reads them: whitened, each of length 1, those of items without a text 0.

    Vectors of a sentence encoder or a language model share a few large directions, which say nothing of an item.

    Args:
        vectors: zeros where there is no text.
        whitening: that of the catalogue; none: fitted on these.

    Returns:
        The vectors, and the whitening.

    Raises:
        DataError: no item has a text.
    """
    present = vectors.abs().sum(dim=1) > 0
    if whitening is None:
        whitening = Whitening.fit(vectors, present)
    return F.normalize(whitening.of(vectors, present), dim=1), whitening


class TextItems(nn.Module):
    """Stands where an embedding of items was: vectors of items are a small network over their frozen text vectors.

        E_i = W₂ dropout(GELU(W₁ t_i + b₁)) + b₂

    Items without a text share the network's value at 0.

    Args:
        vectors: t, one row an item number, row 0 the padding's; see `prepared`.
        whitening: what they were whitened by.
        dim: length of the vectors that come out.
        dropout: between the layers.
    """

    vectors: Tensor
    centre: Tensor
    matrix: Tensor

    def __init__(
        self, vectors: Float[Tensor, "rows kept"], whitening: Whitening, dim: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors.clone())
        self.register_buffer("centre", whitening.centre.clone())
        self.register_buffer("matrix", whitening.matrix.clone())
        self.network = nn.Sequential(
            nn.Linear(vectors.shape[1], 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )
        self._kept: Tensor | None = None
        # Where each item number stands in what is kept; none: at its own number.
        self._place: Tensor | None = None

    def extended(self, vectors: Float[Tensor, "new texts"]) -> TextItems:
        """The same with items behind the others, from the untouched vectors of their texts."""
        other = copy.copy(self)
        other._buffers = dict(self._buffers)
        new, _ = prepared(vectors.to(self.vectors), Whitening(self.centre, self.matrix))
        other.register_buffer("vectors", torch.cat([self.vectors, new]))
        other._kept = other._place = None
        if self._kept is not None and self._place is None and not torch.is_grad_enabled():
            other._kept = torch.cat([self._kept, self.network(new)])
        return other

    @property
    def weight(self) -> Float[Tensor, "rows d"]:
        """Every item's vector; row 0 is zero."""
        if self._kept is not None and self._place is None:
            return self._kept
        found = self._made(torch.arange(len(self.vectors), device=self.vectors.device))
        if not self.training and not torch.is_grad_enabled():
            self._kept = found
        return found

    def _made(self, items: Int[Tensor, " items"]) -> Float[Tensor, "items d"]:
        found: Tensor = self.network(self.vectors[items])
        return found * (items > 0)[:, None]

    def forward(self, items: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d"]:
        """Vectors of some items; within `kept` of some, of these alone."""
        if self._kept is not None and self._place is not None:
            return F.embedding(self._place[items], self._kept)
        return F.embedding(items, self.weight)

    def train(self, mode: bool = True) -> TextItems:
        """Forget vectors of earlier weights; see `torch.nn.Module.train`."""
        self._kept = self._place = None
        super().train(mode)
        return self

    @contextmanager
    def kept(self, items: Int[Tensor, " items"] | None = None) -> Iterator[None]:
        """Compute vectors once for the length of the block, gradients included: of some items, ascending, or of all."""
        self._kept = self._place = None
        if items is None:
            self._kept = self.weight
        else:
            self._place = torch.zeros(len(self.vectors), dtype=torch.long, device=items.device)
            self._place[items] = torch.arange(len(items), device=items.device)
            self._kept = self._made(items)
        try:
            yield
        finally:
            self._kept = self._place = None


def of_texts(backbone: B, vectors: Float[Tensor, "rows texts"], earlier: Mapping[str, Tensor] | None = None) -> B:
    """The same backbone with `TextItems` in the place of its table of items; its first weights come from torch's stream.

    Args:
        backbone: an untrained one.
        vectors: untouched vectors of the items' texts, one row an item number; zeros where there is none.
        earlier: parameters of a trained one whose weights will be taken over. Its whitening comes first: fitted again on other
            texts, directions would turn, and the network's weights mean nothing.
    """
    _, centre, matrix = TEXT_TABLES
    known = earlier is not None and centre in earlier and matrix in earlier
    whitening = Whitening(earlier[centre].to(vectors), earlier[matrix].to(vectors)) if earlier and known else None
    backbone.item_emb = TextItems(*prepared(vectors, whitening), backbone.dim)
    return backbone


def with_new_items(backbone: B, vectors: Float[Tensor, "new texts"]) -> B:
    """A trained backbone on texts that knows items behind the others, from untouched vectors of their texts.

    The backbone that came in stays as it is; weights are shared.
    """
    items = backbone.item_emb
    if not isinstance(items, TextItems):
        raise ConfigError("This model's items are no texts, so new ones have no vectors.")
    other = copy.copy(backbone)
    other._modules = dict(backbone._modules)
    other.item_emb = items.extended(vectors)
    other.n_items = backbone.n_items + len(vectors)
    return other


def loaded(kind: Callable[[int, Any], B], arrays: Mapping[str, np.ndarray | Tensor], config: Any) -> B:
    """A backbone of its trained weights, whichever its items are made of.

    Args:
        kind: makes an untrained one from the number of items and the settings.
        arrays: parameter name to values.
        config: the settings that it was trained with.

    Raises:
        ArtifactError: a parameter is missing, superfluous or of another shape than the settings ask for.
    """
    name = getattr(kind, "__name__", "backbone")
    table = TEXT_TABLES[0] if config.items == "texts" else "item_emb.weight"
    n_items = row_count(arrays, table, name) - 1

    def made() -> B:
        model = kind(n_items, config)
        if config.items == "texts":
            texts, matrix = row_count(arrays, TEXT_TABLES[1], name), arrays.get(TEXT_TABLES[2])
            kept = 0 if matrix is None or matrix.ndim != 2 else matrix.shape[1]
            none = Whitening(torch.zeros(texts), torch.zeros(texts, kept))
            model.item_emb = TextItems(torch.zeros(n_items + 1, kept), none, model.dim)
        return model

    return with_parameters(made, arrays, f"{name} of {config!r}")


@contextmanager
def kept_items(backbone: SequenceBackbone, items: Int[Tensor, " items"] | None = None) -> Iterator[None]:
    """Where a backbone's items are made of texts, make them once for the length of the block: some, ascending, or all."""
    table = getattr(backbone, "item_emb", None)
    if isinstance(table, TextItems):
        with table.kept(items):
            yield
    else:
        yield

"""The text half of a trained stage 1, for items that come later; knows neither CF nor language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from allmrec.alignment.align import joint_text_vectors
from allmrec.alignment.autoencoders import Alignment
from allmrec.data.catalogue import ItemTextTemplate
from allmrec.text.bank import TextBank
from allmrec.text.encoder import SentenceEncoder

__all__ = ["TextSide", "TextVectors"]

# Titles, descriptions and categories to a vector each, and which items have a text.
TextVectors = Callable[
    [Sequence[str | None], Sequence[str | None], Sequence[Sequence[str]]],
    tuple[Float[Tensor, "items dim"], Bool[Tensor, " items"]],
]


class TextSide:
    """Titles and descriptions to joint vectors `q = f_T(Q)` (paper, section 3.1).

    Args:
        alignment: stage 1 as trained, the encoder's tuned layers included.
        encoder: the same encoder that is inside the alignment.
        template: makes one text of an item's parts.
        untouched: texts of items to vectors of what nobody tuned, as the run keeps them of its catalogue.
    """

    def __init__(
        self,
        alignment: Alignment,
        encoder: SentenceEncoder,
        template: ItemTextTemplate,
        untouched: TextVectors,
    ) -> None:
        self._alignment, self._encoder, self._template = alignment.eval(), encoder, template
        self._untouched = untouched

    @torch.no_grad()
    def vectors(
        self,
        titles: Sequence[str | None],
        descriptions: Sequence[str | None],
        categories: Sequence[Sequence[str]],
    ) -> tuple[Float[Tensor, "items joint"], Bool[Tensor, " items"]]:
        """`q` of each item, and which of them have a text at all; the rows of the others mean nothing."""
        texts = [self._template.render(*parts) or None for parts in zip(titles, descriptions, categories, strict=True)]
        device = next(self._alignment.parameters()).device
        q, has_text = joint_text_vectors(self._alignment, TextBank(self._encoder, texts, device=device))
        return q.cpu(), has_text.cpu()

    def untouched_vectors(
        self,
        titles: Sequence[str | None],
        descriptions: Sequence[str | None],
        categories: Sequence[Sequence[str]],
    ) -> tuple[Float[Tensor, "items dim"], Bool[Tensor, " items"]]:
        """Each item's text vector by the frozen source that the run's own come from, and which items have a text."""
        return self._untouched(titles, descriptions, categories)

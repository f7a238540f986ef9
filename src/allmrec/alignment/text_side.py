"""The text half of a trained stage 1, for items that come later; knows neither CF nor language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from allmrec.alignment.align import joint_text_vectors
from allmrec.alignment.autoencoders import Alignment
from allmrec.data.catalogue import ItemTextTemplate
from allmrec.text.bank import TextBank
from allmrec.text.encoder import SentenceEncoder

__all__ = ["TextSide"]


class TextSide:
    """Titles and descriptions to joint vectors `q = f_T(Q)` (paper, section 3.1).

    Args:
        alignment: stage 1 as trained, the encoder's tuned layers included.
        encoder: the same encoder that is inside the alignment.
        template: makes one text of an item's parts.
        untouched: loads the encoder as it was before stage 1 tuned any of it.
    """

    def __init__(
        self,
        alignment: Alignment,
        encoder: SentenceEncoder,
        template: ItemTextTemplate,
        untouched: Callable[[], SentenceEncoder],
    ) -> None:
        self._alignment, self._encoder, self._template = alignment.eval(), encoder, template
        self._untouched = cache(untouched)

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

    def title_vectors(self, titles: Sequence[str | None]) -> tuple[Float[Tensor, "items dim"], Bool[Tensor, " items"]]:
        """The untouched encoder's vector of each title, and which items have one."""
        bank = TextBank(self._untouched(), titles, device=next(self._alignment.parameters()).device)
        return bank.all_vectors().cpu(), torch.from_numpy(bank.present)

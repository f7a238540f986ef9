"""Puts vectors into the slots of tokenised prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.tokenising import TokenisedPrompt

__all__ = ["SplicedPrompts", "splice"]


@dataclass(frozen=True)
class SplicedPrompts:
    """Prompts as embeddings, users and items in their slots, padded on the right.

    Attributes:
        embeddings: what the language model reads.
        positions: the position number of each place; padding goes on counting and is seen by nothing real.
        lengths: real places of each row without the answer; the last one is where the answer begins.
        visible: which places (last axis) each place sees; None: all before it and itself.
        user_at: place of the user slot, -1 where there is none.
        history_at: whether each place is a slot of the history.
        candidates_at: places of the candidates' slots.
    """

    embeddings: Float[Tensor, "batch tokens dim"]
    positions: Int[Tensor, "batch tokens"]
    lengths: Int[Tensor, " batch"]
    user_at: Int[Tensor, " batch"]
    history_at: Bool[Tensor, "batch tokens"]
    candidates_at: Int[Tensor, "batch candidates"]
    visible: Bool[Tensor, "batch tokens tokens"] | None = None

    @property
    def ends(self) -> Int[Tensor, " batch"]:
        """The position number of each row's last real place."""
        return self.positions.gather(1, self.lengths[:, None] - 1)[:, 0]

    def rows(self, numbers: Int[Tensor, " kept"]) -> SplicedPrompts:
        """Some of the prompts, in this order."""
        return SplicedPrompts(
            embeddings=self.embeddings[numbers],
            positions=self.positions[numbers],
            lengths=self.lengths[numbers],
            user_at=self.user_at[numbers],
            history_at=self.history_at[numbers],
            candidates_at=self.candidates_at[numbers],
            visible=None if self.visible is None else self.visible[numbers],
        )

    def mean_over_history(self, hidden: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch dim"]:
        """Mean of hidden states over the history's slots; 0 where there are none."""
        weights = self.history_at.to(hidden) / self.history_at.sum(dim=1, keepdim=True).clamp_min(1)
        return torch.einsum("bt,btw->bw", weights, hidden)


def splice(
    prompts: Sequence[TokenisedPrompt],
    lm: LanguageModel,
    users: Float[Tensor, "batch dim"] | None,
    items: Float[Tensor, "slots dim"] | None,
    extra: Sequence[Sequence[int]] | None = None,
) -> SplicedPrompts:
    """Put vectors into slots.

    Args:
        prompts: as many as a batch has; all with the same number of candidate slots.
        lm: embeds the tokens.
        users: one vector a prompt; none where the template has no user slot.
        items: one vector a slot, row after row, in each row the history's slots and then the candidates'.
        extra: token ids to follow each prompt, the answers.

    Returns:
        The prompts as embeddings. `lengths` counts the prompt alone, without `extra`.
    """
    tails = [np.asarray(tail, dtype=np.int64) for tail in extra] if extra is not None else None
    rows = [p.ids if tails is None else np.concatenate([p.ids, tails[n]]) for n, p in enumerate(prompts)]
    length = max(len(row) for row in rows)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    history_at = np.zeros((len(rows), length), dtype=bool)
    for number, prompt in enumerate(prompts):
        history_at[number, prompt.history_at] = True
    device = lm.device
    embeddings = lm.embed(torch.from_numpy(ids))
    user_at = torch.tensor([p.user_at for p in prompts], device=device)
    if users is not None:
        row_numbers = torch.arange(len(prompts), device=device)
        embeddings = embeddings.index_put((row_numbers, user_at), users.to(embeddings.dtype))
    if items is not None:
        places = [np.concatenate([p.history_at, p.candidates_at]) for p in prompts]
        rows_at = torch.from_numpy(np.repeat(np.arange(len(prompts)), [len(p) for p in places])).to(device)
        columns = torch.from_numpy(np.concatenate(places)).to(device)
        embeddings = embeddings.index_put((rows_at, columns), items.to(embeddings.dtype))
    positions = np.stack([_continued(prompt.positions, length) for prompt in prompts])
    return SplicedPrompts(
        embeddings=embeddings,
        positions=torch.from_numpy(positions).to(device),
        lengths=torch.tensor([len(p) for p in prompts], device=device),
        user_at=user_at,
        history_at=torch.from_numpy(history_at).to(device),
        candidates_at=_stacked(prompts).to(device),
        visible=_visible(prompts, length).to(device) if any(p.is_parallel for p in prompts) else None,
    )


def _continued(positions: Int[np.ndarray, " tokens"], length: int) -> Int[np.ndarray, " length"]:
    """Positions of a prompt and of whatever follows it."""
    return np.concatenate([positions, positions[-1] + 1 + np.arange(length - len(positions))])


def _visible(prompts: Sequence[TokenisedPrompt], length: int) -> Bool[Tensor, "batch length length"]:
    """Which places see which; what follows a prompt sees all of it and what stands between."""
    sees = np.broadcast_to(np.tri(length, dtype=bool), (len(prompts), length, length)).copy()
    for number, prompt in enumerate(prompts):
        sees[number, : len(prompt), : len(prompt)] = prompt.visible()
    return torch.from_numpy(sees)


def _stacked(prompts: Sequence[TokenisedPrompt]) -> Int[Tensor, "batch candidates"]:
    counts = {len(p.candidates_at) for p in prompts}
    if len(counts) > 1:
        raise ValueError(f"prompts of one batch have {sorted(counts)} candidate slots; they must have the same number")
    return torch.from_numpy(np.stack([p.candidates_at for p in prompts]))

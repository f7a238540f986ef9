"""The title loss of a batch whose candidates are read in parallel and before any user: an item is read once for every user.

The layout is `[before] [item] [item] … [tail of a user] [tail of another] …`, all items of a batch and all its users in one row. The
losses are those of the prompts one by one. Scoring has the same layout in another way (`item_blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.tokenising import PromptBuilder, TokenisedPrompt

__all__ = ["PromptParts", "Vectors", "parts_of", "shared_title_loss"]

Vectors = Callable[[Int[np.ndarray, " items"]], Float[Tensor, "items dim"]]


@dataclass(frozen=True)
class PromptParts:
    """A shared prompt taken apart.

    Attributes:
        front: tokens before the tail: what stands before the list, and the list.
        before: tokens before the list.
        tail_ids, tail_positions: what follows the list, the user slot in it.
        user_at: the user slot's place in the tail, -1 where it has none.
    """

    front: int
    before: int
    tail_ids: Int[np.ndarray, " tail"]
    tail_positions: Int[np.ndarray, " tail"]
    user_at: int


def parts_of(prompt: TokenisedPrompt) -> PromptParts:
    """Take a prompt of a shared template apart."""
    inside = np.flatnonzero(prompt.blocks >= 0)
    before, front = int(inside[0]), int(inside[-1]) + 1
    user_at = prompt.user_at - front if prompt.user_at >= 0 else -1
    return PromptParts(front, before, prompt.ids[front:], prompt.positions[front:], user_at)


def shared_title_loss(
    lm: LanguageModel,
    builder: PromptBuilder,
    users: Float[Tensor, "batch dim"] | None,
    vectors: Vectors | None,
    candidates: Sequence[Int[np.ndarray, " _candidates"]],
    targets: Int[np.ndarray, " batch"],
) -> Float[Tensor, ""]:
    """The paper's loss (section 3.2) on a batch, with each item of its lists read once.

    Args:
        lm: the language model.
        builder: of a template that `is_shared`.
        users: one vector a prompt; none where the template has no user slot.
        vectors: gives the vectors of items' slots; none where the template has none.
        candidates: each user's.
        targets: place of the target among them.
    """
    items = np.unique(np.concatenate(candidates))
    wanted = [int(c[t]) for c, t in zip(candidates, targets, strict=True)]
    answers = [[*builder.titles[item], lm.eos_id] for item in wanted]
    prompt = builder.build([], items.tolist(), max(map(len, answers)))
    parts = parts_of(prompt)
    tails = [np.concatenate([parts.tail_ids, np.asarray(answer[:-1], dtype=np.int64)]) for answer in answers]
    starts = parts.front + np.concatenate([[0], np.cumsum([len(tail) for tail in tails])])
    ids = np.concatenate([prompt.ids[: parts.front], *tails])
    end = int(parts.tail_positions[-1])
    positions = [prompt.positions[: parts.front]]
    visible = np.zeros((len(ids), len(ids)), dtype=bool)
    visible[: parts.front, : parts.front] = prompt.visible()[: parts.front, : parts.front]
    read: list[int] = []
    for row, (start, tail) in enumerate(zip(starts, tails, strict=False)):
        positions += [parts.tail_positions, end + 1 + np.arange(len(tail) - len(parts.tail_ids))]
        own = np.isin(items, candidates[row])
        seen = np.where(prompt.blocks[: parts.front] < 0, True, own[prompt.blocks[: parts.front]])
        rows = slice(start, start + len(tail))
        visible[rows, : parts.front] = seen
        visible[rows, rows] = np.tri(len(tail), dtype=bool)
        begin = start + len(parts.tail_ids) - 1
        read += range(begin, begin + len(answers[row]))
    device = lm.device
    embeddings = lm.embed(torch.from_numpy(ids))
    if vectors is not None:
        places = torch.from_numpy(prompt.candidates_at).to(device)
        embeddings = embeddings.index_put((places,), vectors(items).to(embeddings.dtype))
    if users is not None:
        places = torch.from_numpy(starts[:-1] + parts.user_at).to(device)
        embeddings = embeddings.index_put((places,), users.to(embeddings.dtype))
    hidden = lm.hidden(
        embeddings[None],
        torch.from_numpy(visible)[None].to(device),
        torch.from_numpy(np.concatenate(positions))[None].to(device),
    )
    labels = torch.tensor([token for answer in answers for token in answer], device=device)
    logits = lm.logits(hidden[0, torch.tensor(read, device=device)]).float()
    return nn.functional.cross_entropy(logits, labels)

"""Prompts whose candidates are read in parallel and before any user: what is read of an item serves every user.

Two uses of the same layout `[before] [item] [item] … [tail of a user] [tail of another] …`. Training puts all items of a batch
and all its users into one row, so that an item is read once however many lists it stands in. Scoring keeps the keys and
values of items, so that a user costs the tail and the titles' tokens alone. Both give what the prompts one by one give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.core.memory import available_memory
from allmrec.llm.language_model import KeysAndValues, LanguageModel
from allmrec.prompting.tokenising import PromptBuilder, TokenisedPrompt
from allmrec.recommend.score import TitleTree, likelihoods_of

__all__ = ["ItemBlocks", "shared_title_loss"]

Vectors = Callable[[Int[np.ndarray, " items"]], Float[Tensor, "items dim"]]


@dataclass(frozen=True)
class _Parts:
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


def _parts(prompt: TokenisedPrompt) -> _Parts:
    inside = np.flatnonzero(prompt.blocks >= 0)
    before, front = int(inside[0]), int(inside[-1]) + 1
    user_at = prompt.user_at - front if prompt.user_at >= 0 else -1
    return _Parts(front, before, prompt.ids[front:], prompt.positions[front:], user_at)


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
    parts = _parts(prompt)
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


class ItemBlocks:
    """Keys and values of items, read once, and titles scored behind them; for a template that `is_shared`.

    What is kept belongs to the vectors that the slots had: a trained projection or another joint table needs a new one.

    Args:
        lm: the language model.
        builder: of the template.
        vectors: gives the vectors of items' slots; none where the template has none.
        limit: bytes of keys and values to keep at the most; when they are full all are given up. None: a quarter of the memory
            that is available, between 512 MB and 4 GB (16 GB on a GPU).
    """

    def __init__(
        self, lm: LanguageModel, builder: PromptBuilder, vectors: Vectors | None, limit: int | None = None
    ) -> None:
        self._lm, self._builder, self._vectors = lm, builder, vectors
        prompt = builder.build([], [1])
        self._parts = _parts(prompt)
        self._places = builder.block_limit
        before = self._parts.before
        device = lm.device
        self._before = lm.keep(
            lm.embed(torch.from_numpy(prompt.ids[:before]))[None],
            torch.ones(before, before, dtype=torch.bool, device=device).tril()[None],
            torch.arange(before, device=device)[None],
        )
        self._at: dict[int, int] = {}
        self._lengths: list[int] = []
        self._kept: KeysAndValues | None = None
        # Bytes of one place in all layers.
        one = self._before.keys[:, :, :, :1].numel() * self._before.keys.element_size()
        one += self._before.values[:, :, :, :1].numel() * self._before.values.element_size()
        self._most = max(1, (_room(device) if limit is None else limit) // (one * self._places))

    @torch.inference_mode()
    def likelihoods(
        self, users: Float[Tensor, "batch dim"] | None, candidates: Sequence[Int[np.ndarray, " _candidates"]]
    ) -> list[Float[Tensor, "_titles _tokens"]]:
        """Log-probability of each token of each candidate's title; see `title_log_likelihoods`.

        Args:
            users: one vector a user; none where the template has no user slot.
            candidates: each user's, as many for all of them.
        """
        lm, parts, device = self._lm, self._parts, self._lm.device
        titles = self._builder.titles
        trees = [TitleTree.build([titles[int(i)] for i in c], lm.eos_id) for c in candidates]
        behind, seen = self._behind(np.stack(candidates))
        rows, kept, tail = len(trees), seen.shape[1], len(parts.tail_ids)
        total = tail + max(len(tree.tokens) for tree in trees)
        ids = np.zeros((rows, total), dtype=np.int64)
        positions = np.zeros((rows, total), dtype=np.int64)
        visible = np.zeros((rows, total, kept + total), dtype=bool)
        visible[:, :, :kept] = seen[:, None, :]
        for row, tree in enumerate(trees):
            end = tail + len(tree.tokens)
            ids[row, :end] = np.concatenate([parts.tail_ids, tree.tokens])
            positions[row, :end] = np.concatenate([parts.tail_positions, parts.tail_positions[-1] + 1 + tree.depths])
            visible[row, :tail, kept : kept + tail] = np.tri(tail, dtype=bool)
            visible[row, tail:end, kept : kept + tail] = True
            visible[row, tail:end, kept + tail : kept + end] = tree.ancestry()
            # A padded place sees itself as well; nothing reads it.
            visible[row, np.arange(end, total), kept + np.arange(end, total)] = True
        positions = np.minimum(positions, lm.max_tokens - 1)
        embeddings = lm.embed(torch.from_numpy(ids))
        if users is not None:
            embeddings = embeddings.clone()
            embeddings[:, parts.user_at] = users.to(embeddings.dtype)
        hidden = lm.hidden_behind(
            behind, embeddings, torch.from_numpy(visible).to(device), torch.from_numpy(positions).to(device)
        )
        return [
            likelihoods_of(lm, hidden[row, tail - 1 : tail + len(tree.tokens)], tree) for row, tree in enumerate(trees)
        ]

    def _behind(self, candidates: Int[np.ndarray, "batch candidates"]) -> tuple[KeysAndValues, np.ndarray]:
        """Keys and values of what stands before each user's tail, and which of these places are real."""
        self._take_up(np.unique(candidates))
        numbers = np.vectorize(self._at.__getitem__, otypes=[np.int64])(candidates)
        chosen = torch.from_numpy(numbers)
        lengths = np.asarray(self._lengths)[numbers]
        real = np.arange(self._places) < lengths[..., None]
        seen = np.concatenate(
            [np.ones((len(candidates), self._parts.before), dtype=bool), real.reshape(len(candidates), -1)], axis=1
        )

        def joined(before: Tensor, kept: Tensor) -> Tensor:
            picked = kept[:, chosen.to(kept.device)]  # layers, users, candidates, heads, places, dim
            picked = picked.permute(0, 1, 3, 2, 4, 5).flatten(3, 4)
            return torch.cat([before.expand(-1, len(candidates), -1, -1, -1), picked], dim=3)

        kept = self._kept
        assert kept is not None  # noqa: S101  # there are candidates
        before = self._before.positions.expand(len(candidates), -1)
        positions = torch.cat([before, kept.positions[chosen.to(kept.positions.device)].flatten(1)], dim=1)
        behind = KeysAndValues(
            joined(self._before.keys, kept.keys), joined(self._before.values, kept.values), positions
        )
        return behind, seen

    def _take_up(self, items: Int[np.ndarray, " items"]) -> None:
        """Read the items that are not kept yet."""
        if len(self._at) + sum(item not in self._at for item in items.tolist()) > self._most:
            self._at, self._lengths, self._kept = {}, [], None
        new = np.asarray([item for item in items.tolist() if item not in self._at], dtype=np.int64)
        for start in range(0, len(new), 64):
            part = new[start : start + 64]
            self._keep(self._read(part))
            self._at |= {int(item): len(self._at) + n for n, item in enumerate(part)}

    def _keep(self, read: KeysAndValues) -> None:
        """Put what was read behind what is kept, whose room doubles when it is full."""
        begin = len(self._at)
        end = begin + read.keys.shape[1]
        old = self._kept
        if old is None or end > old.keys.shape[1]:
            rows = max(end, min(2 * begin, self._most))
            self._kept = KeysAndValues(
                _longer(read.keys, None if old is None else old.keys, begin, rows, 1),
                _longer(read.values, None if old is None else old.values, begin, rows, 1),
                _longer(read.positions, None if old is None else old.positions, begin, rows, 0),
            )
        assert self._kept is not None  # noqa: S101  # made above
        self._kept.keys[:, begin:end] = read.keys
        self._kept.values[:, begin:end] = read.values
        self._kept.positions[begin:end] = read.positions

    def _read(self, items: Int[np.ndarray, " items"]) -> KeysAndValues:
        lm, before, device = self._lm, self._parts.before, self._lm.device
        prompts = [self._builder.build([], [int(item)]) for item in items]
        ids = np.zeros((len(items), self._places), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            block = prompt.ids[prompt.blocks >= 0]
            ids[row, : len(block)] = block
            self._lengths.append(len(block))
        embeddings = lm.embed(torch.from_numpy(ids))
        if self._vectors is not None:
            # The slot is at the same place in every block, or behind the title.
            slots = torch.tensor([int(p.candidates_at[0]) - before for p in prompts], device=device)
            embeddings = embeddings.index_put(
                (torch.arange(len(items), device=device), slots), self._vectors(items).to(embeddings.dtype)
            )
        causal = torch.ones(self._places, before + self._places, dtype=torch.bool, device=device).tril(before)
        positions = before + torch.arange(self._places, device=device)
        rows = len(items)
        behind = KeysAndValues(
            self._before.keys.expand(-1, rows, -1, -1, -1),
            self._before.values.expand(-1, rows, -1, -1, -1),
            self._before.positions.expand(rows, -1),
        )
        return lm.keep(embeddings, causal.expand(rows, -1, -1), positions.expand(rows, -1), behind)


def _longer(like: Tensor, old: Tensor | None, kept: int, rows: int, dim: int) -> Tensor:
    """Room for so many rows along a dimension, the first of them those that are kept."""
    room = like.new_empty((*like.shape[:dim], rows, *like.shape[dim + 1 :]))
    if old is not None:
        room.narrow(dim, 0, kept).copy_(old.narrow(dim, 0, kept))
    return room


def _room(device: torch.device) -> int:
    """Bytes for keys and values where nothing else is said."""
    if device.type == "cuda":
        return min(max(torch.cuda.mem_get_info(device)[0] // 4, 1 << 29), 1 << 34)
    return min(max(available_memory() // 4, 1 << 29), 1 << 32)

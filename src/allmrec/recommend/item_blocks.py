"""Titles scored behind items that were read before: what is read of an item serves every user.

The layout is that of `shared`. The keys and values of items are kept, so that a user costs the tail and the titles' tokens alone. The
scores are those of the prompts one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from allmrec.core.memory import available_memory
from allmrec.llm.language_model import KeysAndValues, LanguageModel
from allmrec.prompting.tokenising import PromptBuilder
from allmrec.recommend.score import TitleTree, likelihoods_of
from allmrec.recommend.shared import Vectors, parts_of

__all__ = ["ItemBlocks", "KeptBlocks"]


class KeptBlocks:
    """Keys and values of items, each by a digest of what was read of it: its tokens, and the row that fills its slot.

    Tables of items that share the language model and the trained projections share it: an item that comes beside others costs its own
    reading alone.

    Args:
        limit: bytes to keep at the most; when they are full all are given up. None: a quarter of the memory that is available,
            between 512 MB and 4 GB (16 GB on a GPU).

    Attributes:
        lock: held while places are looked up and copied from.
        places: of what is kept, by digest.
        lengths: tokens, by place.
        states: keys and values by place; None: nothing is kept.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._read = self._reused = 0
        self.lock, self._counting = threading.Lock(), threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Give up what is kept."""
        self.places: dict[bytes, int] = {}
        self.lengths: list[int] = []
        self.states: KeysAndValues | None = None

    @property
    def n_bytes(self) -> int:
        """Memory that keys, values and their positions take."""
        states = self.states
        return 0 if states is None else sum(t.nbytes for t in (states.keys, states.values, states.positions))

    def most(self, one: int, device: torch.device) -> int:
        """How many items there is room for.

        Args:
            one: bytes of an item.
            device: where they are kept.
        """
        if self._limit is None:
            self._limit = _room(device)
        return max(1, self._limit // one)

    def count(self, read: int, reused: int) -> None:
        """Note how many items of a batch were read, and how many were kept already."""
        with self._counting:
            self._read += read
            self._reused += reused

    def taken_counts(self) -> tuple[int, int]:
        """Items read, and items that were kept already, since the last call; never waits for a reading."""
        with self._counting:
            found = self._read, self._reused
            self._read = self._reused = 0
        return found


class ItemBlocks:
    """Keys and values of items, read once, and titles scored behind them; for a template that `is_shared`.

    Args:
        lm: the language model.
        builder: of the template.
        vectors: gives the vectors of items' slots; none where the template has none.
        rows: what the vectors are made from, one row an item; none where there are no vectors.
        kept: where keys and values are kept. What is in it belongs to the weights that make vectors from rows: once they are trained
            on, it is to be cleared.
    """

    def __init__(
        self,
        lm: LanguageModel,
        builder: PromptBuilder,
        vectors: Vectors | None,
        rows: Float[Tensor, "items columns"] | None,
        kept: KeptBlocks,
    ) -> None:
        self._lm, self._builder, self._vectors, self._rows = lm, builder, vectors, rows
        self._kept, self._digests = kept, dict[int, bytes]()
        prompt = builder.build([], [1])
        self._parts = parts_of(prompt)
        self._places = builder.block_limit
        before = self._parts.before
        device = lm.device
        self._before = lm.keep(
            lm.embed(torch.from_numpy(prompt.ids[:before]))[None],
            torch.ones(before, before, dtype=torch.bool, device=device).tril()[None],
            torch.arange(before, device=device)[None],
        )
        # Bytes of one place in all layers.
        one = self._before.keys[:, :, :, :1].numel() * self._before.keys.element_size()
        one += self._before.values[:, :, :, :1].numel() * self._before.values.element_size()
        self._most = kept.most(one * self._places, device)

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
        with self._kept.lock:
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
        items, places = np.unique(candidates, return_inverse=True)
        numbers = self._take_up(items)[places].reshape(candidates.shape)
        chosen = torch.from_numpy(numbers)
        lengths = np.asarray(self._kept.lengths)[numbers]
        real = np.arange(self._places) < lengths[..., None]
        seen = np.concatenate(
            [np.ones((len(candidates), self._parts.before), dtype=bool), real.reshape(len(candidates), -1)], axis=1
        )

        def joined(before: Tensor, kept: Tensor) -> Tensor:
            layers, _, heads, first, dim = before.shape
            users, items = chosen.shape
            room = kept.new_empty(layers, users, heads, first + items * self._places, dim)
            room[..., :first, :] = before
            picked = kept.index_select(1, chosen.flatten().to(kept.device))
            picked = picked.view(layers, users, items, heads, self._places, dim).transpose(2, 3)
            room[..., first:, :].view(picked.shape).copy_(picked)
            return room

        kept = self._kept.states
        assert kept is not None  # noqa: S101  # there are candidates
        before = self._before.positions.expand(len(candidates), -1)
        positions = torch.cat([before, kept.positions[chosen.to(kept.positions.device)].flatten(1)], dim=1)
        behind = KeysAndValues(
            joined(self._before.keys, kept.keys), joined(self._before.values, kept.values), positions
        )
        return behind, seen

    def _take_up(self, items: Int[np.ndarray, " items"]) -> Int[np.ndarray, " items"]:
        """Read the items that are not kept yet; the places of all."""
        store = self._kept
        digests = self._digests_of(items)
        new = np.asarray([n for n, digest in enumerate(digests) if digest not in store.places], dtype=np.int64)
        if len(store.lengths) + len(new) > self._most:
            store.clear()
            new = np.arange(len(items))
        store.count(len(new), len(items) - len(new))
        for start in range(0, len(new), 64):
            part = new[start : start + 64]
            read, lengths = self._read(items[part])
            self._keep(read)
            for n, length in zip(part, lengths, strict=True):
                # Two items may be the same in all that is read of them.
                store.places[digests[n]] = len(store.lengths)
                store.lengths.append(length)
        return np.asarray([store.places[digest] for digest in digests], dtype=np.int64)

    def _digests_of(self, items: Int[np.ndarray, " items"]) -> list[bytes]:
        new = [item for item in items.tolist() if item not in self._digests]
        if new:
            rows = None if self._rows is None else self._rows[torch.tensor(new, device=self._rows.device)].cpu().numpy()
            for n, item in enumerate(new):
                prompt = self._builder.build([], [item])
                read = prompt.ids[prompt.blocks >= 0].tobytes() + (b"" if rows is None else rows[n].tobytes())
                self._digests[item] = blake2b(read, digest_size=16).digest()
        return [self._digests[item] for item in items.tolist()]

    def _keep(self, read: KeysAndValues) -> None:
        """Put what was read behind what is kept, whose room doubles when it is full."""
        begin = len(self._kept.lengths)
        end = begin + read.keys.shape[1]
        states = self._kept.states
        if states is None or end > states.keys.shape[1]:
            rows = max(end, min(2 * begin, self._most))
            states = KeysAndValues(
                _longer(read.keys, None if states is None else states.keys, begin, rows, 1),
                _longer(read.values, None if states is None else states.values, begin, rows, 1),
                _longer(read.positions, None if states is None else states.positions, begin, rows, 0),
            )
            self._kept.states = states
        states.keys[:, begin:end] = read.keys
        states.values[:, begin:end] = read.values
        states.positions[begin:end] = read.positions

    def _read(self, items: Int[np.ndarray, " items"]) -> tuple[KeysAndValues, list[int]]:
        """Keys and values of items behind what stands before them, and how many tokens each has."""
        lm, before, device = self._lm, self._parts.before, self._lm.device
        prompts = [self._builder.build([], [int(item)]) for item in items]
        ids, lengths = np.zeros((len(items), self._places), dtype=np.int64), list[int]()
        for row, prompt in enumerate(prompts):
            block = prompt.ids[prompt.blocks >= 0]
            ids[row, : len(block)] = block
            lengths.append(len(block))
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
        return lm.keep(embeddings, causal.expand(rows, -1, -1), positions.expand(rows, -1), behind), lengths


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

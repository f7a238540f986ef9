"""Decodes answers, freely or along the candidates' titles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from allmrec.core.config import Config
from allmrec.llm.language_model import Decoding, LanguageModel
from allmrec.prompting.splicing import SplicedPrompts
from allmrec.recommend.score import TitleTree

__all__ = [
    "Answer",
    "Choice",
    "GenerateConfig",
    "constrained_choices",
    "greedy_answers",
    "greedy_tokens",
]


class GenerateConfig(Config):
    """How an answer is decoded; always greedily, as in the released program (the paper does not say)."""

    max_new_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens of an answer at the most; none: what the longest candidate's title and its end take.",
    )
    repetition_penalty: float = Field(
        1.0,
        gt=0,
        description="Makes tokens that the answer already holds less likely; 1: not at all. The released program's is 1.5.",
    )


@dataclass(frozen=True)
class Answer:
    """What the language model wrote.

    Attributes:
        text: in words, a leading blank included.
        tokens: without the EOS.
        ended: whether it wrote EOS; otherwise it was stopped.
        log_probability: of the tokens, and of EOS where it ended, under the model itself, without penalty.
    """

    text: str
    tokens: tuple[int, ...]
    ended: bool
    log_probability: float


@dataclass(frozen=True)
class Choice:
    """Where a walk along the candidates' titles ended.

    Attributes:
        candidate: place among the candidates; the first of those whose titles are the same tokens.
        log_probability: of the decisions on the way, each among what the titles allowed there. Where they allow one
            token only nothing is decided, so this is not the title's likelihood.
    """

    candidate: int
    log_probability: float


def greedy_tokens(
    lm: LanguageModel, prompts: SplicedPrompts, limits: Sequence[int], penalty: float = 1.0
) -> Iterator[list[tuple[int, int, float]]]:
    """Decode greedily, step by step; a row that has ended costs nothing any more.

    Args:
        lm: the language model.
        prompts: spliced prompts without answers.
        limits: tokens of each row's answer at the most, EOS among them.
        penalty: divides positive logits of tokens that the answer holds and multiplies negative ones (Keskar et al.
            2019). The prompt's tokens are not counted: it is embeddings, as in the released program.

    Yields:
        For each row that goes on: its number, its next token (EOS is a row's last) and that token's log-probability.
    """
    device = lm.device
    decoding = _begun(lm, prompts)
    live = list(range(len(limits)))
    written: list[list[int]] = [[] for _ in limits]
    while True:
        with torch.inference_mode():
            logits = decoding.logits.float()
            chosen = _penalised(logits, [written[row] for row in live], penalty).argmax(dim=-1)
            gained = logits.log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0].tolist()
        step = list(zip(live, chosen.tolist(), gained, strict=True))
        for row, token, _ in step:
            written[row].append(token)
        yield step
        going = [n for n, row in enumerate(live) if written[row][-1] != lm.eos_id and len(written[row]) < limits[row]]
        if not going:
            return
        if len(going) < len(live):
            kept = torch.tensor(going, device=device)
            decoding.keep(kept)
            live, chosen = [live[n] for n in going], chosen[kept]
        decoding.append(chosen)


def greedy_answers(
    lm: LanguageModel, prompts: SplicedPrompts, limits: Sequence[int], penalty: float = 1.0
) -> list[Answer]:
    """The answers that `greedy_tokens` spells, one a row."""
    written: list[list[int]] = [[] for _ in limits]
    totals = [0.0] * len(limits)
    for step in greedy_tokens(lm, prompts, limits, penalty):
        for row, token, gained in step:
            written[row].append(token)
            totals[row] += gained
    found = []
    for tokens, total in zip(written, totals, strict=True):
        ended = tokens[-1] == lm.eos_id
        own = tuple(tokens[:-1] if ended else tokens)
        found.append(Answer(lm.detokenize(own), own, ended, total))
    return found


def constrained_choices(lm: LanguageModel, prompts: SplicedPrompts, trees: Sequence[TitleTree]) -> list[Choice]:
    """Walk down each row's tree of titles, at each node to the likeliest token that a title has there.

    A walk stops as soon as one title is left: the rest of it need not be read.

    Args:
        lm: the language model.
        prompts: spliced prompts without answers.
        trees: the candidates' titles of each row, at least one.
    """
    walks = [_Walk(tree, lm.eos_id) for tree in trees]
    totals = [0.0] * len(walks)
    live = [row for row, walk in enumerate(walks) if walk.title is None]
    if live:
        rows = torch.tensor(live, device=prompts.lengths.device)
        decoding = _begun(lm, prompts.rows(rows))
    while live:
        tokens: list[int] = []
        going: list[int] = []
        for place, row in enumerate(live):
            allowed = walks[row].allowed()
            steps = decoding.logits[place, torch.tensor(allowed, device=lm.device)].float().log_softmax(dim=-1)
            best = int(steps.argmax())
            totals[row] += float(steps[best])
            walks[row].go(allowed[best])
            if walks[row].title is None:
                going.append(place)
                tokens.append(allowed[best])
        if going:
            if len(going) < len(live):
                decoding.keep(torch.tensor(going, device=lm.device))
            decoding.append(torch.tensor(tokens, device=lm.device))
        live = [live[place] for place in going]
    return [Choice(walk.title or 0, total) for walk, total in zip(walks, totals, strict=True)]


def _begun(lm: LanguageModel, prompts: SplicedPrompts) -> Decoding:
    return lm.decode(prompts.embeddings, prompts.lengths, prompts.positions, prompts.visible)


class _Walk:
    """A place in one tree of titles, what can be said next there, and the title once only one is left."""

    def __init__(self, tree: TitleTree, eos: int) -> None:
        self._eos = eos
        self._children: dict[int, dict[int, int]] = {node: {} for node in range(-1, len(tree.tokens))}
        for node, (token, parent) in enumerate(zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True)):
            self._children[parent][token] = node
        # A title's last step is its EOS; of titles that are the same tokens the first stands for all.
        last = np.append(tree.steps_title[1:] != tree.steps_title[:-1], True)
        self._ends: dict[int, int] = {}
        for node, title in zip(tree.steps_from[last].tolist(), tree.steps_title[last].tolist(), strict=True):
            self._ends.setdefault(node, title)
        self._titles = {node: {self._ends[node]} if node in self._ends else set() for node in self._children}
        # Children come after their parents.
        for node in range(len(tree.tokens) - 1, -1, -1):
            self._titles[int(tree.parents[node])] |= self._titles[node]
        self._at = -1
        self.title: int | None = None
        self._settle()

    def allowed(self) -> list[int]:
        """The tokens that a title has here, EOS where one ends."""
        tokens = list(self._children[self._at])
        return [*tokens, self._eos] if self._at in self._ends and self._eos not in tokens else tokens

    def go(self, token: int) -> None:
        """Say one of them."""
        if token == self._eos and self._at in self._ends:
            self.title = self._ends[self._at]
        else:
            self._at = self._children[self._at][token]
            self._settle()

    def _settle(self) -> None:
        left = self._titles[self._at]
        if len(left) == 1:
            (self.title,) = left


def _penalised(
    logits: Float[Tensor, "rows vocabulary"], written: Sequence[Sequence[int]], penalty: float
) -> Float[Tensor, "rows vocabulary"]:
    if penalty == 1.0 or not written[0]:
        return logits
    # Every row that still goes on has written as many tokens.
    tokens = torch.tensor(written, device=logits.device)
    held = logits.gather(1, tokens)
    return logits.scatter(1, tokens, torch.where(held < 0, held * penalty, held / penalty))

"""Where the place at which an answer begins attends to: shares of its attention by group of places, layer and head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Float, Int

from allmrec.core.progress import progress_bar
from allmrec.prompting.tokenising import PlaceKind, TokenisedPrompt
from allmrec.ranking import Query
from allmrec.recommend.prompted import PromptedRanker

__all__ = ["AnswerAttention", "Group", "HeadGain", "answer_attention", "largest_gains", "place_groups"]


class Group(StrEnum):
    """The places of a prompt, in groups; each place is in one of them."""

    TARGET_SLOT = "target_slot"
    TARGET_TITLE_START = "target_title_start"
    TARGET_TITLE_REST = "target_title_rest"
    OTHER_SLOTS = "other_slots"
    OTHER_TITLE_STARTS = "other_title_starts"
    OTHER_TITLE_RESTS = "other_title_rests"
    USER_SLOT = "user_slot"
    HISTORY = "history"
    WORDS = "words"

    @property
    def number(self) -> int:
        """Its place in the order of groups."""
        return list(Group).index(self)

    @property
    def of_others(self) -> bool:
        """Whether it is of all candidates but the target."""
        return self in (Group.OTHER_SLOTS, Group.OTHER_TITLE_STARTS, Group.OTHER_TITLE_RESTS)


_GROUPS = {
    PlaceKind.USER: Group.USER_SLOT,
    PlaceKind.HISTORY: Group.HISTORY,
    PlaceKind.WORDS: Group.WORDS,
    PlaceKind.SLOT: Group.OTHER_SLOTS,
    PlaceKind.TITLE_START: Group.OTHER_TITLE_STARTS,
    PlaceKind.TITLE_REST: Group.OTHER_TITLE_RESTS,
}
_OF_TARGET = {
    PlaceKind.SLOT: Group.TARGET_SLOT,
    PlaceKind.TITLE_START: Group.TARGET_TITLE_START,
    PlaceKind.TITLE_REST: Group.TARGET_TITLE_REST,
}


@dataclass(frozen=True, eq=False)
class AnswerAttention:
    """Attention from the last place of the prompt, where the title's first token is predicted; the mean over users.

    Where the user slot is that last place, the share of the user slot is what the place gives to itself.

    Attributes:
        shares: of each group, in the order of `Group`; over the groups they sum to 1, up to
            rounding where the language model is held in bfloat16.
        users: how many users the mean is over.
        candidates: items in each user's list, the target included.
    """

    shares: Float[np.ndarray, "groups layers heads"]
    users: int
    candidates: int

    def of(self, group: Group) -> Float[np.ndarray, "layers heads"]:
        """The share of a group; of the other candidates the mean per candidate, to compare with the target's."""
        share: Float[np.ndarray, "layers heads"] = self.shares[group.number]
        return share / max(1, self.candidates - 1) if group.of_others else share


@dataclass(frozen=True)
class HeadGain:
    """How a head's attention to the first token of the target's title changed; the shares are means over users.

    Attributes:
        layer, head: counted from 1.
        before, after: to the first token of the target's title.
        others_before, others_after: to the first token of another candidate's title, the mean over these candidates.
    """

    layer: int
    head: int
    before: float
    after: float
    others_before: float
    others_after: float


def place_groups(prompt: TokenisedPrompt, target: int) -> Int[np.ndarray, " tokens"]:
    """The number of each place's group.

    Args:
        prompt: one prompt.
        target: the item number of the candidate that is the target.
    """
    numbers = np.array([_GROUPS[kind].number for kind in PlaceKind])
    numbers_of_target = np.array([_OF_TARGET.get(kind, _GROUPS[kind]).number for kind in PlaceKind])
    found: Int[np.ndarray, " tokens"] = np.where(
        prompt.items == target, numbers_of_target[prompt.kinds], numbers[prompt.kinds]
    )
    return found


def answer_attention(
    ranker: PromptedRanker,
    queries: Sequence[Query],
    candidates: Sequence[Int[np.ndarray, " _candidates"]],
    targets: Int[np.ndarray, " queries"],
    batch_size: int = 4,
    description: str = "attention",
) -> AnswerAttention:
    """Average the answer's attention over queries.

    Args:
        ranker: stage 2 with the frozen parts around it.
        queries: whom for.
        candidates: of each query, the same number for all.
        targets: the item of each query's candidates that is the target.
        batch_size: queries in a forward pass.
        description: what the progress bar says.

    Raises:
        ConfigError: the language model gives no attention weights.
    """
    training = ranker.training
    ranker.eval()
    total = np.zeros((), dtype=np.float64)
    try:
        with progress_bar(description, len(queries)) as bar:
            for start in range(0, len(queries), batch_size):
                part = slice(start, start + batch_size)
                total = total + _summed(ranker, queries[part], candidates[part], targets[part])
                bar.advance(len(queries[part]))
    finally:
        ranker.train(training)
    return AnswerAttention(total / len(queries), len(queries), len(candidates[0]))


@torch.inference_mode()
def _summed(
    ranker: PromptedRanker,
    queries: Sequence[Query],
    candidates: Sequence[Int[np.ndarray, " _candidates"]],
    targets: Int[np.ndarray, " queries"],
) -> Float[np.ndarray, "groups layers heads"]:
    """Shares of each group, the sum over the queries of one forward pass."""
    # The prompts are those of scoring, which leaves room for the longest title.
    reserve = max(ranker.builder.longest_answer(items.tolist()) for items in candidates)
    prompts = ranker.prompts(queries, candidates, reserve)
    spliced = ranker.spliced(prompts, ranker.user_states(queries))
    weights = ranker.lm.attention(spliced.embeddings, spliced.visible, spliced.positions, spliced.lengths - 1)
    member = np.zeros((len(prompts), len(Group), weights.shape[-1]))
    for row, (prompt, target) in enumerate(zip(prompts, targets.tolist(), strict=True)):
        member[row, place_groups(prompt, target), np.arange(len(prompt))] = 1
    summed: Float[np.ndarray, "groups layers heads"] = np.einsum(
        "blht,bgt->glh", weights.double().cpu().numpy(), member
    )
    return summed


def largest_gains(before: AnswerAttention, after: AnswerAttention, count: int) -> list[HeadGain]:
    """The heads whose attention to the first token of the target's title grew most, the largest gain first."""
    target, others = Group.TARGET_TITLE_START, Group.OTHER_TITLE_STARTS
    gain = after.of(target) - before.of(target)
    best = np.argsort(-gain, axis=None, kind="stable")[:count]
    return [
        HeadGain(
            int(layer) + 1,
            int(head) + 1,
            *(float(seen.of(group)[layer, head]) for group in (target, others) for seen in (before, after)),
        )
        for layer, head in zip(*np.unravel_index(best, gain.shape), strict=True)
    ]

"""A-LLMRec assembled: ranks given candidates, and recommends from the whole catalogue; knows no file and no metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from allmrec.core.errors import ConfigError
from allmrec.data.interactions import InteractionDataset
from allmrec.ranking import Query, Ranking, ranking_from_scores
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.retrieve import retrieve

__all__ = ["ALLMRec", "Normalisation", "Recommendation", "normalised"]

Normalisation = Literal["sum", "mean"]


@dataclass(frozen=True)
class Recommendation:
    """One recommended item, for people and for programs."""

    item_id: str
    title: str | None
    score: float


class ALLMRec:
    """The assembled recommender.

    Args:
        dataset: vocabularies, catalogue and known histories.
        ranker: stage 2 with the frozen parts around it.
        method: how the language model answers. `score`: likelihood of each candidate's title, the paper's objective;
            `select`: the pointer head (ours).
        name: what a table calls it.
        normalisation: how a title's token log-probabilities become one score: their sum (exact likelihood) or mean.
        batch_size: queries in a forward pass.
    """

    def __init__(
        self,
        dataset: InteractionDataset,
        ranker: PromptedRanker,
        method: Literal["score", "select"] = "select",
        name: str = "A-LLMRec",
        normalisation: Normalisation = "sum",
        batch_size: int = 8,
    ) -> None:
        if method == "select" and not ranker.config.item_vectors:
            raise ConfigError("select reads item slots, but the prompt has none; rank by score instead.")
        self._dataset, self._ranker = dataset, ranker
        self._method, self._name = method, name
        self._normalisation, self._batch_size = normalisation, batch_size
        ranker.eval()

    @property
    def name(self) -> str:
        return self._name

    @property
    def ranker(self) -> PromptedRanker:
        """Stage 2 itself."""
        return self._ranker

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates; queries whose prompts are alike in length share a forward pass."""
        titles = self._ranker.builder.titles
        sizes = [
            (len(c), sum(len(titles[int(i)]) for i in (*c, *q.history[-10:])))
            for q, c in zip(queries, candidates, strict=True)
        ]
        order = sorted(range(len(queries)), key=lambda n: sizes[n])
        rankings: dict[int, Ranking] = {}
        groups: list[list[int]] = []
        for number in order:
            full = not groups or len(groups[-1]) == self._batch_size
            if full or sizes[groups[-1][-1]][0] != sizes[number][0]:
                groups.append([])
            groups[-1].append(number)
        for group in groups:
            scores = self._scores([queries[n] for n in group], [candidates[n] for n in group])
            for n, row in zip(group, scores, strict=True):
                rankings[n] = ranking_from_scores(candidates[n], row)
        return [rankings[n] for n in range(len(queries))]

    def recommend(
        self,
        history: Sequence[str] | None = None,
        user: str | None = None,
        k: int = 10,
        candidates: int = 20,
        exclude_seen: bool = True,
    ) -> list[Recommendation]:
        """Recommend from the whole catalogue: the CF model proposes, the language model ranks.

        Args:
            history: item ids, oldest first; or
            user: a user id of the data set, whose whole history is used.
            k: how many to return, at most `candidates`.
            candidates: how many the CF model proposes; 20 is what stage 2 is trained on.
            exclude_seen: leave out what the history holds.

        Returns:
            The best first.

        Raises:
            UnknownIdError: an id that the data set does not hold.
            ConfigError: neither or both of history and user, or k above candidates.
        """
        if (history is None) == (user is None):
            raise ConfigError("Give either a history or a user, not both and not neither.")
        if not 1 <= k <= candidates:
            raise ConfigError(f"k is {k}; it must lie between 1 and the {candidates} candidates that are ranked.")
        if user is not None:
            number = self._dataset.users.number(user)
            query = Query(self._dataset.sequence(number), number)
        else:
            items = [self._dataset.items.number(i) for i in history or ()]
            query = Query(np.asarray(items, dtype=np.int64))
        seen = query.history if exclude_seen else np.empty(0, dtype=np.int64)
        proposed = retrieve(self._ranker, query, candidates, seen)
        ranking = self.rank([query], [proposed])[0]
        return [
            Recommendation(self._dataset.items.id(int(i)), self._dataset.catalogue.titles[int(i)], float(s))
            for i, s in zip(ranking.items[:k], ranking.scores[:k], strict=True)
        ]

    def _scores(
        self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]
    ) -> list[Float[np.ndarray, " _candidates"]]:
        with torch.inference_mode():
            if self._method == "select":
                logits = self._ranker.select_logits(queries, candidates)
                return list(logits.float().cpu().numpy())
            likelihoods = self._ranker.title_likelihoods(queries, candidates)
            return [normalised(row, self._normalisation) for row in likelihoods]


def normalised(
    steps: Float[torch.Tensor, "titles tokens"], normalisation: Normalisation
) -> Float[np.ndarray, " titles"]:
    """One score a title from its tokens' log-probabilities; places behind a title's end hold exactly 0."""
    total = steps.sum(dim=-1)
    if normalisation == "mean":
        total = total / (steps != 0).sum(dim=-1).clamp_min(1)
    return total.float().cpu().numpy()

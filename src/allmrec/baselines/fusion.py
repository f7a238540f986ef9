"""Late fusion: a logistic regression over other systems' scores; knows those systems only as recommenders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from allmrec.core.config import Config
from allmrec.core.errors import ArtifactError, ConfigError, DataError
from allmrec.core.progress import progress_bar
from allmrec.core.seeding import numpy_generator
from allmrec.core.tensors import expected
from allmrec.data.negatives import room_for_negatives, sample_negatives
from allmrec.data.splitting import Split
from allmrec.ranking import Query, Ranker, Ranking, ranking_from_scores
from allmrec.recommend.prior import conditional_logit

__all__ = ["FusionConfig", "LateFusion", "LateFusionLLM"]

# Queries that the parts are given at a time while it is fitted: one may be slow, and its progress is to be seen.
_AT_A_TIME = 64


class FusionConfig(Config):
    """What the regression is fitted on."""

    max_history: int = Field(10, ge=1, description="Most recent items of the history whose titles are compared.")
    text_tower: bool = Field(
        False, description="Whether the text tower's score is a part too; it is trained where it is not there."
    )
    validation_users: int = Field(
        500,
        ge=1,
        description="Validation users that late fusion is fitted on, at the most: the same ones with the language model's "
        "score and without.",
    )
    validation_negatives: int = Field(
        19, ge=1, description="Items that each validation item is ranked against, at the most."
    )
    penalty: float = Field(1e-3, ge=0, description="Weight of the squared coefficients beside the mean log-loss.")


class LateFusion:
    """Ranks by a weighted sum of what others say, where the weights depend on how well an item is known.

    From no paper; it is the plain way to join collaboration and text, and a system with a language model inside has to
    beat it. Features of a candidate, each standardised within the query (mean 0, deviation 1, so that one weight fits
    scores of any scale):

        every part's score, popularity ln(1 + n_i), inverse popularity c_i = 1 / (1 + n_i),
        and c_i times each part's standardised score and times the standardised popularity

    n_i are training interactions. In a run the parts are the CF model and the similarity of titles by centred vectors
    (`TitleSimilarity`; plain ones make a weaker fusion), with `text_tower` the text tower too. The products let the weights move from collaboration to text as
    items get colder. The weights w maximise the conditional logistic likelihood (McFadden 1974), which is the logistic
    regression for one choice among several: softmax over a query's candidates of w · features. It is convex, so there
    is one answer.

    It is fitted on validation items: the parts' models must not have trained on them. Test items are never looked at,
    except that, as everywhere, negatives spare what a user ever interacted with.

    Args:
        parts: systems by name, in an order that stays the same; they must give every candidate a score.
        counts: training interactions by item number, padding included.
        weights: one per feature, as `fit` found them.

    Raises:
        ConfigError: the number of weights does not fit the parts.
    """

    name = "Late fusion"

    def __init__(
        self,
        parts: Mapping[str, Ranker],
        counts: Int[np.ndarray, " items_and_padding"],
        weights: Float[np.ndarray, " features"],
    ) -> None:
        self._parts, self._counts, self._weights = dict(parts), counts, weights
        self.features = _feature_names(list(parts))
        if len(weights) != len(self.features):
            raise ConfigError(f"{len(weights)} weights came for {len(self.features)} features; fit the fusion again.")

    @classmethod
    def fit(cls, parts: Mapping[str, Ranker], split: Split, seed: int, config: FusionConfig | None = None) -> Self:
        """Find the weights on a split's validation items.

        Users and negatives follow from split, seed and config alone: whatever the parts are, they are the same.

        Raises:
            DataError: no user who trains has a validation item.
        """
        config = config or FusionConfig()
        having = split.validated()
        if not len(having):
            raise DataError("No training user has a validation item (that takes three interactions); use more data.")
        room = room_for_negatives(split.dataset, having, config.validation_negatives)
        rng = numpy_generator(seed, "fusion")
        chosen = np.sort(rng.permutation(room.kept)[: config.validation_users])
        others = sample_negatives(split.dataset, chosen, room.n, rng)
        candidates = np.concatenate([split.validation[chosen][:, None], others], axis=1)
        queries = [Query(split.validation_history(user), user) for user in chosen.tolist()]
        counts = split.train_counts()
        rows: list[Float[np.ndarray, "_candidates features"]] = []
        with progress_bar(f"fit {cls.name}", len(queries)) as bar:
            for start in range(0, len(queries), _AT_A_TIME):
                asked = slice(start, start + _AT_A_TIME)
                rows += _features(parts, counts, queries[asked], list(candidates[asked]))
                bar.advance(len(queries[asked]))
        features = torch.from_numpy(np.stack(rows))
        weights = conditional_logit(features, torch.zeros(len(features), dtype=torch.long), config.penalty)
        return cls(parts, counts, weights.numpy())

    @property
    def weights(self) -> dict[str, float]:
        """Each feature's weight by name, to be looked at."""
        return dict(zip(self.features, self._weights.tolist(), strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """Weights and counts; the parts are stored by those who made them."""
        return {"weights": torch.from_numpy(self._weights), "counts": torch.from_numpy(self._counts)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], parts: Mapping[str, Ranker]) -> Self:
        """What `tensors` gave, around the same parts in the same order.

        Raises:
            ArtifactError: a tensor is missing.
            ConfigError: the weights are of other parts.
        """
        if not {"weights", "counts"} <= tensors.keys():
            raise ArtifactError(f"Expected tensors weights and counts, found {', '.join(tensors) or 'none'}.")
        expected(tensors, {"weights": ("float", (len(_feature_names(list(parts))),)), "counts": ("int", (None,))})
        if len(tensors["counts"]) and int(tensors["counts"].min()) < 0:
            raise ArtifactError("Expected counts of 0 or more. Train it again.")
        return cls(parts, tensors["counts"].numpy(), tensors["weights"].numpy())

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates; every part is asked about all of them."""
        features = _features(self._parts, self._counts, queries, candidates)
        return [ranking_from_scores(i, f @ self._weights) for i, f in zip(candidates, features, strict=True)]


class LateFusionLLM(LateFusion):
    """Late fusion with the language model's score as one more part (ours): it measures what that score adds.

    The score is A-LLMRec's, of a title's likelihood or of the pointer head. Beside `LateFusion` with all the other parts,
    fitted on the same users and negatives, the difference is what the language model, with the trained parts around it,
    tells that the CF model, the texts and popularity do not. A-LLMRec's own row cannot show that: A-LLMRec reads the CF
    model too, and its difference to late fusion mixes what is added with what is lost.

    Stage 2 does not train on validation items, but its checkpoint is the best on some of them, as the CF model's is.
    """

    name = "Late fusion with the LLM"


def _feature_names(parts: list[str]) -> list[str]:
    """In the order of `_features`."""
    scores = [*parts, "popularity"]
    return [*scores, "inverse popularity", *(f"inverse popularity × {name}" for name in scores)]


def _features(
    parts: Mapping[str, Ranker],
    counts: Int[np.ndarray, " items_and_padding"],
    queries: Sequence[Query],
    candidates: Sequence[Int[np.ndarray, " _candidates"]],
) -> list[Float[np.ndarray, "_candidates features"]]:
    """For each query one row per candidate, in the candidates' order."""
    answers = [part.rank(queries, candidates) for part in parts.values()]
    rows = []
    for number, items in enumerate(candidates):
        cold = 1 / (1 + counts[items].astype(np.float64))
        scores = [_in_order(answer[number], items) for answer in answers]
        columns = [_standardised(column) for column in [*scores, -np.log(cold)]]
        rows.append(np.stack([*columns, _standardised(cold), *(cold * column for column in columns)], axis=1))
    return rows


def _in_order(ranking: Ranking, items: Int[np.ndarray, " candidates"]) -> Float[np.ndarray, " candidates"]:
    """A ranking's scores in the order in which the candidates were given."""
    order = np.argsort(ranking.items)
    found: Float[np.ndarray, " candidates"] = ranking.scores[order[np.searchsorted(ranking.items[order], items)]]
    return np.asarray(found, dtype=np.float64)


def _standardised(values: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " candidates"]:
    """Mean 0, deviation 1; all 0 where all are equal."""
    centred = values - values.mean()
    return np.asarray(centred / max(float(np.sqrt(np.square(centred).mean())), 1e-9))

"""What the pointer head's prior reads of each candidate: the CF model's score, similarity of texts, interaction counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from allmrec.alignment.joint_items import JointItemTable
from allmrec.cf.backbone import Backbone
from allmrec.cf.recommender import query_batch
from allmrec.core.errors import ConfigError
from allmrec.ranking import Query
from allmrec.recommend.prior import candidate_scores, conditional_logit, counts_of, fused_features, standardised
from allmrec.recommend.select import PointerConfig, PointerHead
from allmrec.text.similarity import TitleSimilarity

__all__ = ["PriorSample", "PriorScores", "user_states"]

# Of the squared weights with which the fused prior begins: late fusion's own.
_PENALTY = 1e-3

# Queries, their candidates, and the place of what was chosen among these.
PriorSample = tuple[Sequence[Query], Sequence[Int[np.ndarray, " _candidates"]], Int[np.ndarray, " _batch"]]


@torch.no_grad()
def user_states(backbone: Backbone, queries: Sequence[Query]) -> Float[Tensor, "batch d"]:
    """x_u of each query from a CF model. Items that it does not know are no part of a history."""
    known = [Query(q.history[q.history <= backbone.n_items], q.user) for q in queries]
    return backbone.user_vectors(query_batch(known, backbone.max_history))


@dataclass(frozen=True)
class PriorScores:
    """The prior's inputs for one table of items.

    Attributes:
        config: whether there is a prior, and what it reads.
        model: the CF model whose scores count.
        counts: training interactions by item number.
        texts: similarity of titles by the untouched encoder.
        similarity: the similarity that is read: `texts`, or that of the joint text vectors.

    Raises:
        ConfigError: the prior reads counts or texts, and none came.
    """

    config: PointerConfig
    model: Backbone
    counts: Int[Tensor, " items"] | None = None
    texts: TitleSimilarity | None = None
    similarity: TitleSimilarity | None = None

    def __post_init__(self) -> None:
        if self.config.cf_prior and self.config.prior == "fused" and self.counts is None:
            raise ConfigError("pointer.prior = 'fused' needs the items' interaction counts.")
        if self.config.reads_texts and self.texts is None:
            raise ConfigError("pointer.similarity = 'plain' needs the similarity of titles.")

    def on(self, joint: JointItemTable) -> PriorScores:
        """The same for another table of items, whose text vectors are compared where the configuration says so."""
        similarity = self.texts
        if self.config.reads_joint_texts:
            similarity = TitleSimilarity(joint.text, joint.has_text.cpu().numpy(), centred=True)
        return replace(self, similarity=similarity)

    def with_texts(self, vectors: Float[Tensor, "new dim"], present: Bool[Tensor, " new"]) -> PriorScores:
        """The same with titles of new items behind the others; see `TitleSimilarity.extended`."""
        return self if self.texts is None else replace(self, texts=self.texts.extended(vectors, present))

    def read(
        self,
        queries: Sequence[Query],
        candidates: Sequence[Int[np.ndarray, " _candidates"]],
        device: torch.device | str,
    ) -> tuple[Float[Tensor, "batch candidates"] | None, Float[Tensor, "batch candidates features"] | None]:
        """What the head adds to its logits.

        Args:
            queries: whom for.
            candidates: as many for each query.
            device: where to have it.

        Returns:
            The CF model's own scores x_u · E_i, where there is a prior (see `candidate_scores` for items that it does not know);
            and what late fusion reads beside them, where the prior is fused.
        """
        if not self.config.cf_prior:
            return None, None
        scores = candidate_scores(self.model, user_states(self.model, queries), candidates).to(device)
        if self.config.prior != "fused":
            return scores, None
        # As these are there wherever the prior is fused.
        texts, counts = cast(TitleSimilarity, self.similarity), cast(Tensor, self.counts)
        alike = [texts.scores(query.history, items) for query, items in zip(queries, candidates, strict=True)]
        return scores, fused_features(
            scores, torch.from_numpy(np.stack(alike)).to(scores), counts_of(counts, candidates).to(scores)
        )

    @torch.no_grad()
    def fit(self, head: PointerHead, samples: Iterable[PriorSample]) -> None:
        """Have the fused prior begin as late fusion would: the weights that explain choices best, words unread.

        What the language model reads is then learned beside it. Nothing happens where the prior is another one. The
        choices must be held out from the CF model, or its weight becomes too large.

        Args:
            head: whose weights begin so.
            samples: batches of choices.
        """
        if head.cf_weight is None or head.fused_weights is None:
            return
        rows, chosen = [], []
        for queries, candidates, targets in samples:
            scores, features = self.read(queries, candidates, head.cf_weight.device)
            if scores is not None and features is not None:
                rows.append(torch.cat([standardised(scores)[..., None], features], dim=-1))
                chosen.append(torch.from_numpy(targets))
        weights = conditional_logit(torch.cat(rows), torch.cat(chosen), _PENALTY)
        head.cf_weight.copy_(weights[0])
        head.fused_weights.copy_(weights[1:])

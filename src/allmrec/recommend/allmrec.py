"""A-LLMRec assembled: ranks given candidates, and recommends from the whole catalogue; knows no file and no metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator
from torch import Tensor

from allmrec.alignment.text_side import TextSide
from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ConfigError
from allmrec.data.ids import Id, id_text
from allmrec.data.interactions import InteractionDataset
from allmrec.prompting.template import ItemQuestion, UserQuestion
from allmrec.ranking import Query, Ranking, ranking_from_scores
from allmrec.recommend.alike import prompts_alike
from allmrec.recommend.by_id import IdRecommender
from allmrec.recommend.explain import ExplainConfig, Explainer
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.retrieve import RetrieveConfig, Retriever
from allmrec.recommend.rounds import rank_in_rounds

__all__ = ["ALLMRec", "NewItem", "Normalisation", "normalised"]

Normalisation = Literal["sum", "mean"]


class NewItem(Config):
    """An item that comes after training, known by its texts."""

    item_id: str = Field(min_length=1, description="Its id; a whole number is read as its digits.")
    title: str | None = Field(None, description="Its title, where it has one.")
    description: str | None = Field(None, description="Its description, where it has one.")
    categories: tuple[str, ...] = Field((), description="Its categories.")

    @field_validator("item_id", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> str:
        return id_text(value)


class ALLMRec(IdRecommender):
    """The assembled recommender.

    Args:
        dataset: vocabularies, catalogue and known histories.
        ranker: stage 2 with the frozen parts around it.
        method: how the language model answers. `score`: likelihood of each candidate's title, the paper's objective;
            `select`: the pointer head (ours).
        name: what a table calls it.
        normalisation: how a title's token log-probabilities become one score: their sum (exact likelihood) or mean.
        batch_size: queries in a forward pass.
        retrieve: how candidates are proposed from the whole catalogue.
        prompt_candidates: candidates in one prompt; stage 2 is trained on 20.
        text_side: gives the text half of stage 1 when new items come; none: there can be none.
    """

    def __init__(
        self,
        dataset: InteractionDataset,
        ranker: PromptedRanker,
        method: Literal["score", "select"] = "select",
        name: str = "A-LLMRec",
        normalisation: Normalisation = "sum",
        batch_size: int = 8,
        retrieve: RetrieveConfig | None = None,
        prompt_candidates: int = 20,
        text_side: Callable[[], TextSide] | None = None,
    ) -> None:
        super().__init__(dataset)
        self._ranker = ranker
        self._method, self._name = method, name
        self._normalisation, self._batch_size = normalisation, batch_size
        self._retrieve, self._prompt_candidates = retrieve or RetrieveConfig(), prompt_candidates
        self._text_side = text_side
        self.added: tuple[NewItem, ...] = ()
        self.added_texts: list[tuple[Tensor, Tensor]] = []
        self._retriever = Retriever(ranker, self._retrieve)
        ranker.eval()
        ranker.keeps_items = True

    @property
    def name(self) -> str:
        return self._name

    @property
    def ranker(self) -> PromptedRanker:
        """Stage 2 itself."""
        return self._ranker

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's candidates; queries whose prompts are alike in length share a forward pass."""
        rankings: dict[int, Ranking] = {}
        for group in prompts_alike(self._ranker, queries, candidates, self._batch_size):
            scores = self._scores([queries[n] for n in group], [candidates[n] for n in group])
            for n, row in zip(group, scores, strict=True):
                rankings[n] = ranking_from_scores(candidates[n], row)
        return [rankings[n] for n in range(len(queries))]

    def best(self, query: Query, k: int, candidates: int, exclude: Int[np.ndarray, " _seen"]) -> Ranking:
        """Retrieval proposes `candidates`, the language model ranks them."""
        return self.rank_proposed([query], candidates, [exclude])[0]

    def explain(
        self, query: Query, item_id: Id, question: ItemQuestion | None = None, config: ExplainConfig | None = None
    ) -> Iterator[str]:
        """What the language model says of an item, piece by piece as it is decoded; see `Explainer`.

        Args:
            query: whom for; see `query`.
            item_id: the item.
            question: what to ask; none: its genres.
            config: how long the answer may get.

        Raises:
            UnknownIdError: the catalogue does not hold the item.
        """
        return Explainer(self._ranker, question, config).stream(query, self._dataset.items.number(id_text(item_id)))

    def profile(
        self, query: Query, question: UserQuestion | None = None, config: ExplainConfig | None = None
    ) -> Iterator[str]:
        """What the language model says of the user, piece by piece as it is decoded; see `Explainer`.

        Args:
            query: who is spoken of; see `query`.
            question: what to ask; none: which genres the user likes.
            config: how long the answer may get.
        """
        config = config or ExplainConfig()
        return Explainer(self._ranker, question or config.profile, config).stream(query)

    def rank_proposed(
        self, queries: Sequence[Query], candidates: int, exclude: Sequence[Int[np.ndarray, " _seen"]]
    ) -> list[Ranking]:
        """Retrieve candidates from the whole catalogue for each query and rank them, in rounds where they are many.

        Args:
            queries: whom for.
            candidates: how many to retrieve for each.
            exclude: for each, items to leave out.

        Raises:
            ConfigError: fewer items are left than were asked for.
        """
        pairs = zip(queries, exclude, strict=True)
        proposed = [self._retriever.propose(query, candidates, without) for query, without in pairs]
        if candidates <= self._prompt_candidates:
            return self.rank(queries, proposed)
        size = self._prompt_candidates
        return [rank_in_rounds(self.rank, query, items, size) for query, items in zip(queries, proposed, strict=True)]

    def add_items(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Take up new items from their texts alone; they can be ranked, retrieved and named in histories at once.

        Args:
            items: for each `item_id`, and `title`, `description`, `categories` where there are any.

        Raises:
            ConfigError: an item without an id, with an unknown field or of a known id; or this model came without
                its sentence encoder. Then none is added.
        """
        if self._text_side is None:
            raise ConfigError("New items need the sentence encoder, and this model was put together without one.")
        rows = [parse_config(NewItem, item, f"new item {place}") for place, item in enumerate(items, start=1)]
        if not rows:
            return
        ids = [row.item_id for row in rows]
        known = [i for i in ids if i in self._dataset.items] + [i for i, n in Counter(ids).items() if n > 1]
        if known:
            raise ConfigError(f"{len(known)} of the new items are there already or given twice, e.g. {known[0]!r}.")
        titles, descriptions = [row.title or None for row in rows], [row.description or None for row in rows]
        side = self._text_side()
        q, has_text = side.vectors(titles, descriptions, [row.categories for row in rows])
        reads = self._ranker.config.pointer.reads_texts
        self.take_up(rows, q, has_text, side.title_vectors(titles) if reads else None)

    def take_up(
        self,
        rows: Sequence[NewItem],
        q: Float[Tensor, "new joint"],
        has_text: Bool[Tensor, " new"],
        texts: tuple[Float[Tensor, "new width"], Bool[Tensor, " new"]] | None = None,
    ) -> None:
        """`add_items` behind the encoder: with the joint text vectors at hand.

        Args:
            rows: the items; their ids are new.
            q, has_text: what `TextSide.vectors` gives for them.
            texts: what `TextSide.title_vectors` gives, where the ranker's prior reads it.
        """
        ids, categories = [row.item_id for row in rows], [tuple(row.categories) for row in rows]
        titles, descriptions = [row.title or None for row in rows], [row.description or None for row in rows]
        data = self._dataset
        self._dataset = replace(
            data,
            items=data.items.extended(ids),
            catalogue=data.catalogue.extended(titles, descriptions, categories),
        )
        self._ranker.add_items(self._ranker.joint.with_text_rows(q, has_text), titles, texts)
        self.added = (*self.added, *rows)
        if texts is not None:
            self.added_texts.append(texts)
        self._retriever = Retriever(self._ranker, self._retrieve)

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

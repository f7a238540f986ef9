"""A-LLMRec assembled: recommends from the whole catalogue, explains, and takes up items that come after training."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Self, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator
from torch import Tensor

from allmrec.alignment.text_side import TextSide
from allmrec.cf.fused import FusedBackbone
from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ConfigError
from allmrec.data.ids import Id, id_text
from allmrec.data.interactions import InteractionDataset
from allmrec.prompting.questions import ItemQuestion, UserQuestion
from allmrec.ranking import Query, Ranker, Ranking
from allmrec.recommend.explain import ExplainConfig, Explainer
from allmrec.recommend.item_indexer import ItemIndexer
from allmrec.recommend.language_ranker import LanguageRanker
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.recommender import Recommender
from allmrec.recommend.retrieve import RetrieveConfig, Retriever
from allmrec.recommend.retrievers import Retrievers

__all__ = ["ALLMRec", "NewItem", "NewVectors", "with_items"]


# What the encoder makes of new items: joint text vectors, which of them have a text, and untouched vectors of titles with which
# of them have one, where those are read.
NewVectors: TypeAlias = tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]


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


class ALLMRec(Recommender):
    """A-LLMRec assembled: recommends from the whole catalogue, explains, and takes up new items.

    Args:
        dataset: vocabularies, catalogue and known histories.
        prompted: stage 2 with the frozen parts around it.
        ranker_of: makes what ranks candidates of it; made anew when items are added.
        retrieve: how candidates are retrieved from the whole catalogue.
        candidates: how many are retrieved unless a request says another number.
        prompt_candidates: candidates in one prompt, where the ranker gives each of them a score; stage 2 is trained on 20.
        text_side: gives the text half of stage 1 when new items come; none: there can be none.
        towers: the CF model and the text tower as one, where they are trained.
        popular: see `Recommender`.
        indexer: gives indices of items; none: as `retrieve` has it, in memory.
    """

    def __init__(
        self,
        dataset: InteractionDataset,
        prompted: PromptedRanker,
        ranker_of: Callable[[PromptedRanker], Ranker] = LanguageRanker,
        retrieve: RetrieveConfig | None = None,
        candidates: int = 20,
        prompt_candidates: int | None = 20,
        text_side: Callable[[], TextSide] | None = None,
        towers: FusedBackbone | None = None,
        popular: Callable[[int], Retriever] | None = None,
        indexer: ItemIndexer | None = None,
    ) -> None:
        self._prompted, self._ranker_of, self._towers = prompted, ranker_of, towers
        self._answers = ranker_of(prompted)
        # Shared with copies that know more items (`with_new_items`).
        self._retrievers = Retrievers(prompted, retrieve or RetrieveConfig(), towers, indexer)
        super().__init__(dataset, self._answers, self._retrievers.known, candidates, prompt_candidates, popular=popular)
        # The encoder is loaded when the first new items come, and stays.
        self._text_side = None if text_side is None else cache(text_side)
        self.added: tuple[NewItem, ...] = ()
        self.added_texts: list[tuple[Tensor, Tensor]] = []

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """Rank each query's own candidates; see `Ranker`."""
        return self._answers.rank(queries, candidates)

    @property
    def ranker(self) -> PromptedRanker:
        """Stage 2 itself; another one after items were added."""
        return self._prompted

    def explain(
        self, query: Query, item_id: Id, question: ItemQuestion | None = None, config: ExplainConfig | None = None
    ) -> Iterator[str]:
        """What the language model says of an item, piece by piece as it is decoded; see `Explainer`.

        Args:
            query: whom for.
            item_id: the item.
            question: what to ask; none: its genres.
            config: how long the answer may get.

        Raises:
            UnknownIdError: the catalogue does not hold the item.
        """
        return Explainer(self._prompted, question, config).stream(query, self._dataset.items.number(id_text(item_id)))

    def profile(
        self, query: Query, question: UserQuestion | None = None, config: ExplainConfig | None = None
    ) -> Iterator[str]:
        """What the language model says of the user, piece by piece as it is decoded; see `Explainer`.

        Args:
            query: who is spoken of.
            question: what to ask; none: which genres the user likes.
            config: how long the answer may get.
        """
        config = config or ExplainConfig()
        return Explainer(self._prompted, question or config.profile, config).stream(query)

    def add_items(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Take up new items from their texts alone; they can be ranked, retrieved and named in histories at once.

        Args:
            items: for each `item_id`, and `title`, `description`, `categories` where there are any.

        Raises:
            ConfigError: an item without an id, with an unknown field or of a known id; or this model came without
                its sentence encoder. Then none is added.
        """
        rows = self.checked_items(items)
        if rows:
            self.take_up(rows, *self.vectors_of(rows))

    @property
    def reads_texts(self) -> bool:
        """Whether the ranker's prior or the text tower reads new items' untouched text vectors."""
        return self._prompted.config.pointer.reads_texts or self._towers is not None

    def checked_items(self, items: Sequence[Mapping[str, Any]]) -> list[NewItem]:
        """New items as `add_items` takes them; raises what it raises."""
        if self._text_side is None:
            raise ConfigError("New items need the sentence encoder, and this model was put together without one.")
        rows = [parse_config(NewItem, item, f"new item {place}") for place, item in enumerate(items, start=1)]
        ids = [row.item_id for row in rows]
        known = [i for i in ids if i in self._dataset.items] + [i for i, n in Counter(ids).items() if n > 1]
        if known:
            raise ConfigError(f"{len(known)} of the new items are there already or given twice, e.g. {known[0]!r}.")
        return rows

    def vectors_of(self, rows: Sequence[NewItem]) -> NewVectors:
        """What `take_up` needs of new items beside themselves: the encoder reads their texts.

        Raises:
            ConfigError: this model came without its sentence encoder.
        """
        if self._text_side is None:
            raise ConfigError("New items need the sentence encoder, and this model was put together without one.")
        titles, descriptions = [row.title or None for row in rows], [row.description or None for row in rows]
        side = self._text_side()
        parts = titles, descriptions, [row.categories for row in rows]
        q, has_text = side.vectors(*parts)
        return q, has_text, side.untouched_vectors(*parts) if self.reads_texts else None

    def with_new_items(
        self,
        rows: Sequence[NewItem],
        q: Float[Tensor, "new joint"],
        has_text: Bool[Tensor, " new"],
        texts: tuple[Float[Tensor, "new dim"], Bool[Tensor, " new"]] | None = None,
    ) -> Self:
        """The same model with new items, as `take_up` takes them; this one stays as it is, weights are shared."""
        other = copy.copy(self)
        other.added_texts = list(self.added_texts)
        other.take_up(rows, q, has_text, texts)
        return other

    def take_up(
        self,
        rows: Sequence[NewItem],
        q: Float[Tensor, "new joint"],
        has_text: Bool[Tensor, " new"],
        texts: tuple[Float[Tensor, "new dim"], Bool[Tensor, " new"]] | None = None,
    ) -> None:
        """`add_items` behind the encoder: with the joint text vectors at hand.

        Args:
            rows: the items; their ids are new.
            q, has_text: what `TextSide.vectors` gives for them.
            texts: what `TextSide.untouched_vectors` gives, where the ranker's prior or the text tower reads it.
        """
        self._dataset = with_items(self._dataset, rows)
        titles = [row.title or None for row in rows]
        self._prompted = self._prompted.with_items(self._prompted.joint.with_text_rows(q, has_text), titles, texts)
        self._ranker = self._answers = self._ranker_of(self._prompted)
        self.added = (*self.added, *rows)
        if texts is not None:
            self.added_texts.append(texts)
            if self._towers is not None:
                self._towers = self._towers.with_new_items(texts[0])
        self._retriever = self._retrievers.with_items(self._prompted, self._towers)


def with_items(dataset: InteractionDataset, rows: Sequence[NewItem]) -> InteractionDataset:
    """A data set with new items behind the others, whose numbers stay."""
    titles, descriptions = [row.title or None for row in rows], [row.description or None for row in rows]
    return replace(
        dataset,
        items=dataset.items.extended([row.item_id for row in rows]),
        catalogue=dataset.catalogue.extended(titles, descriptions, [tuple(row.categories) for row in rows]),
    )

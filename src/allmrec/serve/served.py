"""One version of a model as it is served: its systems, with the items that came after training. It never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32, Int, Int64

from allmrec.core.errors import ConfigError, UnknownIdError
from allmrec.data.interactions import InteractionDataset
from allmrec.pipeline.run import Run
from allmrec.ranking import Query, Ranker, Ranking
from allmrec.recommend.allmrec import ALLMRec, NewItem, NewVectors, with_items
from allmrec.recommend.recommender import Recommender
from allmrec.recommend.request import Recommendations, ResolvedRequest
from allmrec.recommend.rounds import rank_in_rounds

__all__ = ["Offer", "Served", "joined_vectors"]

Items: TypeAlias = Int[np.ndarray, " _items"]


@dataclass(frozen=True)
class Offer:
    """A system that a server offers.

    Attributes:
        name: of the table of systems.
        title: as a report calls it.
        part: what kind of thing answers: llm, towers, cf, popularity, or baseline.
        recommender: recommends from the whole catalogue.
        ranker: ranks given items.
        slow: whether it asks the language model.
        at_a_time: how many given items it ranks at a time; None: any number.
        n_known: items up to this number are known to it.
    """

    name: str
    title: str
    part: str
    recommender: Recommender
    ranker: Ranker
    slow: bool
    at_a_time: int | None
    n_known: int

    def knows(self, query: Query) -> bool:
        """Whether any item of a history is known to it."""
        return bool((query.history <= self.n_known).any())

    def answer(self, requests: Sequence[ResolvedRequest]) -> list[Recommendations]:
        """Recommend, all requests together."""
        return self.recommender.answer(requests)

    def rank(self, query: Query, items: Items) -> Ranking:
        """Put given items in order; those that the system does not know are left out."""
        items = items[items <= self.n_known]
        query = Query(query.history[query.history <= self.n_known], query.user)
        if not len(items):
            return Ranking(items, np.zeros(0, dtype=np.float32))
        ranker = self.recommender if isinstance(self.recommender, ALLMRec) else self.ranker
        if self.at_a_time is None:
            return ranker.rank([query], [items])[0]
        return rank_in_rounds(ranker.rank, [query], [items], self.at_a_time)[0]

    def scores(self, query: Query, items: Items) -> dict[int, float]:
        """Scores of given items, those that it does not know left out."""
        ranking = self.rank(query, items)
        return dict(zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Served:
    """A version of a model, with the items that are known now.

    Attributes:
        label: which of the versions side by side it is: main or beside.
        version: which weights, as 12 hex digits.
        run: the run.
        offers: by name, the dearest first.
        default: what answers unless a request says another.
        chain: names of the offers that take over from one another, the dearest first.
        dataset: with the new items.
        n_trained: items up to this number came with the run.
        withdrawn: numbers of items that are not recommended any more.
    """

    label: str
    version: str
    run: Run
    offers: Mapping[str, Offer]
    default: str
    chain: tuple[str, ...]
    dataset: InteractionDataset
    n_trained: int
    withdrawn: Int64[np.ndarray, " withdrawn"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def offer(self, name: str | None) -> Offer:
        """A system by its name.

        Raises:
            ConfigError: it is not offered.
        """
        found = self.offers.get(name or self.default)
        if found is None:
            raise ConfigError(f"System {name!r} is not served here; served are {', '.join(self.offers)}.")
        return found

    def cheaper(self, name: str) -> list[Offer]:
        """What takes over where a system cannot answer, the best first."""
        order = [self.offers[other] for other in self.chain]
        if name in self.chain:
            return order[self.chain.index(name) + 1 :]
        return [offer for offer in order if not offer.slow and offer.name != name]

    @property
    def last(self) -> Offer:
        """What can answer anybody."""
        return self.offers[self.chain[-1]]

    @property
    def speaker(self) -> ALLMRec | None:
        """What can speak and take up new items, where that is served."""
        found = (offer.recommender for offer in self.offers.values() if isinstance(offer.recommender, ALLMRec))
        return next(found, None)

    def with_items(self, rows: Sequence[NewItem], vectors: NewVectors | None, withdrawn: Sequence[str] = ()) -> Served:
        """The same version, as it was loaded, with new items.

        Args:
            rows: the items.
            vectors: what `ALLMRec.vectors_of` gives for them; None: nothing here reads texts.
            withdrawn: ids of items that are not recommended any more; those that are not there do not matter.
        """
        dataset = with_items(self.dataset, rows) if rows else self.dataset
        offers: dict[str, Offer] = {}
        for name, offer in self.offers.items():
            model = offer.recommender
            if not rows:
                offers[name] = offer
            elif isinstance(model, ALLMRec) and vectors is not None:
                offers[name] = replace(offer, recommender=model.with_new_items(rows, *vectors), n_known=dataset.n_items)
            else:
                offers[name] = replace(offer, recommender=model.with_dataset(dataset))
        numbers = sorted(number for name in withdrawn if (number := dataset.items.get(name)) is not None)
        return replace(self, offers=offers, dataset=dataset, withdrawn=np.asarray(numbers, dtype=np.int64))

    @cached_property
    def categories(self) -> dict[str, Int64[np.ndarray, " items"]]:
        """Item numbers by category."""
        found: dict[str, list[int]] = {}
        for number in range(1, self.dataset.n_items + 1):
            for category in self.dataset.catalogue.categories[number]:
                found.setdefault(category, []).append(number)
        return {name: np.asarray(numbers, dtype=np.int64) for name, numbers in sorted(found.items())}

    def of_categories(self, names: Sequence[str]) -> Int64[np.ndarray, " items"]:
        """Numbers of the items that have any of the categories.

        Raises:
            ConfigError: the catalogue has none.
            UnknownIdError: it has none of that name.
        """
        if not self.categories:
            raise ConfigError("This catalogue has no categories to choose by.")
        unknown = [name for name in names if name not in self.categories]
        if unknown:
            known = ", ".join(list(self.categories)[:20])
            raise UnknownIdError(f"There is no category {unknown[0]!r} among {len(self.categories)}: {known}.")
        return np.unique(np.concatenate([self.categories[name] for name in names]))

    @cached_property
    def titles(self) -> dict[str, int]:
        """Item numbers by title, letters' case and outer blanks aside; of equal titles the first."""
        found: dict[str, int] = {}
        for number, title in enumerate(self.dataset.catalogue.titles):
            if title:
                found.setdefault(title.casefold().strip(), number)
        return found

    def find(self, text: str, limit: int, after: int = 0) -> list[int]:
        """Numbers of items whose title holds every word of a text, or whose id is the text."""
        words = text.casefold().split()
        titles, found = self.folded_titles, []
        exact = self.dataset.items.get(text.strip())
        if exact is not None and exact > after:
            found.append(exact)
        for number in range(after + 1, len(titles)):
            if len(found) >= limit:
                break
            if number != exact and all(word in titles[number] for word in words):
                found.append(number)
        return found

    @cached_property
    def folded_titles(self) -> list[str]:
        """Titles to search in, by item number."""
        return [(title or "").casefold() for title in self.dataset.catalogue.titles]

    @cached_property
    def vectors(self) -> dict[str, Float32[np.ndarray, "rows dim"]]:
        """Item vectors of length 1 by what they are made of: joint, where A-LLMRec is served, and cf."""
        found: dict[str, Float32[np.ndarray, "rows dim"]] = {}
        rows = self.dataset.n_items + 1
        speaker = self.speaker
        if speaker is not None:
            found["joint"] = joined_vectors(speaker.ranker.joint.vectors().float().cpu().numpy(), rows)
            found["cf"] = joined_vectors(speaker.ranker.prior.item_vectors().detach().float().cpu().numpy(), rows)
        else:
            for offer in self.offers.values():
                backbone = getattr(offer.ranker, "backbone", None)
                if offer.part == "cf" and backbone is not None:
                    found["cf"] = joined_vectors(backbone.item_vectors().detach().float().cpu().numpy(), rows)
        return found

    def about(self) -> dict[str, Any]:
        """What `GET /v1/model` says of it."""
        data = self.dataset
        return {
            "label": self.label,
            "version": self.version,
            "default_system": self.default,
            "systems": [
                {"name": o.name, "title": o.title, "part": o.part, "asks_language_model": o.slow}
                for o in self.offers.values()
            ],
            "fallbacks": list(self.chain),
            "users": data.n_users,
            "items": data.n_items,
            "items_added": data.n_items - self.n_trained,
            "items_withdrawn": len(self.withdrawn),
            "categories": list(self.categories),
            "language_model": self.run.config.llm.name if self.speaker is not None else None,
            "encoder": self.run.config.encoder.name,
            "takes_new_items": self.speaker is not None,
            "data_hash": self.run.data_hash[:12],
        }


def joined_vectors(vectors: Float32[np.ndarray, "known dim"], rows: int) -> Float32[np.ndarray, "rows dim"]:
    """Vectors less their mean, of length 1; 0 for padding and for items that have none.

    Joint vectors differ by little around a value that all share, so their mean is taken out first.
    """
    centred = vectors - vectors[1:].mean(axis=0)
    found = np.zeros((rows, vectors.shape[1]), dtype=np.float32)
    found[: len(vectors)] = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
    found[0] = 0
    return found

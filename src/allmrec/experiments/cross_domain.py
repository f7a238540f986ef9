"""Systems of a run asked about another data set, which nothing was trained on: its items are known by their texts alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int

from allmrec.baselines.llm_only import LLMOnly
from allmrec.baselines.tallrec import TALLRec, TALLRecConfig
from allmrec.baselines.text_similarity import TextSimilarity
from allmrec.cf.backbone import SequenceBackbone
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.text_items import with_new_items
from allmrec.core.errors import ConfigError
from allmrec.data.interactions import InteractionDataset
from allmrec.pipeline.run import Run
from allmrec.ranking import Query, Ranker, Ranking
from allmrec.recommend.allmrec import ALLMRec
from allmrec.stages.frozen import language_model, untouched_encoder
from allmrec.systems.baselines import TextSimilarityConfig
from allmrec.systems.kinds import System
from allmrec.systems.recommending import open_recommender
from allmrec.systems.registry import open_systems, system_kind
from allmrec.text.bank import TextBank
from allmrec.text.similarity import TitleSimilarity

__all__ = ["across", "check_across"]

_BY_TEXT = ("text-similarity", "text-tower", "llm-only", "tallrec")


def check_across(system: str) -> None:
    """Refuse a system that knows items by their interactions alone: of a second data set's it would know nothing.

    Raises:
        ConfigError: names the systems that can be asked.
    """
    if not (system.startswith("allmrec") or system in _BY_TEXT):
        raise ConfigError(
            f"{system} cannot be asked about items of another data set: it knows items by what it was trained on. Systems that "
            f"can: those of A-LLMRec (allmrec, allmrec-select, …), {', '.join(_BY_TEXT)}."
        )


def across(run: Run, system: str, target: InteractionDataset) -> System:
    """A system of a run, ready to rank the items of another data set by that data set's numbers.

    Items of A-LLMRec take their text vectors (`q`), which is the paper's SBERT variant: no `e` of theirs was ever trained.

    Args:
        run: trained.
        system: its name.
        target: the other data; its titles and descriptions are read, its interactions are not.

    Raises:
        ConfigError: the system cannot, see `check_across`.
        ArtifactError: a stage is missing, of other inputs, or damaged.
    """
    check_across(system)
    if system.startswith("allmrec"):
        opened = open_recommender(run, system)
        model = opened.recommender
        if not isinstance(model, ALLMRec):
            raise ConfigError(f"{system} is no way of answering of A-LLMRec.")
        catalogue = target.catalogue
        model.add_items(
            [
                # The same id in two shops is two items.
                {
                    "item_id": f"other/{name}",
                    "title": catalogue.titles[number],
                    "description": catalogue.descriptions[number],
                    "categories": catalogue.categories[number],
                }
                for number, name in enumerate(target.items, start=1)
            ]
        )
        stages = opened.system.stages
        return System(
            Behind(model, opened.system.ranker.name, run.dataset.n_items), opened.system.titles, stages=stages
        )
    (found,) = open_systems(run, [system]).values()
    ranker = _by_text(run, system, found.ranker, target)
    return System(ranker, found.titles, found.note, stages=found.stages)


def _by_text(run: Run, system: str, own: Ranker, target: InteractionDataset) -> Ranker:
    """A system that reads texts on the texts of another data set."""
    titles, answer, config = target.catalogue.titles, run.config.answer, run.config
    batch = max(1, answer.batch_size // 2)
    if system == "llm-only":
        prompt = config.tune.prompt
        return LLMOnly(language_model(run), titles, prompt.template, prompt.budget, answer.normalisation, batch)
    kind = system_kind(system)
    settings = None if kind.settings is None else kind.settings.of(config)
    if isinstance(settings, TALLRecConfig):
        weights = run.tensors(kind.stages(config)[0])
        return TALLRec.from_arrays(weights, language_model(run), titles, settings, answer.normalisation, batch)
    bank = TextBank(untouched_encoder(run), titles, device=run.device)
    vectors, present = bank.all_vectors(description="encode titles").cpu(), torch.from_numpy(bank.present)
    if isinstance(settings, TextSimilarityConfig):
        tensors = {"vectors": vectors, "present": present}
        return TextSimilarity(TitleSimilarity.from_tensors(tensors, settings.max_history))
    if not (isinstance(own, BackboneRecommender) and isinstance(own.backbone, SequenceBackbone)):
        raise ConfigError(f"{system} is no model on texts.")
    tower = with_new_items(own.backbone, vectors[1:].to(run.device))
    return Behind(BackboneRecommender(tower), own.name, run.dataset.n_items)


class Behind:
    """A system that knows another data set's items behind its own, asked by that data set's numbers.

    Args:
        system: ranks numbers from 1 on, its own first.
        name: as it stands in a table.
        own: how many items are its own.
    """

    def __init__(self, system: ALLMRec | BackboneRecommender, name: str, own: int) -> None:
        self._system, self.name, self._own = system, name, own

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """See `Ranker`; nobody who is asked about is a user of the system's own data."""
        asked = [Query(query.history + self._own) for query in queries]
        found = self._system.rank(asked, [items + self._own for items in candidates])
        return [Ranking(ranking.items - self._own, ranking.scores) for ranking in found]

"""Which system of a run recommends, and who proposes to it from the whole catalogue; judges nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from allmrec.core.errors import ConfigError
from allmrec.core.log import logger
from allmrec.evaluation import CatalogueRecommender, EveryItem
from allmrec.pipeline.baselines import BASELINES
from allmrec.pipeline.run import Announce, Run
from allmrec.pipeline.stages import stage_is_current
from allmrec.pipeline.systems import System, backbone_stage, open_systems, trained_systems
from allmrec.pipeline.variants import VARIANTS, open_variant
from allmrec.ranking import Query, Ranking, Recommender
from allmrec.recommend.by_id import IdRecommender, TopOfCatalogue

__all__ = ["recommending"]


class Proposed:
    """A system that ranks few items at a time, over the whole catalogue: another one proposes.

    Args:
        recommender: ranks.
        proposer: names the best of the catalogue by its own lights.
    """

    def __init__(self, recommender: Recommender, proposer: CatalogueRecommender) -> None:
        self._recommender, self._proposer = recommender, proposer

    @property
    def name(self) -> str:
        return self._recommender.name

    def top(self, queries: Sequence[Query], exclude: Sequence[Int[np.ndarray, " _seen"]], k: int) -> list[Ranking]:
        proposed = [ranking.items for ranking in self._proposer.top(queries, exclude, k)]
        return self._recommender.rank(queries, proposed)


def recommending(run: Run, name: str | None = None, announce: Announce = logger.info) -> IdRecommender:
    """A system of a run that recommends by ids; to what asks the language model, the run's CF model proposes, or
    popularity.

    Args:
        run: a trained run.
        name: of SYSTEMS, or `allmrec`; none: A-LLMRec where it is trained, else the one system that is.
        announce: told where another recommends, or proposes, than might be expected.

    Raises:
        ConfigError: an unknown system, one that the run cannot have, or several to choose from.
        ArtifactError: a stage that it needs is missing, of other inputs, or damaged.
    """
    if name is None:
        name = _only_one(run, announce)
    if name == "allmrec":
        return run.recommender()
    if name in VARIANTS:
        return open_variant(run, name).recommender()
    system = next(iter(open_systems(run, [name]).values()))
    if isinstance(system.recommender, IdRecommender):
        return system.recommender
    if isinstance(system.recommender, CatalogueRecommender):
        return TopOfCatalogue(run.dataset, system.recommender)
    # What asks the language model ranks few items at a time.
    if system.titles or (name in BASELINES and BASELINES[name].llm):
        return TopOfCatalogue(run.dataset, Proposed(system.recommender, _proposer(run, system, announce)))
    return TopOfCatalogue(run.dataset, EveryItem(system.recommender, run.dataset.n_items, run.config.seed))


def _only_one(run: Run, announce: Announce) -> str:
    """A-LLMRec where it is trained; else the one system that is."""
    if (run.path / "tune").is_dir():
        return "allmrec"
    there = trained_systems(run)[0]
    if len(there) > 1:
        raise ConfigError(f"{run.path} has {', '.join(there)}; say which is to recommend with --system.")
    if there:
        return there[0]
    if (run.path / "pretrain").is_dir():
        announce(f"The CF model recommends: A-LLMRec itself is not trained in {run.path}. allmrec train {run.path}")
        return run.config.pretrain.backbone
    return "allmrec"


def _proposer(run: Run, system: System, announce: Announce) -> CatalogueRecommender:
    """The run's CF model; where none is trained, popularity, and that is said."""
    name = run.config.pretrain.backbone
    by = "backbone"
    if not stage_is_current(run.path, backbone_stage(run)):
        by = "popularity"
        announce(
            f"No CF model is trained in {run.path}: popularity proposes what {system.recommender.name} ranks. "
            f"For better proposals: allmrec train {run.path} --system {name}"
        )
    proposer = open_systems(run, [by])[by].recommender
    if isinstance(proposer, CatalogueRecommender):
        return proposer
    return EveryItem(proposer, run.dataset.n_items, run.config.seed)

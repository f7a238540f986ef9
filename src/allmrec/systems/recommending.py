"""Systems of a run that recommend from the whole catalogue: each with its ranker, its retriever and its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from allmrec.baselines.popularity import Popularity
from allmrec.cf.fused import FusedBackbone
from allmrec.cf.recommender import BackboneRecommender
from allmrec.core.artifacts import read_tensors
from allmrec.core.errors import ConfigError
from allmrec.core.log import logger
from allmrec.core.seeding import numpy_generator
from allmrec.core.tensors import Shape, check_finite, content_of, expected
from allmrec.data.interactions import InteractionDataset
from allmrec.pipeline.run import Log, Run, StageKind
from allmrec.ranking import Query, Ranker
from allmrec.recommend.allmrec import ALLMRec, NewItem, with_items
from allmrec.recommend.item_indexer import ItemIndexer
from allmrec.recommend.recommender import Recommender
from allmrec.recommend.retrieve import AllItems, BackboneRetriever, RankerRetriever, Retriever
from allmrec.stages.align import text_side
from allmrec.stages.cf import PRETRAIN, backbone, cf_in_use, cold_rows, known_counts
from allmrec.stages.tune import TUNE, allmrec_stages
from allmrec.systems.kinds import System, stages_of
from allmrec.systems.registry import all_there, open_systems, system_kind, trained_systems
from allmrec.systems.towers import TOWERS, fused

__all__ = [
    "Opened",
    "allmrec",
    "allmrec_name",
    "catalogue_systems",
    "chosen_system",
    "indexer",
    "known_items",
    "open_recommender",
    "recommender",
    "recommending_stages",
    "retrieve_by_towers",
]

M = TypeVar("M", bound=ALLMRec)

# In a run's folder: indices of large catalogues, which may be removed at any time.
INDEX_FOLDER = ".index"


@dataclass(frozen=True)
class Opened:
    """A system of a run that recommends.

    Attributes:
        name: of the table.
        system: as it ranks given candidates.
        recommender: as it recommends from the whole catalogue.
    """

    name: str
    system: System
    recommender: Recommender


def recommender(run: Run, name: str | None = None, log: Log = logger.info) -> Recommender:
    """A system of a run that recommends from the whole catalogue; see `open_recommender`."""
    return open_recommender(run, name, log).recommender


def open_recommender(run: Run, name: str | None = None, log: Log = logger.info) -> Opened:
    """A system of a run that recommends from the whole catalogue.

    For what asks the language model, which ranks few items at a time, A-LLMRec's retriever, both towers, the run's CF model
    or, where none is trained, popularity retrieves.

    Args:
        run: a trained run.
        name: of SYSTEMS; none: A-LLMRec where it is trained, else the one system that is.
        log: takes a line where another system recommends, or retrieves, than might be expected.

    Raises:
        ConfigError: an unknown system, one that the run cannot have, or several to choose from.
        ArtifactError: a stage that it needs is missing, of other inputs, or damaged.
    """
    name = chosen_system(run, name, log)
    kind = system_kind(name)
    system = next(iter(open_systems(run, [name]).values()))
    if system.answers is not None:
        return Opened(name, system, _assembled(kind.run_of(run), system, ALLMRec))
    config, n_items = run.config, run.dataset.n_items
    ranker: Ranker | None = system.ranker
    retriever: Retriever = AllItems(n_items, config.seed)
    if kind.prompted:
        retriever = _cf_retriever(run, system.ranker.name, log)
    elif isinstance(system.ranker, BackboneRecommender):
        # Its scores of all items are its ranking.
        ranker, retriever = None, BackboneRetriever(system.ranker.backbone, indexer(run), name)
    made = Recommender(
        known_items(run),
        ranker,
        retriever,
        config.answer.retrieve.items,
        config.tune.candidates if kind.prompted else None,
        system.ranker.name,
        n_items,
        _popular(run),
    )
    return Opened(name, system, made)


def chosen_system(run: Run, name: str | None = None, log: Log = logger.info) -> str:
    """The entry of the table that recommends: the one that is named, else A-LLMRec where it is trained, else the one that is.

    Nothing is loaded.

    Args:
        run: a trained run.
        name: of SYSTEMS; none: see above.
        log: takes a line where another system recommends than might be expected.

    Raises:
        ConfigError: an unknown system, or several to choose from.
    """
    # The run's own CF model by its own name.
    named = "backbone" if name == run.config.pretrain.backbone else name
    return system_kind(_only_one(run, log) if named is None else named).name


def recommending_stages(run: Run, name: str) -> dict[str, str]:
    """What a system recommends with from the whole catalogue: the key of each stage, those that retrieve for it among them.

    Nothing is loaded.

    Args:
        run: a trained run.
        name: of SYSTEMS.

    Raises:
        ConfigError: an unknown system, or one that the run has no room for.
    """
    kind = system_kind(name)
    stages = list(stages_of(run, kind))
    if kind.prompted:
        if retrieve_by_towers(run):
            stages += stages_of(run, TOWERS)
        elif run.has(cf_in_use(run.config)):
            stages.append(run.stage(cf_in_use(run.config)))
    return {stage.label: stage.key for stage in stages}


def allmrec_name(run: Run) -> str:
    """The entry of the table that is A-LLMRec as this run trained it."""
    return "allmrec-select" if run.method == "select" else "allmrec"


def catalogue_systems(run: Run, log: Log = logger.info) -> list[str]:
    """Names of what a run has that is worth ranking the whole catalogue with.

    All that ranks without the language model, save the CF model that something was held out from, and A-LLMRec as the run
    trained it.

    Args:
        run: the run.
        log: takes a line about what is left out because it is not trained, or trained on other inputs.

    Raises:
        ArtifactError: nothing is trained, or a stage of A-LLMRec is damaged.
    """
    there = all_there(run, log)
    names = [name for name in there if not system_kind(name).prompted and name != "backbone-held-out"]
    if allmrec_name(run) in there:
        run.check(allmrec_stages(run.config))
        names.append(allmrec_name(run))
    return names


def allmrec(run: Run, make: Callable[..., M]) -> M:
    """A-LLMRec as this run trained it.

    Args:
        run: the run.
        make: `ALLMRec`, or a class made of it.

    Raises:
        ArtifactError: the run is not trained, or damaged.
    """
    return _assembled(run, open_systems(run, [allmrec_name(run)])[allmrec_name(run)], make)


def allmrec_parts(run: Run) -> list[StageKind]:
    """The stages that A-LLMRec recommends with, each once: its own, and the towers' where these retrieve for it."""
    found = dict.fromkeys(allmrec_stages(run.config))

    def visit(kind: StageKind) -> None:
        for parent in kind.parents(run.config):
            visit(parent)
        found.setdefault(kind)

    if retrieve_by_towers(run):
        for kind in TOWERS.stages(run.config):
            visit(kind)
    return list(found)


def known_items(run: Run) -> InteractionDataset:
    """The run's data with the items that were added before it was saved."""
    return with_items(run.dataset, _added(run))


def _assembled(run: Run, system: System, make: Callable[..., M]) -> M:
    """The one place where A-LLMRec is put together, whichever way it answers."""
    config, answers = run.config, system.answers
    if answers is None:
        raise ConfigError(f"{system.ranker.name} is not A-LLMRec.")
    prompted, below = answers.prompted, config.answer.cold_below
    if below and not bool(prompted.joint.from_text.any()):
        prompted = prompted.with_joint(prompted.joint.with_source(cold_rows(run, below)))
    model = make(
        run.dataset,
        prompted,
        answers.ranker_of,
        config.answer.retrieve,
        config.answer.retrieve.items,
        config.tune.candidates if answers.scores_each else None,
        lambda: text_side(run),
        _towers(run),
        _popular(run),
        indexer(run),
    )
    if rows := _added(run):
        path, n = run.path / "published.safetensors", len(rows)
        kept = read_tensors(path)
        check_finite(kept, path)
        wanted: dict[str, Shape] = {
            "added_text": ("float", (n, None)),
            "added_has_text": ("bool", (n,)),
        }
        if model.reads_texts:
            wanted |= {"added_titles": ("float", (n, None)), "added_has_title": ("bool", (n,))}
        with content_of(path, "Save the recommender again."):
            expected(kept, wanted)
            texts = (kept["added_titles"], kept["added_has_title"]) if model.reads_texts else None
            model.take_up(rows, kept["added_text"], kept["added_has_text"], texts)
    return model


def retrieve_by_towers(run: Run) -> bool:
    """Whether both towers retrieve for systems that rank few items: they are trained, and `answer.retrieve.by` lets them."""
    return run.config.answer.retrieve.by in ("auto", "towers") and all(map(run.has, TOWERS.stages(run.config)))


def indexer(run: Run) -> ItemIndexer:
    """Gives indices of a run's items; kept in the run's folder, but not of a saved recommender, which may be somebody else's."""
    config, data = run.config.answer.retrieve, run.dataset

    def users(count: int) -> list[Query]:
        chosen = numpy_generator(run.config.seed, "queries of an index").permutation(data.n_users)[:count]
        return [Query(data.sequence(int(user)), int(user)) for user in chosen]

    return ItemIndexer(
        config.approximate_above,
        config.compressed_above,
        config.recall,
        config.items,
        None if run.published is not None else run.path / INDEX_FOLDER,
        users,
    )


def _towers(run: Run) -> FusedBackbone | None:
    return fused(run) if retrieve_by_towers(run) else None


def _added(run: Run) -> list[NewItem]:
    rows: list[dict[str, Any]] = [] if run.published is None else run.published["added"]
    with content_of(run.path / "run.json", "Save the recommender again."):
        return [NewItem.model_validate(row) for row in rows]


def _only_one(run: Run, log: Log) -> str:
    """A-LLMRec where it is trained; else the one system that is."""
    if (run.path / TUNE.name).is_dir():
        return allmrec_name(run)
    there = trained_systems(run)[0]
    if len(there) > 1:
        raise ConfigError(f"{run.path} has {', '.join(there)}; say which is to recommend with --system.")
    if there:
        return there[0]
    if (run.path / PRETRAIN.name).is_dir():
        log(f"The CF model recommends: A-LLMRec itself is not trained in {run.path}. allmrec train {run.path}")
        return "backbone"
    return allmrec_name(run)


def _cf_retriever(run: Run, whom: str, log: Log) -> Retriever:
    """By the run's CF model; where none is trained by popularity, and that is logged."""
    in_use = cf_in_use(run.config)
    if (towers := _towers(run)) is not None:
        return BackboneRetriever(towers, indexer(run), "towers")
    if run.has(in_use):
        return BackboneRetriever(backbone(run, in_use), indexer(run))
    log(
        f"No CF model is trained in {run.path}: popularity retrieves what {whom} ranks. "
        f"For better candidates: allmrec train {run.path} --system {run.config.pretrain.backbone}"
    )
    return _popular(run)(run.dataset.n_items)


def _popular(run: Run) -> Callable[[int], Retriever]:
    """Gives what finds the most popular of so many items, as the system `popularity` orders them; counted when first needed."""

    @lru_cache(maxsize=1)
    def of(n_items: int) -> Retriever:
        return RankerRetriever(Popularity(known_counts(run)), AllItems(n_items, run.config.seed))

    return of

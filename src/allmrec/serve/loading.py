"""Opens a run to be served: which systems it offers, in what order they take over, and a version that names its weights."""

from __future__ import annotations

from pathlib import Path

from allmrec.baselines.popularity import Popularity
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.core.hashing import content_hash, file_hash
from allmrec.core.log import logger
from allmrec.pipeline.run import Run
from allmrec.recommend.allmrec import ALLMRec
from allmrec.recommend.recommender import Recommender
from allmrec.recommend.retrieve import AllItems
from allmrec.serve.config import ServeConfig
from allmrec.serve.served import Offer, Served
from allmrec.stages.cf import PRETRAIN, known_counts
from allmrec.stages.tune import TUNE
from allmrec.systems.recommending import allmrec_name, known_items, open_recommender
from allmrec.systems.registry import system_kind, trained_systems

__all__ = ["load", "version_of"]

# Beside A-LLMRec and popularity these are offered where they are trained, whatever else is asked for.
_USUAL = ("late-fusion", "towers")


def load(path: Path, config: ServeConfig, label: str = "main") -> Served:
    """Open a run and everything of it that is served.

    Raises:
        ArtifactError: the run or one of its stages is missing or damaged.
        ConfigError: a system that is asked for is not there.
        ModelNotFoundError: the language model is not to be had.
    """
    version = version_of(path)
    run = Run.open(path, config.device)
    data = known_items(run)
    offers: dict[str, Offer] = {}
    for name in _names(run, config):
        offers[name] = _offer(run, name, data.n_items)
    default = config.default_system or next(iter(offers))
    if default not in offers:
        raise ConfigError(f"default_system is {default!r}; served are {', '.join(offers)}.")
    order = [name for name, offer in offers.items() if offer.part != "baseline"]
    return Served(label, version, run, offers, default, tuple(order), data, data.n_items)


def version_of(path: Path) -> str:
    """12 hex digits that name a run's weights and configuration: of `run.json` and of every stage's manifest.

    Raises:
        ArtifactError: there is no run.
    """
    if not (path / "run.json").is_file():
        raise ArtifactError(f"{path} is no run: it has no run.json. Give the folder that `allmrec train` wrote.")
    manifests = [found for found in sorted(path.rglob("manifest.json")) if ".resume" not in found.parts]
    names = [str(found.relative_to(path)) for found in manifests]
    return content_hash("served", *names, *(file_hash(found) for found in [path / "run.json", *manifests]))[:12]


def _names(run: Run, config: ServeConfig) -> list[str]:
    """Names of the systems that are served, the dearest first."""
    there = trained_systems(run)[0]
    names = [allmrec_name(run)] if (run.path / TUNE.name).is_dir() else []
    names += [name for name in there if name in (*_USUAL, *config.systems)]
    for name in config.systems:
        system_kind(name)
        if name not in names and name not in ("backbone", "popularity"):
            names.append(name)
    if (run.path / PRETRAIN.name).is_dir():
        names.append("backbone")
    if not names and not there:
        raise ArtifactError(f"Nothing is trained in {run.path} that could be served. Run: allmrec train {run.path}")
    return [*(names or there), "popularity"]


def _offer(run: Run, name: str, n_items: int) -> Offer:
    if name == "popularity" and not run.dataset.n_users:
        # A saved recommender has no interactions, and its popularity is in the counts that it came with.
        ranker = Popularity(known_counts(run))
        made = Recommender(known_items(run), ranker, AllItems(run.dataset.n_items), name=ranker.name)
        return Offer(name, ranker.name, "popularity", made, ranker, False, None, run.dataset.n_items)
    kind = system_kind(name)
    opened = open_recommender(run, name, logger.info)
    model = opened.recommender
    slow = kind.prompted or isinstance(model, ALLMRec)
    scored = opened.system.answers is None or opened.system.answers.scores_each
    at_a_time = run.config.tune.candidates if slow and scored else None
    n_known = n_items if isinstance(model, ALLMRec) else run.dataset.n_items
    return Offer(name, model.name, _part(run, name, slow), model, opened.system.ranker, slow, at_a_time, n_known)


def _part(run: Run, name: str, slow: bool) -> str:
    if name == allmrec_name(run):
        return "llm"
    if name in ("towers", "popularity"):
        return name
    return "cf" if name == "backbone" else "baseline"

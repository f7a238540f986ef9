"""The systems of a run, side by side under one protocol; knows how each is put together and no metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Int

from allmrec.baselines.llm_only import LLMOnly
from allmrec.baselines.popularity import Popularity
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import backbone_kind
from allmrec.core.errors import ConfigError
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import (
    CatalogueRecommender,
    EvaluationProtocol,
    EveryItem,
    Report,
    draw_protocol,
    judge,
    judge_catalogue,
)
from allmrec.evaluation.judging import Note
from allmrec.pipeline.cold import cold_threshold
from allmrec.pipeline.run import Run
from allmrec.ranking import Query, Ranking, Recommender
from allmrec.recommend.allmrec import ALLMRec
from allmrec.recommend.answering import ConstrainedRecommender, GeneratingRecommender
from allmrec.recommend.resolve import TitleResolver, template_quotes

__all__ = ["SYSTEMS", "System", "TwoStage", "evaluate_catalogue", "evaluate_run", "run_protocol"]


@dataclass(frozen=True)
class System:
    """One line of the table.

    Attributes:
        recommender: what ranks.
        titles: whether it scores titles, which is slow, so that fewer users may be asked about.
        note: what a reader must know.
    """

    recommender: Recommender
    titles: bool = False
    note: Note = ""


def _popularity(run: Run) -> System:
    return System(Popularity.of(leave_one_out(run.dataset)))


def _backbone(run: Run) -> System:
    name = backbone_kind(run.config.pretrain.backbone).title
    return System(BackboneRecommender(run.backbone("reference"), name))


def _held_out_backbone(run: Run) -> System | None:
    n = run.config.held_out_targets
    if not n:
        return None
    name = backbone_kind(run.config.pretrain.backbone).title
    last = "last training item" if n == 1 else f"last {n} training items"
    note = f"the CF model inside A-LLMRec: trained without each user's {last}"
    return System(BackboneRecommender(run.backbone(), f"{name} (held out)"), note=note)


def _llm_only(run: Run) -> System:
    prompt, evaluation = run.config.tune.prompt, run.config.evaluation
    titles = run.dataset.catalogue.titles
    batch = max(1, evaluation.batch_size // 2)
    made = LLMOnly(run.lm, titles, prompt.template, prompt.budget, evaluation.normalisation, batch)
    return System(made, titles=True, note="nothing trained")


def _allmrec(run: Run) -> System:
    return _by_score(run, "A-LLMRec", text=False)


def _allmrec_text(run: Run) -> System:
    return _by_score(run, "A-LLMRec (SBERT)", text=True)


def _by_score(run: Run, name: str, text: bool) -> System:
    ranker = run.ranker()
    if text:
        ranker.joint = ranker.joint.with_source("text")
    evaluation = run.config.evaluation
    batch = max(1, evaluation.batch_size // 2)
    made = ALLMRec(run.dataset, ranker, "score", name, evaluation.normalisation, batch)
    untrained = run.config.tune.title_weight == 0
    return System(made, titles=True, note="title loss not trained in this run" if untrained else "")


def _allmrec_select(run: Run) -> System | None:
    return _by_select(run, "A-LLMRec (select)", text=False)


def _allmrec_select_text(run: Run) -> System | None:
    return _by_select(run, "A-LLMRec (select, SBERT)", text=True)


def _by_select(run: Run, name: str, text: bool) -> System | None:
    if run.config.tune.select_weight == 0:
        return None
    ranker = run.ranker()
    if text:
        ranker.joint = ranker.joint.with_source("text")
    return System(ALLMRec(run.dataset, ranker, "select", name, batch_size=run.config.evaluation.batch_size))


def _generate(run: Run) -> System | None:
    """The released program's way to answer: decode, then see whose title it is. Only where titles were learned."""
    if run.config.tune.title_weight == 0:
        return None
    ranker, evaluation = run.ranker(), run.config.evaluation
    resolver = TitleResolver(run.dataset.catalogue.titles, template_quotes(run.config.tune.prompt.template))
    made = GeneratingRecommender(ranker, resolver, evaluation.generate, batch_size=evaluation.batch_size)

    def note() -> str:
        found = made.statistics
        share = found.in_candidates / max(1, found.asked)
        return f"valid answers {share:.3f}: {found}; one answer a user: only Hit@1 counts"

    return System(made, titles=True, note=note)


def _constrained(run: Run) -> System | None:
    if run.config.tune.title_weight == 0:
        return None
    made = ConstrainedRecommender(run.ranker(), batch_size=run.config.evaluation.batch_size)
    return System(made, titles=True, note="always a candidate's title; one answer a user: only Hit@1 counts")


def _allmrec_cold(run: Run) -> System:
    """The third variant: `e` or `q` by the number of interactions, the threshold chosen on validation items."""
    method: Literal["select", "score"] = "select" if run.config.tune.select_weight > 0 else "score"
    ranker, evaluation = run.ranker(), run.config.evaluation
    table = ranker.joint
    name = "A-LLMRec (select, cold rule)" if method == "select" else "A-LLMRec (cold rule)"
    made = ALLMRec(run.dataset, ranker, method, name, evaluation.normalisation, evaluation.batch_size)

    def with_threshold(below: int) -> ALLMRec:
        ranker.joint = table.with_source(run.cold_rows(below))
        return made

    below = cold_threshold(run, with_threshold, method)
    with_threshold(below)
    chosen = "" if evaluation.cold_below is not None else ", chosen on validation items"
    cold = int(run.cold_rows(below).sum())
    what = f"text vectors for the {cold:,} items with fewer than {below} interactions" if cold else "no text vectors"
    note = what + chosen
    return System(made, titles=method == "score", note=note)


# In the order of the table. A maker that returns None says that the run has no such system.
SYSTEMS = {
    "popularity": _popularity,
    "backbone": _backbone,
    "backbone-held-out": _held_out_backbone,
    "llm-only": _llm_only,
    "allmrec": _allmrec,
    "allmrec-sbert": _allmrec_text,
    "allmrec-generate": _generate,
    "allmrec-constrained": _constrained,
    "allmrec-select": _allmrec_select,
    "allmrec-select-sbert": _allmrec_select_text,
    "allmrec-cold": _allmrec_cold,
}


class TwoStage:
    """A-LLMRec over the whole catalogue: retrieval proposes, the language model ranks what was proposed."""

    def __init__(self, model: ALLMRec, proposals: int) -> None:
        self._model, self._proposals = model, proposals

    @property
    def name(self) -> str:
        return f"{self._model.name}, {self._proposals} proposed"

    def top(self, queries: Sequence[Query], exclude: Sequence[Int[np.ndarray, " _seen"]], k: int) -> list[Ranking]:
        found = self._model.rank_proposed(queries, self._proposals, exclude)
        return [Ranking(r.items[:k], r.scores[:k]) for r in found]


def evaluate_catalogue(run: Run, command: str | None = None, git_commit: str | None = None) -> Report:
    """Hit@k and NDCG@k over the whole catalogue: popularity, the CF model, and A-LLMRec in two stages.

    Raises:
        ArtifactError: a stage is missing, of other inputs, or damaged.
    """
    run.check_trained()
    protocol, evaluation = run_protocol(run), run.config.evaluation
    if evaluation.users is not None:
        protocol = protocol.first(evaluation.users)
    cheap = [_popularity(run).recommender, _backbone(run).recommender]
    systems: list[CatalogueRecommender] = [EveryItem(s, run.dataset.n_items, run.config.seed) for s in cheap]
    two_stage = TwoStage(run.recommender(), min(evaluation.proposals, run.dataset.n_items))
    limits = {}
    if run.config.tune.select_weight == 0 and evaluation.title_users is not None:
        limits = {two_stage.name: evaluation.title_users}
    return judge_catalogue(
        [*systems, two_stage],
        protocol,
        run.split,
        limits,
        reference=cheap[1].name,
        device=run.device,
        command=command,
        git_commit=git_commit,
    )


def run_protocol(run: Run) -> EvaluationProtocol:
    """The run's frozen users and candidates: drawn once, then read from `protocol.json`."""
    path = run.path / "protocol.json"
    wanted = run.config.evaluation
    drawn = draw_protocol(run.split, "test", None, wanted.candidates, run.config.seed)
    if not path.is_file():
        drawn.save(path)
    protocol = EvaluationProtocol.load(path, run.dataset.content_hash)
    if protocol.candidates.shape[1] != wanted.candidates:
        raise ConfigError(
            f"{path} has {protocol.candidates.shape[1]} candidates a user and the run now wants {wanted.candidates}. "
            f"Remove {path} to draw again; figures from before will not compare."
        )
    return protocol


def _note(system: System, limit: str) -> str:
    own = system.note() if callable(system.note) else system.note
    return "; ".join(part for part in (own, limit) if part)


def evaluate_run(
    run: Run,
    systems: Sequence[str] | None = None,
    command: str | None = None,
    git_commit: str | None = None,
) -> Report:
    """Rank the run's protocol with its systems.

    Args:
        run: a trained run.
        systems: names of SYSTEMS; none: all that the run has.
        command, git_commit: for the report.

    Raises:
        ConfigError: an unknown system.
        ArtifactError: a stage that a system needs is missing, of other inputs, or damaged.
    """
    unknown = [name for name in systems or () if name not in SYSTEMS]
    if unknown:
        raise ConfigError(f"There is no system {unknown[0]!r}; known are {', '.join(SYSTEMS)}.")
    chosen = [name for name in SYSTEMS if systems is None or name in systems]
    if any(name.startswith("allmrec") for name in chosen):
        run.check_trained()
    made = [system for name in chosen if (system := SYSTEMS[name](run)) is not None]
    protocol, evaluation = run_protocol(run), run.config.evaluation
    if evaluation.users is not None:
        protocol = protocol.first(evaluation.users)
    limits: dict[str, int] = {}
    notes: dict[str, Note] = {}
    for system in made:
        name, limit = system.recommender.name, evaluation.title_users
        limited = system.titles and limit is not None and limit < len(protocol)
        if limited and limit is not None:
            limits[name] = limit
        notes[name] = partial(_note, system, f"reads titles: the first {limit} users" if limited else "")
    reference = backbone_kind(run.config.pretrain.backbone).title
    return judge(
        [system.recommender for system in made],
        protocol,
        run.split,
        limits,
        reference=reference,
        notes=notes,
        device=run.device,
        command=command,
        git_commit=git_commit,
    )

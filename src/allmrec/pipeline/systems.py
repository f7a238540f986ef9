"""The systems of a run, each ready to rank: the run's own, its variants, and those beside it; knows no metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from allmrec.baselines.llm_only import LLMOnly
from allmrec.baselines.popularity import Popularity
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.registry import backbone_kind
from allmrec.core.artifacts import space_checked
from allmrec.core.distributed import processes
from allmrec.core.errors import ConfigError
from allmrec.core.log import logger
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation.judging import Note
from allmrec.pipeline.allmrec_row import allmrec_row
from allmrec.pipeline.baselines import BASELINES, baseline_stage, check_baseline, load_baseline, train_baseline
from allmrec.pipeline.cold import cold_threshold
from allmrec.pipeline.run import Announce, Run
from allmrec.pipeline.stages import SYSTEMS_FOLDER, Stage, stage_is_current
from allmrec.pipeline.variants import VARIANTS, open_variant
from allmrec.ranking import Recommender
from allmrec.recommend.allmrec import ALLMRec
from allmrec.recommend.answering import ConstrainedRecommender, GeneratingRecommender
from allmrec.recommend.resolve import TitleResolver, template_quotes

__all__ = [
    "OWN",
    "SYSTEMS",
    "TRAINABLE",
    "UNTRAINED",
    "System",
    "backbone_stage",
    "check_trainable",
    "open_systems",
    "train_systems",
    "trained_systems",
]


@dataclass(frozen=True)
class System:
    """One line of the table.

    Attributes:
        recommender: what ranks.
        stages: what was trained for it, so that its cost can be told.
        titles: whether it scores titles, which is slow, so that fewer users may be asked about.
        note: what a reader must know.
    """

    recommender: Recommender
    stages: tuple[Stage, ...] = ()
    titles: bool = False
    note: Note = ""


@dataclass(frozen=True)
class Absent:
    """Why a run has no such system."""

    reason: str


Made = System | Absent


def _popularity(run: Run) -> System:
    return System(Popularity.of(leave_one_out(run.dataset)))


def _backbone(run: Run) -> System:
    name = backbone_kind(run.config.pretrain.backbone).title
    return System(BackboneRecommender(run.backbone("reference"), name), (backbone_stage(run),))


def backbone_stage(run: Run) -> Stage:
    """That of the CF model that saw everything."""
    return run.stage("reference" if run.config.held_out_targets else "pretrain")


def _held_out_backbone(run: Run) -> Made:
    n = run.config.held_out_targets
    if not n:
        return Absent("held_out_targets is 0, so there is one CF model only")
    name = backbone_kind(run.config.pretrain.backbone).title
    last = "last training item" if n == 1 else f"last {n} training items"
    users = run.config.held_out_users
    whose = "each user's" if users is None else f"{users:,} users'"
    note = f"the CF model inside A-LLMRec: trained without {whose} {last}"
    if backbone_kind(run.config.pretrain.backbone).ready is not None:
        note = "the CF model inside A-LLMRec: trained elsewhere, nothing could be held out from it"
    return System(BackboneRecommender(run.backbone(), f"{name} (held out)"), (run.stage("pretrain"),), note=note)


def _llm_only(run: Run) -> System:
    prompt, evaluation = run.config.tune.prompt, run.config.evaluation
    titles = run.dataset.catalogue.titles
    batch = max(1, evaluation.batch_size // 2)
    made = LLMOnly(run.lm, titles, prompt.template, prompt.budget, evaluation.normalisation, batch)
    return System(made, titles=True, note="nothing trained")


def _all(run: Run) -> tuple[Stage, ...]:
    return tuple(run.stage(name) for name in run.stages)


def _allmrec(run: Run) -> System:
    return _by_score(run, "A-LLMRec", text=False)


def _allmrec_text(run: Run) -> Made:
    return _no_texts(run) or _by_score(run, "A-LLMRec (SBERT)", text=True)


def _no_texts(run: Run) -> Absent | None:
    if run.config.tune.items == "joint":
        return None
    return Absent(f"tune.items is {run.config.tune.items!r}, so there are no text vectors")


def _by_score(run: Run, name: str, text: bool) -> System:
    made = allmrec_row(run, "score", name, text)
    untrained = run.config.tune.title_weight == 0
    return System(made, _all(run), titles=True, note="title loss not trained in this run" if untrained else "")


def _allmrec_select(run: Run) -> Made:
    return _by_select(run, "A-LLMRec (select)", text=False)


def _allmrec_select_text(run: Run) -> Made:
    return _no_texts(run) or _by_select(run, "A-LLMRec (select, SBERT)", text=True)


def _by_select(run: Run, name: str, text: bool) -> Made:
    if run.config.tune.select_weight == 0:
        return Absent("tune.select_weight is 0, so the pointer head is not trained")
    return System(allmrec_row(run, "select", name, text), _all(run))


def _generate(run: Run) -> Made:
    """The released program's way to answer: decode, then see whose title it is. Only where titles were learned."""
    if run.config.tune.title_weight == 0:
        return Absent("tune.title_weight is 0, so titles are not learned")
    ranker, evaluation = run.ranker(), run.config.evaluation
    resolver = TitleResolver(run.dataset.catalogue.titles, template_quotes(run.config.tune.prompt.template))
    made = GeneratingRecommender(ranker, resolver, evaluation.generate, batch_size=evaluation.batch_size)

    def note() -> str:
        found = made.statistics
        share = found.in_candidates / max(1, found.asked)
        return f"valid answers {share:.3f}: {found}; one answer a user: only Hit@1 counts"

    return System(made, _all(run), titles=True, note=note)


def _constrained(run: Run) -> Made:
    if run.config.tune.title_weight == 0:
        return Absent("tune.title_weight is 0, so titles are not learned")
    made = ConstrainedRecommender(run.ranker(), batch_size=run.config.evaluation.batch_size)
    return System(made, _all(run), titles=True, note="always a candidate's title; one answer a user: only Hit@1 counts")


def _allmrec_cold(run: Run) -> Made:
    """The third variant: `e` or `q` by the number of interactions, the threshold chosen on validation items."""
    if absent := _no_texts(run):
        return absent
    method = run.method
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
    return System(made, _all(run), titles=method == "score", note=note)


# The run's own, in the order of the table.
OWN: Mapping[str, Callable[[Run], Made]] = {
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

# All that `evaluate` and `recommend` know by name.
SYSTEMS = (*OWN, *VARIANTS, *BASELINES)

# Systems that are there without training.
UNTRAINED = ("popularity", "llm-only")

# All that `train --system` knows.
TRAINABLE = ("allmrec", *UNTRAINED, *VARIANTS, *BASELINES)

# Those of the run's own that need no stage 2.
_CHEAP = ("popularity", "backbone", "backbone-held-out")


def train_systems(run: Run, names: Sequence[str], announce: Announce) -> None:
    """Train systems into a run, each with the stages that it reads, where they are not there already.

    Args:
        run: the run.
        names: of TRAINABLE.
        announce: told of each stage.

    Raises:
        ConfigError: an unknown system, or one that the run's configuration has no room for.
        ModelNotFoundError, MissingExtraError: what one of them needs is not there.
        RunInUseError: another process is training the run.
        NoSpaceError: the disk is full; what is finished is kept.
    """
    variants = check_trainable(run, names)
    here = processes(run.device)
    with space_checked(run.path), run.held(here):
        for name in names:
            if name in UNTRAINED:
                announce(f"{name}: nothing to train")
            elif name == run.config.pretrain.backbone:
                run.train_stages(announce, "pretrain", here)
            elif name in BASELINES:
                train_baseline(run, name, announce, here)
            else:
                variants.get(name, run).train_stages(announce, "tune", here)


def check_trainable(run: Run, names: Sequence[str], until: str = "tune") -> dict[str, Run]:
    """Refuse what cannot be trained before anything is written: a run may be a `draft`.

    Args:
        run: the run, there or not yet.
        names: of TRAINABLE; `allmrec` is the run itself.
        until: the run's last stage that is wanted of it.

    Returns:
        The variants among them.

    Raises:
        ConfigError: an unknown system, or one that the run's configuration has no room for.
        ModelNotFoundError: a model that one of them needs.
    """
    unknown = [name for name in names if name not in TRAINABLE]
    if unknown:
        raise ConfigError(f"There is no system {unknown[0]!r} to train; known are {', '.join(TRAINABLE)}.")
    variants = {name: open_variant(run, name) for name in names if name in VARIANTS}
    for name in names:
        if name in BASELINES:
            check_baseline(run, name)
        elif name not in UNTRAINED:
            variants.get(name, run).check_models(until)
    return variants


def open_systems(run: Run, names: Sequence[str] | None, announce: Announce = logger.info) -> dict[str, System]:
    """Systems of a run, ready to rank, in the order of the table.

    Args:
        run: the run.
        names: of SYSTEMS; none: all that the run has.
        announce: told which were trained on other inputs and are therefore left out, where none are named.

    Raises:
        ConfigError: an unknown system, or one that this run cannot have.
        ArtifactError: a stage that a system needs is missing, of other inputs, or damaged.
    """
    unknown = [name for name in names or () if name not in SYSTEMS]
    if unknown:
        raise ConfigError(f"There is no system {unknown[0]!r}; known are {', '.join(SYSTEMS)}.")
    # The run's own CF model by its own name.
    named = [("backbone" if name == run.config.pretrain.backbone else name) for name in names or ()]
    chosen = _all_there(run, announce) if names is None else [name for name in SYSTEMS if name in named]
    if any(name.startswith("allmrec") for name in chosen):
        run.check_trained()
    made = {name: _made(run, name) for name in chosen}
    if names is not None:
        for name, system in made.items():
            if isinstance(system, Absent):
                raise ConfigError(f"{run.path} has no system {name!r}: {system.reason}.")
    return {name: system for name, system in made.items() if isinstance(system, System)}


def _made(run: Run, name: str) -> Made:
    if name in OWN:
        return OWN[name](run)
    if name in BASELINES:
        return _of_baseline(run, name)
    return _of_variant(run, name)


def _of_baseline(run: Run, name: str) -> System:
    kind, stages = BASELINES[name], _with_parents(baseline_stage(run, name))
    return System(load_baseline(run, name), stages, kind.titles(run.config), kind.note(run.config))


def _with_parents(stage: Stage) -> tuple[Stage, ...]:
    """A stage after all that it was made of, each once."""
    found = {made.label: made for parent in stage.parents.values() for made in _with_parents(parent)}
    return (*found.values(), stage)


def _of_variant(run: Run, name: str) -> System:
    variant, title = open_variant(run, name), VARIANTS[name].title
    variant.check_trained()
    if variant.method == "select":
        title += " (select)"
    made = allmrec_row(variant, variant.method, title)
    return System(made, _all(variant), titles=variant.method == "score")


def _last_stage(run: Run, name: str) -> Stage:
    return baseline_stage(run, name) if name in BASELINES else open_variant(run, name).stage("tune")


def _all_there(run: Run, announce: Announce) -> list[str]:
    """Names of the systems that a run has. Its own stand there as soon as stage 2 does, or nothing else."""
    others, stale = trained_systems(run)
    if stale:
        again = " ".join(f"--system {name}" for name in stale)
        announce(
            f"Left out, trained on other inputs than the run now has: {', '.join(stale)}. allmrec train {run.path} {again}"
        )
    pretrained = (run.path / "pretrain").is_dir()
    if (run.path / "tune").is_dir() or not (others or pretrained):
        return [*OWN, *others]
    if not others:
        announce(f"A-LLMRec itself is not trained in {run.path}, so it is left out. allmrec train {run.path}")
    return [*(_CHEAP if pretrained else _CHEAP[:1]), *others]


def trained_systems(run: Run) -> tuple[list[str], list[str]]:
    """Systems beside the run's own that stand there: those made of what the run has now, and the others."""
    current: list[str] = []
    stale: list[str] = []
    for name in (*VARIANTS, *BASELINES):
        # A CF model that has become the run's own is in the table already.
        if name != run.config.pretrain.backbone and (run.path / SYSTEMS_FOLDER / name).is_dir():
            (current if stage_is_current(run.path, _last_stage(run, name)) else stale).append(name)
    return current, stale

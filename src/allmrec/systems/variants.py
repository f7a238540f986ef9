"""Variants of A-LLMRec: the paper's ablations and our options, each a few changed fields of a run's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from allmrec.core.errors import ConfigError
from allmrec.pipeline.run import Run
from allmrec.stages.tune import TUNE, allmrec_stages
from allmrec.systems.answers import answering, by_scores
from allmrec.systems.kinds import System, SystemKind

__all__ = ["VARIANTS", "VARIANT_SYSTEMS", "Variant", "open_variant"]

R = TypeVar("R", bound=Run)


@dataclass(frozen=True)
class Variant:
    """A run with some fields changed.

    Attributes:
        title: its name in a table.
        changes: fields and their values.
        source: where it comes from.
        of_prior: whether it is about the pointer head's prior, which a run without one cannot vary.
    """

    title: str
    changes: Mapping[str, Any]
    source: str
    of_prior: bool = False


_NO_RECONSTRUCTION = {"align.item_reconstruction_weight": 0.0, "align.text_reconstruction_weight": 0.0}

VARIANTS: Mapping[str, Variant] = {
    "all-items": Variant(
        "A-LLMRec, all items",
        {"align.positions": "all", "tune.positions": "all", "tune.samples_per_epoch": None},
        "A-LLMRec, Table 10",
    ),
    "mlp-llm": Variant("MLP-LLM", {"tune.items": "backbone"}, "A-LLMRec, Table 1: stage 2 straight on CF vectors"),
    "title-loss": Variant(
        "A-LLMRec (title loss)",
        {"tune.title_weight": 1.0, "tune.select_weight": 0.0},
        "A-LLMRec, Table 1: the paper's own objective, in a run that trains the pointer head",
    ),
    "no-llm": Variant(
        "no LLM",
        {"tune.prompt.pointer.layers": 0, "tune.title_weight": 0.0, "tune.select_weight": 1.0},
        "ours: the pointer head on the projected vectors, no layer of the language model run",
    ),
    "without-matching": Variant("w/o matching", {"align.matching_weight": 0.0}, "A-LLMRec, Table 8"),
    "without-reconstruction": Variant("w/o reconstruction", _NO_RECONSTRUCTION, "A-LLMRec, Table 8"),
    "without-recommendation": Variant(
        "w/o recommendation loss", {"align.recommendation_weight": 0.0}, "A-LLMRec, Table 8"
    ),
    "frozen-encoder": Variant("encoder frozen", {"encoder.tune": "frozen"}, "A-LLMRec, Table 8"),
    "without-user": Variant("w/o user vector", {"tune.prompt.user_vector": False}, "A-LLMRec, Table 9"),
    "without-joint": Variant("w/o joint vectors", {"tune.prompt.item_vectors": False}, "A-LLMRec, Table 9"),
    "random-joint": Variant("random joint vectors", {"tune.items": "random"}, "A-LLMRec, Table 9"),
    "slots-both": Variant("slots carry e and q", {"tune.prompt.slots": "both"}, "ours"),
    "slots-gate": Variant("slots by a gate", {"tune.prompt.slots": "gate"}, "ours"),
    "fused-prior": Variant(
        "fused prior", {"tune.prompt.pointer.prior": "fused"}, "ours: starts as late fusion would", of_prior=True
    ),
    "plain-prior": Variant(
        "plain prior", {"tune.prompt.pointer.prior": "cf"}, "ours: starts as the CF model's ranking", of_prior=True
    ),
    "prior-alone": Variant(
        "prior alone",
        # Adam's steps are of this size, so nothing moves; the prior's own weights are fitted before the first one.
        {"tune.training.learning_rate": 1e-12},
        "ours: the pointer head as it starts, nothing learned beside the prior",
        of_prior=True,
    ),
    "without-prior": Variant("w/o CF prior", {"tune.prompt.pointer.cf_prior": False}, "ours", of_prior=True),
}


def open_variant(run: R, name: str) -> R:
    """A variant of a run, trained or not; stages that it shares with the run are the run's.

    Raises:
        ConfigError: there is no such variant, or the run itself is it already.
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no variant {name!r}; known are {', '.join(VARIANTS)}.")
    config = run.config.changed(VARIANTS[name].changes)
    variant = run.variant(name, config)
    if allmrec_stages(config) == allmrec_stages(run.config) and variant.stage(TUNE).key == run.stage(TUNE).key:
        raise ConfigError(
            f"{run.path} has what makes {name!r} in its own configuration, or nothing of what it changes, so it is no "
            "variant of it."
        )
    tune = run.config.tune
    if VARIANTS[name].of_prior and not (tune.select_weight > 0 and tune.prompt.pointer.cf_prior):
        raise ConfigError(
            f"{name!r} varies the pointer head's prior, and {run.path} has none: that takes tune.select_weight above 0 and "
            "tune.prompt.pointer.cf_prior."
        )
    return variant


def _system(name: str, variant: Variant) -> SystemKind:
    def opened(run: Run) -> System:
        of = open_variant(run, name)
        title = f"{variant.title} (select)" if of.method == "select" else variant.title
        return replace(answering(of, by_scores(of, of.method, title)), titles=of.method == "score")

    return SystemKind(
        name, variant.source, opened, allmrec_stages, run_of=lambda run: open_variant(run, name), prompted=True
    )


VARIANT_SYSTEMS = tuple(_system(name, variant) for name, variant in VARIANTS.items())

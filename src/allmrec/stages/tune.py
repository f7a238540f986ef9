"""The stage `tune`, stage 2 of A-LLMRec, and all its stages in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from allmrec.core.errors import ConfigError
from allmrec.core.tensors import check_parameters
from allmrec.pipeline.continuing import earlier_tensors, training_of
from allmrec.pipeline.run import Continuation, Run, StageKind
from allmrec.recipes.config import RunConfig
from allmrec.recommend.prompt_config import check_prompt
from allmrec.recommend.prompted import PromptedRanker
from allmrec.recommend.tune import tune
from allmrec.stages.align import ALIGN, align_shape, joint_table
from allmrec.stages.cf import PRETRAIN, REFERENCE, backbone, cf_in_use, cf_shape, known_counts, train_counts
from allmrec.stages.frozen import check_language_model, language_model, language_model_input
from allmrec.stages.texts import TEXTS, title_similarity
from allmrec.store.stages import Stage, StageResult

__all__ = ["ALLMREC_STAGES", "TUNE", "allmrec_stages", "prompted_ranker", "stages_until"]


def _parents(config: RunConfig) -> Sequence[StageKind]:
    vectors = ALIGN if config.tune.items == "joint" else PRETRAIN
    return (vectors, TEXTS) if config.tune.prompt.pointer.reads_texts else (vectors,)


def _train(run: Run, stage: Stage) -> StageResult:
    ranker, config = prompted_ranker(run, trained=False), run.config.tune
    earlier = earlier_tensors(run, TUNE)
    if earlier is not None:
        ranker.load_state_dict(earlier)
    config = config.model_copy(update={"training": training_of(run, TUNE, config.training)})
    log = tune(ranker, run.split, config, run.resume(stage), earlier is not None, seed=run.config.seed)
    budget = {
        "title_tokens": config.prompt.budget.title_tokens,
        "cut_titles": ranker.builder.titles.cut,
        "dropped_history": ranker.builder.dropped_history,
    }
    return StageResult(ranker.state_dict(), log.as_json() | {"budget": budget})


def _shape(config: RunConfig) -> dict[str, Any] | None:
    """What stage 2's weights depend on."""
    joint = config.tune.items == "joint"
    vectors = align_shape(config) if joint else cf_shape(config)
    if vectors is None or config.tune.items == "random":
        return None
    prompt = config.tune.prompt.model_dump(mode="json")
    return {"vectors": vectors, "joint": joint, "prompt": prompt, **language_model_input(config)}


def _load(run: Run) -> None:
    """Load the language model, which is used again in training, and see whether it can read the prompts."""
    check_prompt(language_model(run), run.config.tune.prompt)


TUNE = StageKind(
    "tune",
    lambda config: config.tune.model_dump(mode="json"),
    _train,
    parents=_parents,
    inputs=language_model_input,
    check=check_language_model,
    load=_load,
    continuation=Continuation(_shape, lambda run: run.split.prefix_end),
)

# All that A-LLMRec can have, in order.
ALLMREC_STAGES = (PRETRAIN, REFERENCE, ALIGN, TEXTS, TUNE)


def allmrec_stages(config: RunConfig) -> list[StageKind]:
    """The stages that A-LLMRec has in this configuration, in order."""
    wanted = {PRETRAIN, cf_in_use(config), *_parents(config), TUNE}
    return [kind for kind in ALLMREC_STAGES if kind in wanted]


def stages_until(config: RunConfig, until: str) -> list[StageKind]:
    """The stages of A-LLMRec up to one of them; the CF models belong together.

    Raises:
        ConfigError: the configuration has no such stage.
    """
    stages = allmrec_stages(config)
    names = [kind.name for kind in stages]
    if until not in names:
        known = [kind.name for kind in ALLMREC_STAGES]
        if until in known:
            raise ConfigError(f"There is no stage {until!r} with tune.items = {config.tune.items!r}.")
        raise ConfigError(f"There is no stage {until!r}; known are {', '.join(known)}.")
    last = cf_in_use(config) if until == PRETRAIN.name else stages[names.index(until)]
    return stages[: stages.index(last) + 1]


def prompted_ranker(run: Run, trained: bool = True) -> PromptedRanker:
    """Stage 2 around the frozen parts.

    Args:
        run: the run.
        trained: with its trained weights; else as it is initialised.

    Raises:
        ArtifactError: a stage is not trained, of other inputs, or damaged.
    """
    config = run.config
    ranker = PromptedRanker(
        language_model(run),
        backbone(run),
        joint_table(run),
        run.dataset.catalogue.titles,
        config.tune.prompt,
        config.seed,
        backbone(run, cf_in_use(config)) if trained else None,
        known_counts(run) if trained else train_counts(run),
        title_similarity(run, centred=True) if config.tune.prompt.pointer.reads_texts else None,
    )
    if trained:
        tensors = run.tensors(TUNE)
        with run.content(TUNE):
            check_parameters(ranker.state_dict(), tensors, "stage 2")
            ranker.load_state_dict(tensors)
    return ranker.to(run.device)

"""A run's frozen models: whether they can be had, asked before hours are spent on what needs them, and loading them."""

from __future__ import annotations

from pathlib import Path

from allmrec.core.errors import ArtifactError, ModelNotFoundError
from allmrec.core.packaged import find_packaged, packaged_path
from allmrec.llm.fingerprint import fingerprint
from allmrec.llm.gguf import resolve_language_model
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.pipeline.config import RunConfig
from allmrec.pipeline.run import Run
from allmrec.text.encoder import TransformerEncoder, load_encoder
from allmrec.text.loading import load_parts

__all__ = [
    "check_encoder",
    "check_language_model",
    "encoder_fingerprint",
    "language_model",
    "language_model_input",
    "tuned_encoder",
    "untouched_encoder",
]


def language_model_input(config: RunConfig) -> dict[str, str]:
    """The language model as it decides a stage's result: its name, and the precision where one was asked for.

    Devices differ in what `auto` is, and count as little as ever.
    """
    name, precision = config.llm.name, config.llm.precision
    return {"llm": name if precision == "auto" else f"{name} in {precision}"}


def language_model(run: Run) -> TransformersLM:
    """The frozen language model; one for a run and all its variants.

    Raises:
        ModelNotFoundError: it is neither on this machine nor reachable.
        ArtifactError: it has other weights than the one that a saved recommender was trained with.
    """
    name = language_model_input(run.config)["llm"]
    if name not in run.loaded:
        lm = load_language_model(run.config.llm.name, run.device, run.config.llm.precision)
        if run.published is not None:
            _check_frozen(run, "llm", f"language model {run.config.llm.name!r}", fingerprint(lm.frozen.module))
        run.loaded[name] = lm
    found: TransformersLM = run.loaded[name]
    return found


def encoder_fingerprint(name: str) -> str:
    """Of a sentence encoder as it comes, before stage 1 tuned any of it."""
    return fingerprint(load_parts(name).model)


def tuned_encoder(run: Run) -> TransformerEncoder:
    """The sentence encoder with the layers that stage 1 tunes open, its weights as they come.

    Raises:
        ArtifactError: it has other weights than the one that a saved recommender was trained with.
    """
    name = run.config.encoder.name
    if run.published is not None:
        _check_frozen(run, "encoder", f"sentence encoder {name!r}", encoder_fingerprint(name))
    return load_encoder(run.config.encoder)


def untouched_encoder(run: Run) -> TransformerEncoder:
    """The sentence encoder as it comes."""
    return load_encoder(run.config.encoder.untouched).to(run.device)


def _check_frozen(run: Run, part: str, words: str, found: str) -> None:
    if run.published is not None and run.published["frozen"][part]["fingerprint"] != found:
        raise ArtifactError(
            f"The {words} here has other weights than the one that {run.path} was trained with. Get that version, "
            "or train again with this one."
        )


def check_language_model(name: str) -> None:
    """Find a language model; one that comes as GGUF is converted now, once.

    Raises:
        ModelNotFoundError: it is neither on this machine nor reachable.
    """
    _check("language model", name, resolve_language_model(name))


def check_encoder(name: str) -> None:
    """Find a sentence encoder.

    Raises:
        ModelNotFoundError: it is neither on this machine nor reachable.
    """
    _check("sentence encoder", name, name if find_packaged(name) is None else packaged_path(name))


def _check(kind: str, name: str, place: str | Path) -> None:
    if Path(place).is_dir():
        return
    from transformers.utils.hub import cached_file  # slow to import, and seldom needed

    try:
        cached_file(str(place), "config.json")
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"The {kind} {name!r} is no folder here, comes in no installed package (`allmrec doctor` lists them), and "
            f"the model hub did not give it: {str(error).strip().splitlines()[0]} The recipe cpu takes its models from "
            "packages."
        ) from error

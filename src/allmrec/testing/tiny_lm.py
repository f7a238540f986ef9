"""Tiny language models with random weights, for tests of code paths rather than of quality."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from allmrec.core.seeding import seeded_torch
from allmrec.llm.transformers_lm import TransformersLM

__all__ = ["save_tiny_language_model", "tiny_language_model", "tiny_tokenizer"]

_WORDS = (
    " is a user representation. This user has watched played bought used in the past. Recommend a movie for this user "
    "to watch next from the following set of movie titles, [ ]. The recommendation is Item untitled"
)


def tiny_tokenizer(corpus: Iterable[str] = (), vocabulary: int = 512, bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the prompt's words and a corpus; any text can be written in it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_WORDS, *corpus], trainer)
    if bos:
        from tokenizers.processors import TemplateProcessing  # only this branch needs it

        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it without annotations
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def tiny_language_model(
    kind: Literal["opt", "llama"] = "llama", corpus: Iterable[str] = (), dim: int = 32, layers: int = 3, seed: int = 0
) -> TransformersLM:
    """A random OPT (learned positions, BOS) or Llama (rotary positions, no BOS) that runs in milliseconds."""
    return TransformersLM(*_parts(kind, corpus, dim, layers, seed), f"tiny-{kind}")


def save_tiny_language_model(
    folder: Path,
    kind: Literal["opt", "llama"] = "llama",
    corpus: Iterable[str] = (),
    dim: int = 32,
    layers: int = 3,
    seed: int = 0,
) -> Path:
    """Write the same model as `tiny_language_model` for `load_language_model` to find; returns the folder."""
    model, tokenizer = _parts(kind, corpus, dim, layers, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _parts(
    kind: Literal["opt", "llama"], corpus: Iterable[str], dim: int, layers: int, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = tiny_tokenizer(corpus, bos=kind == "opt")
    size = len(tokenizer)
    with seeded_torch(seed, "tiny language model"):
        if kind == "opt":
            config = OPTConfig(
                vocab_size=size, hidden_size=dim, ffn_dim=2 * dim, num_hidden_layers=layers, num_attention_heads=2,
                max_position_embeddings=2048, word_embed_proj_dim=dim, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                dropout=0.1, init_std=0.2,
            )  # fmt: skip
            model: PreTrainedModel = OPTForCausalLM(config)
        else:
            model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=size, hidden_size=dim, intermediate_size=2 * dim, num_hidden_layers=layers,
                    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048, pad_token_id=0,
                    bos_token_id=1, eos_token_id=2, initializer_range=0.2,
                )
            )  # fmt: skip
    return model, tokenizer

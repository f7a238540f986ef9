"""A tiny sentence encoder with random weights, for tests of code paths rather than of quality."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transformers import BertConfig, BertModel

from allmrec.core.seeding import seeded_torch
from allmrec.testing.tiny_lm import tiny_tokenizer

__all__ = ["save_tiny_encoder"]


def save_tiny_encoder(folder: Path, corpus: Iterable[str] = (), dim: int = 16, layers: int = 2, seed: int = 0) -> Path:
    """Write a random BERT that reads any text and is pooled by its mean; returns the folder."""
    tokenizer = tiny_tokenizer(corpus)
    with seeded_torch(seed, "tiny encoder"):
        model = BertModel(
            BertConfig(
                vocab_size=len(tokenizer), hidden_size=dim, num_attention_heads=2, intermediate_size=2 * dim,
                num_hidden_layers=layers, max_position_embeddings=64, pad_token_id=0,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return folder

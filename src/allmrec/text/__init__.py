"""Texts to vectors: sentence encoders, wholly, partly or not tuned, and causal language models."""

from __future__ import annotations

from allmrec.text.bank import TextBank
from allmrec.text.causal import CausalConfig, CausalEncoder, CausalModel
from allmrec.text.encoder import EncoderConfig, SentenceEncoder, TransformerEncoder, load_encoder
from allmrec.text.loading import Parts, load_parts
from allmrec.text.similarity import TitleSimilarity
from allmrec.text.source import TextsConfig
from allmrec.text.tokens import TokenisedTexts

__all__ = [
    "CausalConfig",
    "CausalEncoder",
    "CausalModel",
    "EncoderConfig",
    "Parts",
    "SentenceEncoder",
    "TextBank",
    "TextsConfig",
    "TitleSimilarity",
    "TokenisedTexts",
    "TransformerEncoder",
    "load_encoder",
    "load_parts",
]

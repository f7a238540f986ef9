"""Sentence encoders: texts to vectors, wholly, partly or not tuned."""

from __future__ import annotations

from allmrec.text.bank import TextBank
from allmrec.text.encoder import EncoderConfig, SentenceEncoder, TransformerEncoder, load_encoder
from allmrec.text.loading import Parts, load_parts
from allmrec.text.similarity import TitleSimilarity
from allmrec.text.tokens import TokenisedTexts

__all__ = [
    "EncoderConfig",
    "Parts",
    "SentenceEncoder",
    "TextBank",
    "TitleSimilarity",
    "TokenisedTexts",
    "TransformerEncoder",
    "load_encoder",
    "load_parts",
]

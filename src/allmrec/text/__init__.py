"""Sentence encoders: texts to vectors, wholly, partly or not tuned."""

from __future__ import annotations

from allmrec.text.bank import TextBank
from allmrec.text.encoder import EncoderConfig, SentenceEncoder, TransformerEncoder, load_encoder
from allmrec.text.likeness import TextLikeness
from allmrec.text.loading import Parts, load_parts
from allmrec.text.tokens import TokenisedTexts

__all__ = [
    "EncoderConfig",
    "Parts",
    "SentenceEncoder",
    "TextBank",
    "TextLikeness",
    "TokenisedTexts",
    "TransformerEncoder",
    "load_encoder",
    "load_parts",
]

"""Where the vectors of items' texts come from, for whatever reads them; it loads no model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allmrec.core.config import Config
from allmrec.text.causal import CausalConfig

__all__ = ["TextsConfig"]


class TextsConfig(Config):
    """Vectors of items' texts for the text tower, text similarity, late fusion and stage 2's prior (`pointer.similarity`)."""

    source: Literal["encoder", "llm"] = Field(
        "encoder",
        description="encoder: the sentence encoder with nothing of it tuned. llm: hidden states of the run's language model.",
    )
    of: Literal["title", "item_text"] = Field(
        "title", description="title: an item's title alone. item_text: title and description as `item_text` joins them."
    )
    llm: CausalConfig = CausalConfig()

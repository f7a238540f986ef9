"""RECFORMER: a language model's attention over a history written out in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from allmrec.baselines.recformer_text import KINDS, ItemTokens, TokenBatch
from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.core.places import PLACE
from allmrec.core.pretrained import read_model, read_tokenizer
from allmrec.core.tensors import as_tensors, filled
from allmrec.data.batching import SequenceBatch

__all__ = ["Recformer", "RecformerConfig", "longformer_tokenizer"]


class RecformerConfig(Config):
    """Which Longformer reads the history, and how much of it."""

    longformer: Annotated[str | None, PLACE] = Field(
        None, description="A trained Longformer by name or folder; none: a small one is built and pre-trained here."
    )
    dim: int = Field(64, ge=2, description="Width of the small one.")
    layers: int = Field(2, ge=1, description="Layers of the small one.")
    heads: int = Field(2, ge=1, description="Attention heads of the small one; must divide its dim.")
    window: int = Field(64, ge=2, multiple_of=2, description="Tokens that a token of the small one sees around itself.")
    max_history: int = Field(50, ge=1, description="Most recent items that are read.")
    max_tokens: int = Field(512, ge=2, description="Tokens of a history at the most; the oldest are cut off.")
    temperature: float = Field(0.05, gt=0, description="Divides cosines before the softmax.")

    @model_validator(mode="after")
    def _heads_fit(self) -> RecformerConfig:
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the dim {self.dim}; choose a divisor")
        return self


class Recformer(nn.Module):
    """RECFORMER's model (Li et al., KDD 2023): a history is a text, and so is an item; their cosine is the score.

        score(u, i) = cos(h_u, h_i) / τ,    h = Longformer([CLS] item_k … item_1) at [CLS]

    From the paper: items as key-value words without any number; the most recent item first; four embeddings a token
    (word, place, kind of token, item's place), the middle two Longformer's own; windowed attention, global at [CLS].
    Used by A-LLMRec's authors as it was published. Ours: where no trained Longformer is named, a small one is built
    from `config` and stands in; the name of the row then says "small", and what it learned it learned from this
    catalogue alone, not from the seven other catalogues of the paper.

    It is a `Backbone`: `item_vectors` are h_i / |h_i| as last computed (`refresh_items`), `user_vectors` are
    h_u / (τ |h_u|), so `BackboneRecommender` ranks with it. An item without words is [CLS] alone.

    Args:
        tokens: the catalogue, in the tokens of the Longformer that is named (`longformer_tokenizer`).
        config: sizes.

    Raises:
        ModelNotFoundError: the Longformer that is named cannot be loaded.
        ConfigError: it does not know as many words or places as it is to read.
    """

    def __init__(self, tokens: ItemTokens, config: RecformerConfig) -> None:
        super().__init__()
        self.config, self.tokens = config, tokens
        self.longformer = _longformer(tokens, config)
        # Read from the model: a Longformer loaded by name has its own.
        self.window = int(np.max(self.longformer.config.attention_window))
        self.dim, self.max_history = int(self.longformer.config.hidden_size), config.max_history
        self.n_items = len(tokens.offsets) - 2
        self.item_places = nn.Embedding(config.max_history + 1, self.dim)
        nn.init.normal_(self.item_places.weight, std=self.longformer.config.initializer_range)
        self.register_buffer("items", torch.zeros(self.n_items + 1, self.dim))

    @property
    def name(self) -> str:
        """The system's name as it stands in a table."""
        return "RECFORMER" if self.config.longformer else "RECFORMER (small)"

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray | Tensor], tokens: ItemTokens, config: RecformerConfig
    ) -> Recformer:
        """Build one from its `state_dict`, the same catalogue and the same config.

        Raises:
            ArtifactError: a parameter is missing, superfluous or of another shape.
        """
        return filled(cls(tokens, config), as_tensors(arrays), f"Recformer of {config!r}")

    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """h_i / |h_i| of every item, one row per item number; row 0 is zeros."""
        items: Tensor = self.get_buffer("items")
        return items

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """h_u / (τ |h_u|) of each row."""
        return self.encode(list(batch.histories)) / self.config.temperature

    def encode(self, rows: Sequence[Int[np.ndarray, " _items"]]) -> Float[Tensor, "rows d"]:
        """h / |h| of histories or of single items, oldest first."""
        batch = self.tokens.batch(rows, self.config.max_history, self.config.max_tokens)
        return F.normalize(self(batch)[:, 0], dim=1)

    def forward(self, batch: TokenBatch) -> Float[Tensor, "rows tokens d"]:
        """The hidden state of every token."""
        device, embeddings = self.item_places.weight.device, self.longformer.embeddings
        length = batch.ids.shape[1]
        # Longformer works in whole windows and warns when it must fill up itself.
        short = -length % self.window
        ids, kinds, places = (
            F.pad(torch.as_tensor(array, device=device), (0, short), value=value)
            for array, value in ((batch.ids, self.tokens.padding), (batch.kinds, 0), (batch.places, 0))
        )
        real = F.pad(torch.as_tensor(batch.real, device=device).long(), (0, short))
        whole = torch.zeros_like(real)
        whole[:, 0] = 1
        start = embeddings.padding_idx + 1
        positions = torch.arange(start, start + length + short, device=device).expand_as(ids)
        hidden: Tensor = self.longformer(
            inputs_embeds=embeddings.word_embeddings(ids) + self.item_places(places),
            attention_mask=real,
            global_attention_mask=whole,
            token_type_ids=kinds,
            position_ids=positions,
        ).last_hidden_state
        return hidden[:, :length]

    @torch.no_grad()
    def refresh_items(self, batch_size: int = 256) -> None:
        """Compute the item vectors anew, without dropout, from the weights as they are now."""
        training = self.training
        self.eval()
        items = self.item_vectors()
        order = np.argsort(np.diff(self.tokens.offsets)[1:], kind="stable") + 1
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            items[torch.from_numpy(part).to(items.device)] = self.encode([np.array([item]) for item in part])
        self.train(training)

    def word_logits(self, hidden: Float[Tensor, "masked d"]) -> Float[Tensor, "masked vocabulary"]:
        """What word stood there: hidden states against the word embeddings (tied, as in BERT, without a head)."""
        logits: Tensor = hidden @ self.longformer.embeddings.word_embeddings.weight.T
        return logits


def _longformer(tokens: ItemTokens, config: RecformerConfig) -> Any:
    """The Longformer, with as many kinds of tokens as RECFORMER has and without a pooler."""
    from transformers import LongformerConfig, LongformerModel  # slow to import, and the settings alone need it not

    if config.longformer is None:
        positions = config.max_tokens + config.window + tokens.padding + 2
        # BERT's 0.02 suits BERT's dim. In a narrow model attention would add next to nothing to the first token's own
        # embedding: all rows would begin alike, dropout would outweigh what they say, and the contrast would stay there.
        spread = config.dim**-0.5
        return LongformerModel(
            LongformerConfig(
                vocab_size=tokens.vocabulary, hidden_size=config.dim, num_hidden_layers=config.layers,
                num_attention_heads=config.heads, intermediate_size=4 * config.dim, type_vocab_size=len(KINDS),
                attention_window=config.window, max_position_embeddings=positions, pad_token_id=tokens.padding,
                initializer_range=spread,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
    model = read_model(
        LongformerModel, config.longformer, f"The Longformer {config.longformer!r}", add_pooling_layer=False,
        dtype=torch.float32,
    )  # fmt: skip
    _check_fits(model, tokens, config)
    kinds = nn.Embedding(len(KINDS), model.config.hidden_size)
    nn.init.normal_(kinds.weight, std=model.config.initializer_range)
    model.embeddings.token_type_embeddings = kinds
    model.config.type_vocab_size = len(KINDS)
    return model


def longformer_tokenizer(name: str) -> Any:
    """The tokenizer that a trained Longformer was trained with: no other's numbers mean anything to it.

    Raises:
        ModelNotFoundError: it cannot be loaded.
    """
    return read_tokenizer(name, f"The Longformer {name!r}")


def _check_fits(model: Any, tokens: ItemTokens, config: RecformerConfig) -> None:
    """Whether a Longformer has an embedding for every word and place that it will be asked for."""
    words, places = model.config.vocab_size, model.config.max_position_embeddings
    # Embeddings may be filled up to a round number. Of a folder without a tokenizer's files transformers makes one that
    # has no words.
    if not words / 2 < tokens.vocabulary <= words:
        raise ConfigError(
            f"The Longformer {config.longformer!r} knows {words:,} words and the tokenizer {tokens.vocabulary:,}: they do "
            "not belong together. Its own tokenizer's files (tokenizer.json) must lie beside it."
        )
    window = int(np.max(model.config.attention_window))
    room = (places - model.embeddings.padding_idx - 1) // window * window
    if config.max_tokens > room:
        raise ConfigError(
            f"max_tokens is {config.max_tokens} and the Longformer {config.longformer!r} has places for {room} in whole "
            f"windows of {window}. Ask for no more."
        )


def hidden_words(
    batch: TokenBatch, tokens: ItemTokens, share: float, rng: np.random.Generator
) -> tuple[TokenBatch, Bool[np.ndarray, "rows tokens"]]:
    """BERT's masking: of the chosen words 80 % become blank, 10 % a random word, 10 % stay.

    Only words of values are chosen; a key is always the same and the first token is none.

    Returns:
        The batch to be read, and which words are to be predicted.
    """
    chosen = (rng.random(batch.ids.shape) < share) & batch.real & (batch.kinds == KINDS.index("value"))
    fate = rng.random(batch.ids.shape)
    ids = np.where(chosen & (fate < 0.8), tokens.blank, batch.ids)
    ids = np.where(chosen & (fate >= 0.9), rng.integers(tokens.vocabulary, size=ids.shape), ids)
    return TokenBatch(ids, batch.kinds, batch.places, batch.real), chosen

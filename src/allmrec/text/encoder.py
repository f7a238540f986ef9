"""Sentence encoders: texts to vectors, tuned in full, in their last layers or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.core.frozen import Frozen
from allmrec.text.layers import find_layers, lower_view, upper_view
from allmrec.text.loading import Parts, load_parts
from allmrec.text.tokens import TokenisedTexts

__all__ = ["EncoderConfig", "SentenceEncoder", "TransformerEncoder", "load_encoder"]


class EncoderConfig(Config):
    """Which sentence encoder is used, and how much of it is tuned."""

    name: str = Field("all-MiniLM-L6-v2", min_length=1, description="Model folder, packaged model or hub name.")
    tune: Literal["full", "frozen"] | int = Field(
        "full", description="What is trained: everything (the paper's), nothing, or the last n layers."
    )
    max_tokens: int | None = Field(256, ge=3, description="Tokens of a text at the most; none: what the model takes.")

    @property
    def untouched(self) -> EncoderConfig:
        """The same encoder with nothing of it tuned."""
        return self.model_copy(update={"tune": "frozen"})


@runtime_checkable
class SentenceEncoder(Protocol):
    """What stage 1 needs of an encoder; a torch module whose parameters are exactly what is trained.

    Vectors are the pooled output *before* any normalisation: a normalised vector has components of about 1/√dim, and
    a mean of squares over them would make the text terms of the objective vanish.
    """

    @property
    def dim(self) -> int:
        """Length of a text's vector."""
        ...

    @property
    def frozen(self) -> Literal["nothing", "lower", "all"]:
        """What is never trained: a text bank computes that part once."""
        ...

    def tokenise(self, texts: Sequence[str | None]) -> TokenisedTexts:
        """Token numbers of each text; none for an absent text."""
        ...

    def states(
        self, ids: Int[Tensor, "texts tokens"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens dim"]:
        """Output of the frozen lower layers, without gradients. Only where `frozen` is "lower"."""
        ...

    def from_states(
        self, states: Float[Tensor, "texts tokens dim"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts dim"]:
        """The rest of the way from `states` to the pooled vectors. Only where `frozen` is "lower"."""
        ...

    def __call__(
        self, ids: Int[Tensor, "texts tokens"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts dim"]:
        """Pooled vectors, all the way from the tokens."""
        ...


class TransformerEncoder(nn.Module):
    """A transformers encoder with its sentence-transformers pooling.

    Its parameters and its state dict hold what is trained and nothing else: the whole model under `tune="full"`, the
    last layers under a number, nothing under "frozen".

    Args:
        parts: model, tokenizer and pooling as loaded.
        tune: "full", "frozen", or how many of the last layers are trained.
        max_tokens: tokens of a text at the most.

    Raises:
        ConfigError: more layers are to be tuned than there are, or the model's layers cannot be told apart.
    """

    def __init__(self, parts: Parts, tune: Literal["full", "frozen"] | int = "full", max_tokens: int | None = 256):
        super().__init__()
        self.name = parts.name
        self.dim = int(parts.model.config.hidden_size)
        self.max_tokens = min(parts.max_tokens, max_tokens or parts.max_tokens)
        self.tune = tune
        self._tokenizer = parts.tokenizer
        self._lower_case = parts.lower_case
        self._pooling = parts.pooling
        model = parts.model
        self.frozen: Literal["nothing", "lower", "all"] = "nothing"
        if tune == "full":
            self.model = model
        elif tune == "frozen" or tune == 0:
            self.frozen = "all"
            self._whole = Frozen(model)
        else:
            layers = find_layers(model)
            if not 0 < tune <= len(layers):
                raise ConfigError(f"{parts.name} has {len(layers)} layers; cannot tune the last {tune} of them.")
            self.frozen = "lower"
            self._lower = Frozen(lower_view(model, len(layers) - tune))
            self.tuned = nn.ModuleList(layers[len(layers) - tune :])
            self.tuned.requires_grad_(True)
            # In a tuple so that torch does not register it: its layers are `tuned`, the rest belongs to `_lower`.
            self._upper = (upper_view(model, len(layers) - tune),)

    def tokenise(self, texts: Sequence[str | None]) -> TokenisedTexts:
        """Token numbers of each text, cut at `max_tokens`; none for an absent or blank text."""
        stripped = [(text or "").strip() for text in texts]
        if self._lower_case:
            stripped = [text.lower() for text in stripped]
        present = [text for text in stripped if text]
        encoded = iter(
            self._tokenizer(present, truncation=True, max_length=self.max_tokens)["input_ids"] if present else []
        )
        padding = self._tokenizer.pad_token_id
        return TokenisedTexts.of(
            [next(encoded) if text else [] for text in stripped], 0 if padding is None else padding
        )

    def forward(
        self, ids: Int[Tensor, "texts tokens"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts dim"]:
        """Pooled vectors, all the way from the tokens."""
        if self.frozen == "lower":
            return self.from_states(self.states(ids, real), real)
        model: Any = self._whole if self.frozen == "all" else self.model
        return self._pool(model(input_ids=ids, attention_mask=real.long()).last_hidden_state, real)

    @torch.no_grad()
    def states(
        self, ids: Int[Tensor, "texts tokens"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens dim"]:
        """Output of the frozen lower layers, always in evaluation mode."""
        hidden: Tensor = self._lower(input_ids=ids, attention_mask=real.long()).last_hidden_state
        return hidden

    def from_states(
        self, states: Float[Tensor, "texts tokens dim"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts dim"]:
        """The tuned layers and the pooling."""
        hidden = self._upper[0](inputs_embeds=states, attention_mask=real.long()).last_hidden_state
        return self._pool(hidden, real)

    def _pool(self, hidden: Float[Tensor, "texts tokens dim"], real: Bool[Tensor, "texts tokens"]) -> Tensor:
        """One vector per text; no normalisation."""
        if self._pooling == "cls":
            return hidden[:, 0]
        weights = real.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def load_encoder(config: EncoderConfig) -> TransformerEncoder:
    """Load a sentence encoder.

    Raises:
        ModelNotFoundError: the model is neither a folder, nor packaged, nor reachable.
        ConfigError: its pooling is not supported, or it cannot be tuned as asked.
    """
    return TransformerEncoder(load_parts(config.name), config.tune, config.max_tokens).eval()

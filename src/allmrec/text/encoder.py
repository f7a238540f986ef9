"""Sentence encoders: texts to vectors, tuned in full, in their last layers or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from allmrec.core.config import Config
from allmrec.core.frozen import Frozen
from allmrec.core.places import ModelName
from allmrec.core.words import Words
from allmrec.text.layers import CutEncoder, check_hidden, last_hidden
from allmrec.text.loading import Parts, load_parts
from allmrec.text.tokens import TokenisedTexts

__all__ = ["EncoderConfig", "SentenceEncoder", "TransformerEncoder", "encoder_of", "load_encoder"]


class EncoderConfig(Config):
    """Which sentence encoder is used, and how much of it is tuned."""

    name: ModelName = Field("all-MiniLM-L6-v2", min_length=1, description="Model folder, packaged model or hub name.")
    tune: Literal["full", "frozen"] | int = Field(
        "full", description="What is trained: everything (the paper's), nothing, or the last n layers."
    )
    max_tokens: int | None = Field(256, ge=3, description="Tokens of a text at the most; none: what the model takes.")
    trust_remote_code: bool = Field(
        False,
        description="Whether Python files that come with the model may run. They can do all that you can: read them first. A run "
        "that was given to you does not decide this; see ALLMREC_TRUST_REMOTE_CODE in docs/trust.md.",
    )

    @property
    def deciding(self) -> dict[str, Any]:
        """What of it decides a result: all but whether its code may run."""
        return self.model_dump(mode="json", exclude={"trust_remote_code"})

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
        ConfigError: more layers are to be tuned than there are; or the model gives no hidden state a token, or its last
            layers behind the others do not give what the whole gives.
    """

    def __init__(self, parts: Parts, tune: Literal["full", "frozen"] | int = "full", max_tokens: int | None = 256):
        super().__init__()
        self.name = parts.name
        self.max_tokens = min(parts.max_tokens, max_tokens or parts.max_tokens)
        self.tune = tune
        self._tokenizer = parts.tokenizer
        self._words = Words(parts.tokenizer)
        self._lower_case = parts.lower_case
        self._pooling = parts.pooling
        model = parts.model
        probe = self._probe()
        self.dim = check_hidden(model, *probe, parts.name)
        self.frozen: Literal["nothing", "lower", "all"] = "nothing"
        if tune == "full":
            self.model = model
        elif tune == "frozen" or tune == 0:
            self.frozen = "all"
            self._whole = Frozen(model)
        else:
            self.frozen = "lower"
            # No module itself: its layers are `tuned`, the rest belongs to `_lower`.
            self._cut = CutEncoder(model, tune, *probe, parts.name)
            self._lower = Frozen(self._cut.lower)
            self.tuned = self._cut.tuned
            self.tuned.requires_grad_(True)

    def tokenise(self, texts: Sequence[str | None]) -> TokenisedTexts:
        """Token numbers of each text, cut at `max_tokens`; none for an absent or blank text.

        Whatever a text says is words: of the model's control tokens it has those alone that stand before and behind it.
        """
        stripped = [(text or "").strip() for text in texts]
        if self._lower_case:
            stripped = [text.lower() for text in stripped]
        words = iter(self._words.many([text for text in stripped if text]))
        padding = self._tokenizer.pad_token_id
        return TokenisedTexts.of(
            [self._framed(next(words)) if text else [] for text in stripped], 0 if padding is None else padding
        )

    def _framed(self, words: list[int]) -> list[int]:
        """Words cut to what there is room for, and what the tokenizer puts around them."""
        before, after = self._words.before, self._words.after
        room = max(0, self.max_tokens - len(before) - len(after))
        left = getattr(self._tokenizer, "truncation_side", "right") == "left"
        return [*before, *(words[max(0, len(words) - room) :] if left else words[:room]), *after]

    def _probe(self) -> tuple[Tensor, Tensor]:
        """Two texts of unlike lengths for the model to be tried on."""
        ids, real = self.tokenise(["a", "The film of the year 1995, a story"]).batch(np.arange(2))
        return torch.from_numpy(ids), torch.from_numpy(real)

    def forward(
        self, ids: Int[Tensor, "texts tokens"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts dim"]:
        """Pooled vectors, all the way from the tokens."""
        if self.frozen == "lower":
            return self.from_states(self.states(ids, real), real)
        model = self._whole if self.frozen == "all" else self.model
        return self._pool(last_hidden(model, ids, real), real)

    @torch.no_grad()
    def states(
        self, ids: Int[Tensor, "texts tokens"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens hidden"]:
        """Output of the frozen lower layers, always in evaluation mode."""
        return self._cut.states(ids, real)

    def from_states(
        self, states: Float[Tensor, "texts tokens hidden"], real: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts dim"]:
        """The tuned layers and the pooling."""
        return self._pool(self._cut.from_states(states, real), real)

    def _pool(self, hidden: Float[Tensor, "texts tokens dim"], real: Bool[Tensor, "texts tokens"]) -> Tensor:
        """One vector per text; no normalisation."""
        if self._pooling == "cls":
            return hidden[:, 0]
        if self._pooling == "last":
            # Padding is on the right here, whatever side the tokenizer would pad.
            return hidden[torch.arange(len(hidden), device=hidden.device), (real.sum(1) - 1).clamp(min=0)]
        weights = real.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def load_encoder(config: EncoderConfig) -> TransformerEncoder:
    """Load a sentence encoder.

    Raises:
        ModelNotFoundError: the model is neither a folder, nor packaged, nor reachable, or its files are not whole.
        ConfigError: its pooling is not supported, or it cannot be tuned as asked.
    """
    return encoder_of(load_parts(config.name, config.trust_remote_code), config)


def encoder_of(parts: Parts, config: EncoderConfig) -> TransformerEncoder:
    """A sentence encoder of parts that are loaded already; raises as `load_encoder`."""
    return TransformerEncoder(parts, config.tune, config.max_tokens).eval()

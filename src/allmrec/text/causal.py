"""A causal language model as an encoder of texts: its hidden states, pooled. Knows the model by what it asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator
from torch import Tensor

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.core.progress import progress_bar

__all__ = ["CausalConfig", "CausalEncoder", "CausalModel"]

_PLACE = "{text}"

# Tokens, padding included, in one forward pass.
_TOKENS = 4096


class CausalConfig(Config):
    """What of the language model's hidden states becomes a text's vector."""

    layer: int | None = Field(None, ge=1, description="Hidden states after so many layers; none: after all.")
    pooling: Literal["mean", "last"] = Field(
        "mean",
        description="mean: over the tokens of the text itself, words of the prompt left out. last: the last token of all.",
    )
    prompt: str = Field(
        _PLACE, description='Words around the text, such as "{text} This item in one word:" (after PromptEOL) for last.'
    )
    max_tokens: int = Field(256, ge=1, description="Tokens of a text at the most; the prompt's are not counted.")

    @field_validator("prompt")
    @classmethod
    def _one_place(cls, prompt: str) -> str:
        if prompt.count(_PLACE) != 1:
            raise ValueError(f"expected {_PLACE} once in the prompt, found it {prompt.count(_PLACE)} times")
        return prompt


@runtime_checkable
class CausalModel(Protocol):
    """What is asked of a language model."""

    @property
    def name(self) -> str: ...

    @property
    def hidden_dim(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def prefix_ids(self) -> tuple[int, ...]: ...

    @property
    def device(self) -> torch.device: ...

    def tokenize(self, text: str) -> list[int]: ...

    def embed(self, ids: Int[Tensor, " *shape"]) -> Float[Tensor, "*shape dim"]: ...

    def check_layers(self, layers: int) -> None: ...

    def hidden(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens tokens"] | None,
        positions: Int[Tensor, "batch tokens"],
        layers: int | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]: ...


class CausalEncoder:
    """Texts to vectors by the hidden states of a frozen language model, after the model's final norm.

    A token sees those before it alone. So the mean says what it would without the words behind the text, and words before
    the text change it. The first token of all gets a state that hardly depends on what it is (an attention sink; Xiao et
    al., 2024): where the model has no token of its own before a text, a word of a prompt there keeps it out of the mean.

    Args:
        model: the language model.
        config: layer, pooling and prompt.

    Raises:
        ConfigError: the model has not so many layers or cannot be cut there, or the prompt leaves no room for a text.
    """

    def __init__(self, model: CausalModel, config: CausalConfig) -> None:
        before, after = config.prompt.split(_PLACE)
        # In byte-pair tokens a blank belongs to the word behind it.
        self._lead = before[len(before.rstrip()) :]
        before = before.rstrip()
        self._before = [*model.prefix_ids, *(model.tokenize(before) if before else ())]
        self._after = model.tokenize(after) if after else []
        self._room = min(config.max_tokens, model.max_tokens - len(self._before) - len(self._after))
        if self._room < 1:
            raise ConfigError(
                f"texts.llm.prompt takes {len(self._before) + len(self._after)} tokens, and {model.name} reads "
                f"{model.max_tokens}; expected room for a text. Shorten it."
            )
        if config.layer is not None:
            model.check_layers(config.layer)
        self._model, self._config = model, config

    @property
    def dim(self) -> int:
        """Length of a text's vector."""
        return self._model.hidden_dim

    @torch.no_grad()
    def vectors(
        self, texts: Sequence[str | None], description: str = "encode texts"
    ) -> tuple[Float[Tensor, "texts dim"], Bool[Tensor, " texts"]]:
        """The vector of each text, on the CPU, and which have one; those of absent or blank texts are 0."""
        rows = [self._tokens(text) for text in texts]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        found = torch.zeros(len(rows), self.dim)
        order = np.flatnonzero(lengths)[np.argsort(-lengths[lengths > 0], kind="stable")]
        with progress_bar(description, len(order)) as bar:
            while len(order):
                # The first is the longest.
                part = order[: max(1, _TOKENS // self._whole(int(lengths[order[0]])))]
                found[torch.from_numpy(part)] = self._encode([rows[row] for row in part.tolist()]).float().cpu()
                bar.advance(len(part))
                order = order[len(part) :]
        return found, torch.from_numpy(lengths > 0)

    def _tokens(self, text: str | None) -> list[int]:
        words = (text or "").strip()
        return self._model.tokenize(self._lead + words)[: self._room] if words else []

    def _whole(self, tokens: int) -> int:
        return len(self._before) + tokens + len(self._after)

    def _encode(self, rows: Sequence[list[int]]) -> Float[Tensor, "rows dim"]:
        """Texts that all have a token, in one forward pass."""
        whole = [torch.tensor([*self._before, *row, *self._after]) for row in rows]
        ids = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True).to(self._model.device)
        positions = torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1)
        states = self._model.hidden(self._model.embed(ids), None, positions, self._config.layer)
        return self._pool(states.float(), torch.tensor([len(row) for row in rows], device=states.device))

    def _pool(
        self, states: Float[Tensor, "rows tokens dim"], lengths: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows dim"]:
        """One vector a text; `lengths` counts its own tokens."""
        first = len(self._before)
        if self._config.pooling == "last":
            return states[torch.arange(len(states), device=states.device), first + lengths + len(self._after) - 1]
        places = torch.arange(states.shape[1], device=states.device)
        own = (places >= first) & (places < first + lengths[:, None])
        return torch.einsum("rtd,rt->rd", states, own.to(states.dtype)) / lengths[:, None]

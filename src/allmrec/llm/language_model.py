"""The language model as the rest sees it: tokens, embeddings, hidden states, attention, kept keys and values, logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Decoding", "KeysAndValues", "LanguageModel"]


@dataclass(frozen=True)
class KeysAndValues:
    """What every layer's attention keeps of places that were read, so that later places can be read without them.

    Attributes:
        keys, values: per layer and row, heads times places times a head's dim.
        positions: position numbers of the places.
    """

    keys: Float[Tensor, "layers rows heads places key_dim"]
    values: Float[Tensor, "layers rows heads places value_dim"]
    positions: Int[Tensor, "rows places"]


@runtime_checkable
class Decoding(Protocol):
    """Texts that are being continued, one row each; what was read is kept, so that a step costs one token a row."""

    @property
    def logits(self) -> Float[Tensor, "rows vocabulary"]:
        """Logits of each row's next token."""
        ...

    def append(self, tokens: Int[Tensor, " rows"]) -> None:
        """Read one more token in each row.

        Raises:
            ConfigError: a row has no positions left.
        """
        ...

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows alone, in this order; a row may be named several times."""
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """A frozen causal language model that takes embeddings in place of tokens."""

    @property
    def name(self) -> str:
        """The name or folder that it was loaded by."""
        ...

    @property
    def dim(self) -> int:
        """Width of its token embeddings."""
        ...

    @property
    def hidden_dim(self) -> int:
        """Width of its hidden states."""
        ...

    @property
    def depth(self) -> int:
        """Number of its layers."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether several processes hold a part of its layers each, and must call it equally often."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest input that it has positions for."""
        ...

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Tokens that it wants before any text (a BOS token, or none)."""
        ...

    @property
    def eos_id(self) -> int:
        """The token that ends an answer."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def reads_trees(self) -> bool:
        """Whether a place can be told which places to see, so that several texts are read behind one prompt at once.

        Not so of recurrent and convolutional layers, of ALiBi, and of whatever else goes by a text's order alone.
        """
        ...

    @property
    def keeps_places(self) -> bool:
        """Whether `keep` and `hidden_behind` can be had."""
        ...

    @property
    def embedding_scale(self) -> float:
        """Root mean square of a component of its token embeddings."""
        ...

    def embedding_moments(self) -> tuple[Float[Tensor, " dim"], Float[Tensor, "dim dim"]]:
        """Mean and covariance of its token embeddings."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ...

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        ...

    def embed(self, ids: Int[Tensor, " *shape"]) -> Float[Tensor, "*shape dim"]:
        """Input embeddings of token ids."""
        ...

    def hidden(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens tokens"] | None,
        positions: Int[Tensor, "batch tokens"],
        layers: int | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Hidden states after the first `layers` layers (all: none) and the final norm.

        Args:
            embeddings: what stands at each place.
            visible: which places (last axis) each place sees; none: all before it and itself. Padding on the right
                then needs no mask, for nothing real comes after it.
            positions: the position number of each place.
            layers: how many layers to run.

        Raises:
            ConfigError: `visible` of a model that does not read trees, or `layers` of one that cannot be cut there.
        """
        ...

    def check_layers(self, layers: int) -> None:
        """Whether `hidden` can run that many layers alone.

        Raises:
            ConfigError: it cannot.
        """
        ...

    def branches(
        self, prompt: Float[Tensor, "tokens dim"], branches: Float[Tensor, "branches further dim"]
    ) -> tuple[Float[Tensor, " hidden"], Float[Tensor, "branches further hidden"]]:
        """Hidden states, after all layers, of several continuations of one prompt, each read as if it stood there alone.

        Any model gives them. Without gradients the prompt is read once, where the model's cache can be doubled.

        Args:
            prompt: what stands at each of its places.
            branches: what follows it, padded on the right.

        Returns:
            The hidden state at the prompt's end, and those of the continuations.
        """
        ...

    def keep(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens kept_and_tokens"],
        positions: Int[Tensor, "batch tokens"],
        behind: KeysAndValues | None = None,
    ) -> KeysAndValues:
        """Read places and keep what later places need of them; nothing of it is differentiable.

        Args:
            embeddings: what stands at each place.
            visible: which places each place sees: those of `behind` first, then these.
            positions: the position number of each place.
            behind: places that were read before, one row a row of the batch; none: these are the first.

        Raises:
            ConfigError: `keeps_places` is not so.
        """
        ...

    def hidden_behind(
        self,
        behind: KeysAndValues,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens kept_and_tokens"],
        positions: Int[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Hidden states, after all layers, of places behind kept ones; arguments as of `keep`, nothing differentiable."""
        ...

    def attention(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens tokens"] | None,
        positions: Int[Tensor, "batch tokens"],
        places: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch layers heads tokens"]:
        """Attention weights of one place of each row on all places; they sum to 1 up to the model's precision.

        Args:
            embeddings, visible, positions: as of `hidden`.
            places: which place of each row.

        Raises:
            ConfigError: the model does not give attention weights of all its layers.
        """
        ...

    def logits(self, hidden: Float[Tensor, "places hidden"]) -> Float[Tensor, "places vocabulary"]:
        """Next-token logits at given places only; logits everywhere would cost a third more time and gigabytes."""
        ...

    def decode(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        lengths: Int[Tensor, " batch"],
        positions: Int[Tensor, "batch tokens"] | None = None,
        visible: Bool[Tensor, "batch tokens tokens"] | None = None,
    ) -> Decoding:
        """Begin to continue texts; nothing of it is differentiable.

        Args:
            embeddings: what stands at each place, padded on the right.
            lengths: real places of each row, at least one. Padding changes no row's logits.
            positions: the position number of each place; none: one after the other.
            visible: which places each place sees; none: all before it and itself.

        Raises:
            ConfigError: `visible` of a model that does not keep places.
        """
        ...

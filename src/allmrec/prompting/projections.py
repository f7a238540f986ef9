"""F_U and F_I: from recommendation space into the language model's token space."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from allmrec.core.config import Config

__all__ = ["Projection", "ProjectionConfig", "seeded_projections"]


# Size of a component after the norm and the activation.
_ACTIVE = 0.6


class ProjectionConfig(Config):
    """Shape of a projection (paper, section 3.2: a two-layer MLP; its inside is the released program's)."""

    hidden: int | None = Field(None, ge=1, description="Width of the hidden layer; none: the token dim.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the second layer.")
    standardise: bool = Field(
        True,
        description="Give the first layer inputs of mean 0 and deviation 1 over the items. Stage 1's vectors differ from "
        "item to item by a few hundredths around a common value, which a layer norm would take for all there is. A "
        "linear layer could undo it, so what can be learned is the same (ours; off in the released program).",
    )
    start: Literal["random", "aligned"] = Field(
        "random",
        description="How F_U begins. `random`: by itself (paper); `aligned` (ours): as what F_I makes of an item whose CF "
        "vector the user's is, so that a user begins near the items that the CF model scores high. For the form `copy`.",
    )
    scale: Literal["none", "tokens", "embeddings"] = Field(
        "tokens",
        description="`tokens`: outputs start with the size of a token embedding, so that a slot neither drowns in nor "
        "drowns the words; `embeddings` (ours): with the mean and covariance of the token embeddings too, so that a slot looks "
        "like a word to the first layers; `none`: as Xavier's initialisation leaves them (released program).",
    )


class Projection(nn.Module):
    """Linear, LayerNorm, activation, Linear.

    Args:
        inputs: dim of the vectors that come in.
        outputs: dim of a token embedding.
        config: shape.
        activation: LeakyReLU for users, GELU for items in the released program.
        token_scale: root mean square of a token embedding's component.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self, inputs: int, outputs: int, config: ProjectionConfig, activation: nn.Module, token_scale: float
    ) -> None:
        super().__init__()
        hidden = config.hidden or outputs
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.first = nn.Linear(inputs, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.activation = activation
        self.dropout = nn.Dropout(config.dropout)
        self.second = nn.Linear(hidden, outputs)
        for layer in (self.first, self.second):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        # Xavier keeps the size of what it reads.
        self._factor = 1.0 if config.scale == "none" else token_scale / _ACTIVE

    def forward(self, vectors: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """Project vectors, any number of leading axes."""
        inputs = (vectors - self.centre) / self.spread
        projected: Tensor = self.second(self.dropout(self.activation(self.norm(self.first(inputs)))))
        return projected * self._factor

    def standardise(self, vectors: Float[Tensor, "items inputs"]) -> None:
        """Take mean and deviation of inputs from these vectors; a component that never varies is only centred."""
        spread, self.centre = torch.std_mean(vectors.to(self.centre), dim=0)
        self.spread = torch.where(spread > 1e-8, spread, 1.0)

    @torch.no_grad()
    def start_like(self, mean: Float[Tensor, " outputs"], covariance: Float[Tensor, "outputs outputs"]) -> None:
        """Begin with outputs of this mean and covariance, drawn from torch's current stream."""
        values, vectors = torch.linalg.eigh(covariance.double().cpu())
        root = (vectors * values.clamp_min(0).sqrt()).to(self.second.weight)
        hidden = self.second.in_features
        drawn = torch.randn(len(root), hidden).to(root) / (_ACTIVE * math.sqrt(hidden))
        self.second.weight.copy_(root @ drawn / self._factor)
        self.second.bias.copy_(mean.to(root) / self._factor)

    @torch.no_grad()
    def align_to(
        self, other: Projection, inputs: Float[Tensor, "items inputs"], theirs: Float[Tensor, "items other_inputs"]
    ) -> None:
        """Begin such that an item's `inputs` give what `other` gives for `theirs`, as nearly as one layer can.

        The first layer is the least-squares map from the inputs to what the other's first layer makes of its own inputs;
        everything behind it is copied.

        Args:
            other: a projection of the same inside.
            inputs: what this one reads, by item.
            theirs: what the other reads, by item.
        """
        self.standardise(inputs)
        mine = (inputs.to(self.centre) - self.centre) / self.spread
        wanted = other.first((theirs.to(other.centre) - other.centre) / other.spread)
        design = torch.cat([mine, torch.ones(len(mine), 1, device=mine.device)], dim=1).double()
        solution = torch.linalg.lstsq(design.cpu(), wanted.double().cpu(), driver="gelsd").solution.to(wanted)
        self.first.weight.copy_(solution[:-1].T)
        self.first.bias.copy_(solution[-1])
        self.norm.load_state_dict(other.norm.state_dict())
        self.second.load_state_dict(other.second.state_dict())
        self.activation = other.activation


def seeded_projections(
    user_dim: int, item_dim: int, outputs: int, config: ProjectionConfig, token_scale: float
) -> tuple[Projection, Projection]:
    """F_U and F_I, initialised from torch's current stream."""
    users = Projection(user_dim, outputs, config, nn.LeakyReLU(), token_scale)
    items = Projection(item_dim, outputs, config, nn.GELU(), token_scale)
    return users, items

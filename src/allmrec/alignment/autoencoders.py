"""The trained network of stage 1: two autoencoders that meet in one space."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from allmrec.text.encoder import SentenceEncoder

__all__ = ["Alignment", "Autoencoder"]


class Autoencoder(nn.Module):
    """A one-layer encoder into the joint space and a linear decoder back.

    The paper says "1-layer MLP"; the released program has a sigmoid behind the linear encoder, which is followed here.

    Args:
        dim: length of the vectors that come in.
        joint_dim: length `d'` of a joint vector.
    """

    def __init__(self, dim: int, joint_dim: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(dim, joint_dim)
        self.decoder = nn.Linear(joint_dim, dim)

    def encode(self, vectors: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows joint"]:
        """Into the joint space; every component lies between 0 and 1."""
        return torch.sigmoid(self.encoder(vectors))

    def decode(self, joint: Float[Tensor, "rows joint"]) -> Float[Tensor, "rows dim"]:
        """Back to where the vectors came from."""
        return cast(Tensor, self.decoder(joint))


class Alignment(nn.Module):
    """Stage 1 as a module: `f_I, g_I` on CF item vectors, `f_T, g_T` on text vectors, and the encoder's tuned part.

    Its state dict is the stage's deliverable: the autoencoders and those layers of the encoder that are tuned.

    Args:
        item_dim: length of a CF item vector.
        encoder: the sentence encoder; kept, not copied, and tuned in place.
        joint_dim: length `d'` of a joint vector.
    """

    def __init__(self, item_dim: int, encoder: SentenceEncoder, joint_dim: int = 128) -> None:
        super().__init__()
        self.joint_dim = joint_dim
        self.items = Autoencoder(item_dim, joint_dim)
        self.texts = Autoencoder(encoder.dim, joint_dim)
        self.encoder = encoder

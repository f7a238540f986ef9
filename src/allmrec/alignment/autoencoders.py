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
        width: length of the vectors that come in.
        joint_width: length `d'` of a joint vector.
    """

    def __init__(self, width: int, joint_width: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(width, joint_width)
        self.decoder = nn.Linear(joint_width, width)

    def encode(self, vectors: Float[Tensor, "rows width"]) -> Float[Tensor, "rows joint"]:
        """Into the joint space; every component lies between 0 and 1."""
        return torch.sigmoid(self.encoder(vectors))

    def decode(self, joint: Float[Tensor, "rows joint"]) -> Float[Tensor, "rows width"]:
        """Back to where the vectors came from."""
        return cast(Tensor, self.decoder(joint))


class Alignment(nn.Module):
    """Stage 1 as a module: `f_I, g_I` on CF item vectors, `f_T, g_T` on text vectors, and the encoder's tuned part.

    Its state dict is the stage's deliverable: the autoencoders and those layers of the encoder that are tuned.

    Args:
        item_width: length of a CF item vector.
        encoder: the sentence encoder; kept, not copied, and tuned in place.
        joint_width: length `d'` of a joint vector.
    """

    def __init__(self, item_width: int, encoder: SentenceEncoder, joint_width: int = 128) -> None:
        super().__init__()
        self.joint_width = joint_width
        self.items = Autoencoder(item_width, joint_width)
        self.texts = Autoencoder(encoder.width, joint_width)
        self.encoder = encoder

"""Stage 1: aligns the items of a frozen CF model with their texts."""

from __future__ import annotations

from allmrec.alignment.align import align, joint_items, joint_text_vectors
from allmrec.alignment.autoencoders import Alignment, Autoencoder
from allmrec.alignment.joint_items import JointItemTable
from allmrec.alignment.objective import AlignConfig, ItemSide, alignment_terms

__all__ = [
    "AlignConfig",
    "Alignment",
    "Autoencoder",
    "ItemSide",
    "JointItemTable",
    "align",
    "alignment_terms",
    "joint_items",
    "joint_text_vectors",
]

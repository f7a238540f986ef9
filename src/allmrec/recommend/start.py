"""F_U and F_I as they stand before stage 2 is trained."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from allmrec.cf.backbone import Backbone
from allmrec.llm.language_model import LanguageModel
from allmrec.prompting.projections import Projection, ProjectionConfig, seeded_projections
from allmrec.prompting.slots import SlotContents

__all__ = ["begun_projections"]


@torch.no_grad()
def begun_projections(
    lm: LanguageModel,
    backbone: Backbone,
    contents: SlotContents,
    table: Float[Tensor, "items columns"],
    inputs: int,
    config: ProjectionConfig,
) -> tuple[Projection, Projection]:
    """F_U and F_I on the language model's device, begun as the configuration says.

    Initial weights come from torch's global stream.

    Args:
        lm: the language model.
        backbone: the CF model whose user vectors F_U reads.
        contents: what item slots carry, on the language model's device.
        table: a row an item, for `contents`; row 0 pads.
        inputs: components of an input of F_I.
        config: shape and beginning.
    """
    users, items = seeded_projections(backbone.dim, inputs, lm.dim, config, lm.embedding_scale)
    # Vectors and the language model's embeddings are on its device, and starts are made of them.
    for projection in (users, items):
        projection.to(lm.device)
    if config.standardise:
        items.standardise(contents(table[1:]))
    if config.scale == "embeddings":
        mean, covariance = lm.embedding_moments()
        for projection in (users, items):
            projection.start_like(mean, covariance)
    if config.start == "aligned":
        # F_U begins as F_I does on the CF model's item vectors, which users are compared with.
        vectors = backbone.item_vectors().detach()
        known = slice(1, min(len(vectors), len(table)))
        users.align_to(items, vectors[known].to(lm.device), contents(table[known]))
    return users, items

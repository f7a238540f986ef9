"""A CF model of your own in the place of SASRec: forty lines, then every verb and every stage knows it.

    python examples/own_backbone.py

The model is the mean of what a user took so far, which is about the simplest that learns anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from allmrec.cf import BACKBONES, BackboneKind, PretrainConfig, SequenceBackbone, pretrain
from allmrec.core.config import Config
from allmrec.data.splitting import leave_one_out
from allmrec.testing.conformance import check_backbone
from allmrec.testing.worlds import taste_world


class MeanConfig(Config):
    """Settings of the model; `pretrain.model.dim` in a recipe."""

    dim: int = Field(32, ge=1, description="Length d of item and user vectors.")
    max_history: int = Field(50, ge=1, description="Most recent items that the model looks at.")


class MeanOfHistory(SequenceBackbone):
    """x_u after each position: a linear map of the mean of the items up to there."""

    def __init__(self, n_items: int, config: MeanConfig) -> None:
        super().__init__(n_items, config.dim, config.max_history)
        self.items = nn.Embedding(n_items + 1, config.dim, padding_idx=0)
        self.out = nn.Linear(config.dim, config.dim)

    def item_vectors(self) -> Tensor:
        return self.items.weight

    def position_vectors(self, histories: Tensor, users: Tensor) -> Tensor:
        # Row 0 is zero and is not counted, so it makes no difference how far a history is padded.
        seen = (histories != 0).cumsum(1).clamp(min=1).unsqueeze(-1)
        return self.out(self.items(histories).cumsum(1) / seen)

    @classmethod
    def load(cls, arrays: Mapping[str, Any], config: MeanConfig) -> MeanOfHistory:
        model = cls(len(arrays["items.weight"]) - 1, config)
        model.load_state_dict({name: torch.as_tensor(values) for name, values in arrays.items()})
        return model.eval()


BACKBONES["mean"] = BackboneKind(
    title="Mean of history",
    config=MeanConfig,
    build=lambda n_items, n_users, config: MeanOfHistory(n_items, config),
    load=MeanOfHistory.load,
)


def main() -> float:
    """Train it on a world whose right answers are known; `allmrec.train(..., backbone="mean")` runs every stage."""
    settings = {"epochs": 40, "batch_size": 32, "learning_rate": 1e-2, "validate_every": 20}
    split = leave_one_out(taste_world())
    _, log = pretrain(split, PretrainConfig.model_validate({"backbone": "mean", "training": settings}), seed=0)
    # What every backbone must keep: causality, padding, saving, stage 1 and more; raises where it does not.
    checks = check_backbone("mean", training=settings)
    print(f"{len(checks)} checks passed")
    print(f"NDCG@10 on validation items: {log.records[0]['ndcg@10']:.3f} at first, {log.best_value:.3f} at best")
    return log.best_value


if __name__ == "__main__":
    main()

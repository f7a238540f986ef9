"""A language model's layers shared out over the processes that train together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from allmrec.core.errors import ConfigError

__all__ = ["share_out"]


def share_out(model: nn.Module, layers: Iterable[nn.Module], device: torch.device, name: str) -> None:
    """Keep a part of each layer's weights here, and the other parts in the other processes (FSDP: Zhao et al., VLDB 2023).

    A layer is put together when it is called, forwards or backwards, and taken apart again.

    Args:
        model: what is not among its layers stays whole.
        layers: of the model.
        device: where the processes compute.
        name: of the model, for errors.

    Raises:
        ConfigError: its weights are quantised.
    """
    # Slow to import, and only several processes need them.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if getattr(model, "is_quantized", False):
        raise ConfigError(
            f"The weights of {name} are quantised, and cannot be shared out. Set llm.precision=bfloat16, or train without --share-llm."
        )
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    model.to(device)

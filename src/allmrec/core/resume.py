"""Resume state of a training loop in one safetensors file; knows the optimiser's layout, not the task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from allmrec.core.artifacts import write_tensors
from allmrec.core.errors import ArtifactError

__all__ = ["read_resume", "write_resume"]


def write_resume(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, Tensor] | None,
    state: Mapping[str, Any],
) -> None:
    """Write everything that the next step depends on, whole or not at all."""
    tensors = {f"module/{name}": t for name, t in module.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": torch.as_tensor(value) for name, value in values.items()}
    if best is not None:
        tensors |= {f"best/{name}": t for name, t in best.items()}
    write_tensors(path, tensors, {"state": json.dumps(state)})


def read_resume(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Put the state back into `module` and `optimizer`.

    Returns:
        The loop's own state, and the best weights so far where there were any.

    Raises:
        ArtifactError: the file is damaged or belongs to another model.
    """
    advice = f"Remove {path} to start this stage anew."
    try:
        with safe_open(path, framework="pt") as handle:
            state = json.loads(handle.metadata()["state"])
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"The resume state {path} is damaged or no resume state ({error}). {advice}") from error
    parts: dict[str, dict[str, Tensor]] = {"module": {}, "optimizer": {}, "best": {}}
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        if not isinstance(state, dict):
            raise TypeError(f"its state is a {type(state).__name__}")
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        for name, tensor in parts["optimizer"].items():
            number, _, moment = name.partition("/")
            moments.setdefault(int(number), {})[moment] = tensor
        module.load_state_dict(parts["module"])
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ArtifactError(f"The resume state {path} belongs to another model ({error}). {advice}") from error
    return state, parts["best"] or None

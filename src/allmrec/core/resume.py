"""Resume state of a training loop in one safetensors file; knows the optimiser's layout, not the task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from allmrec.core.artifacts import write_tensors
from allmrec.core.errors import ArtifactError
from allmrec.core.hashing import content_hash

__all__ = ["Checkpoint", "read_resume", "set_aside", "write_resume"]

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """Where a training loop keeps its resume state, and how often it writes it; decides no result.

    Attributes:
        path: the file.
        every: seconds between two writes; 0 writes behind every step. Ctrl-C writes as well.
    """

    path: Path
    every: float = 60.0


def write_resume(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, Tensor] | None,
    state: Mapping[str, Any],
) -> None:
    """Write everything that the next step depends on, whole or not at all, with a SHA-256 over it."""
    tensors = {f"module/{name}": t for name, t in module.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": torch.as_tensor(value) for name, value in values.items()}
    if best is not None:
        tensors |= {f"best/{name}": t for name, t in best.items()}
    tensors = {name: t.detach().cpu() for name, t in tensors.items()}
    text = json.dumps(state)
    write_tensors(path, tensors, {"state": text, "sha256": _hash(text, tensors)})


def read_resume(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, parse: Callable[[dict[str, Any]], T]
) -> tuple[T, dict[str, Tensor] | None]:
    """Put the state back into `module` and `optimizer`; where that cannot be, both are left as they are.

    Args:
        path: the file.
        module, optimizer: what is trained, as it stands before the first step.
        parse: makes what the loop needs of the state that it wrote; a KeyError or TypeError says that it is another's.

    Returns:
        What `parse` made, and the best weights so far where there were any.

    Raises:
        ArtifactError: the file is damaged or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            about = handle.metadata()
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  # not a mapping
        if about["sha256"] != _hash(about["state"], tensors):
            raise ValueError("its content does not have the hash that it names")
        state = json.loads(about["state"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"The resume state {path} is damaged or no resume state ({error!r}).") from error
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
        _check_fits(parts, moments, module, optimizer)
        parsed = parse(state)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"The resume state {path} belongs to another model or version ({error}).") from error
    module.load_state_dict(parts["module"])
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return parsed, parts["best"] or None


def set_aside(path: Path) -> Path:
    """Give a resume state that cannot be used another name, so that the stage starts anew and nothing is lost."""
    return path.replace(path.with_name(f"{path.name}.unusable"))


def _check_fits(
    parts: Mapping[str, Mapping[str, Tensor]],
    moments: Mapping[int, Mapping[str, Tensor]],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Look before anything is loaded: torch copies what fits and complains afterwards."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for part in ("module", "best"):
        found = {name: tuple(tensor.shape) for name, tensor in parts[part].items()}
        if found != wanted and (part == "module" or found):
            wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise ValueError(f"{part}: {wrong[0]} is {found.get(wrong[0])}, expected {wanted.get(wrong[0])}")
    shapes = [tuple(parameter.shape) for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in moments.items():
        if number >= len(shapes) or any(t.dim() and tuple(t.shape) != shapes[number] for t in values.values()):
            raise ValueError(f"optimizer: no parameter {number} of that shape")


def _hash(state: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, kinds, shapes and bytes. A safetensors file has no checksum of its own."""
    parts: list[Any] = [state]
    for name in sorted(tensors):
        tensor = tensors[name]
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}"]
        parts += [tensor.contiguous().reshape(-1).view(torch.uint8).numpy()]
    return content_hash(*parts)

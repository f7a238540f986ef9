"""Whether tensors that were read are what is expected: names, shapes, kinds of numbers, and no NaN among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from allmrec.core.errors import ArtifactError

__all__ = [
    "Shape",
    "as_tensors",
    "check_finite",
    "check_parameters",
    "content_of",
    "expected",
    "filled",
    "load_parameters",
]

M = TypeVar("M", bound=nn.Module)
Kind = Literal["float", "int", "bool"]

# What kind of numbers a tensor holds, and its shape; None is any size.
Shape = tuple[Kind, tuple[int | None, ...]]


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse numbers that are none.

    Raises:
        ArtifactError: a tensor holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise ArtifactError(
                f"{path} has NaN or infinity in {name!r}; expected finite numbers. Train that stage again, or restore the file."
            )


def as_tensors(arrays: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
    """Arrays or tensors by name, as tensors."""
    return {name: torch.as_tensor(np.asarray(values)) for name, values in arrays.items()}


def expected(tensors: Mapping[str, Tensor], wanted: Mapping[str, Shape]) -> Mapping[str, Tensor]:
    """The tensors, where each that is wanted has its kind of numbers and its shape.

    Args:
        tensors: by name.
        wanted: by name; None in a shape is any size.

    Raises:
        ArtifactError: says which is missing, or is something else.
    """
    for name, (kind, shape) in wanted.items():
        if name not in tensors:
            raise ArtifactError(f"it has no {name!r}; found {', '.join(tensors) or 'nothing'}")
        found = tensors[name]
        fits = len(found.shape) == len(shape) and all(
            size is None or size == own for size, own in zip(shape, found.shape, strict=True)
        )
        if not fits or _kind(found) != kind:
            words = ", ".join("any" if size is None else str(size) for size in shape)
            raise ArtifactError(
                f"{name!r} is {_kind(found)} of shape {tuple(found.shape)}; expected {kind} of shape ({words})"
            )
    return tensors


def load_parameters(make: Callable[[], M], tensors: Mapping[str, Tensor], name: str) -> M:
    """A module with its trained parameters, in evaluation mode.

    Shapes are compared before any memory is taken, so a forged configuration costs nothing.

    Args:
        make: makes the untrained module.
        tensors: its `state_dict`.
        name: what the module is, for the message.

    Raises:
        ArtifactError: a parameter is missing, superfluous, of another shape, or another kind of number.
    """
    with torch.device("meta"):
        wanted = make().state_dict()
    check_parameters(wanted, tensors, name)
    return filled(make(), tensors, name)


def filled(module: M, tensors: Mapping[str, Tensor], name: str) -> M:
    """The same for a module that is there already: it takes the parameters, and is in evaluation mode.

    Raises:
        ArtifactError: as above; the module is left as it is.
    """
    wanted = module.state_dict()
    check_parameters(wanted, tensors, name)
    module.load_state_dict({key: tensor.to(wanted[key].dtype) for key, tensor in tensors.items()})
    return module.eval()


def check_parameters(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], name: str) -> None:
    """Compare a module's parameters with those that were read.

    Raises:
        ArtifactError: they differ in more than the numbers.
    """
    problems = [f"{key} is missing" for key in wanted if key not in given]
    problems += [f"{key} is unknown" for key in given if key not in wanted]
    for key, tensor in wanted.items():
        if key in given and given[key].shape != tensor.shape:
            problems.append(f"{key} has shape {tuple(given[key].shape)}, expected {tuple(tensor.shape)}")
        elif key in given and _kind(given[key]) != _kind(tensor):
            problems.append(f"{key} is {_kind(given[key])}, expected {_kind(tensor)}")
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise ArtifactError(f"These weights are no {name}: {shown}. Give the config they were trained with.")


@contextmanager
def content_of(path: Path, again: str) -> Iterator[None]:
    """Name the file whose content the block cannot use; its hash is right, so it was written like that.

    Args:
        path: the file.
        again: what to do.

    Raises:
        ArtifactError: in place of what the block raised.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (ArtifactError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, ArtifactError) and str(path.parent.parent) in str(error):
            raise  # of another file, which it names
        raise ArtifactError(f"The content of {path} does not fit this run: {error} {again}") from error


def _kind(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "bool"
    return "float" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "int"

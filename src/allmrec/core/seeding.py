"""Seeded randomness, one independent stream per name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["derived_seed", "numpy_generator", "seeded_torch", "torch_generator"]


def derived_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names`; streams of different names are independent."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the stream called `names`."""
    return np.random.default_rng(derived_seed(seed, *names))


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """A torch CPU generator for the stream called `names`."""
    return torch.Generator().manual_seed(derived_seed(seed, *names))


@contextmanager
def seeded_torch(seed: int, *names: str | int) -> Iterator[None]:
    """Make torch's own draws (dropout, initialisation) come from the stream called `names`.

    Dropout takes no generator, so the global one is set for the length of the block and put back after it. A training
    step that runs inside needs no saved random state to be repeated: its name is its state.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]  # torch leaves it without annotations
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed(seed, *names))
        yield

"""The CF model's softmax over the catalogue: in pieces, in float32 and bfloat16, against torch's own cross-entropy.

    python -m benchmarks.softmax_speed

One loss with both gradients, for positions of a batch and item vectors as a trained model has them (cosines over 0.07), in
processor seconds. The gradients' error is that of bfloat16 against float32, as a share of their norm. Peak memory is not measured:
in pieces, 16 MB of logits are there at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from allmrec.cf.catalogue_softmax import catalogue_softmax
from allmrec.core.precision import precision_here
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result

_POSITIONS, _DIM, _REPEATS = 1100, 128, 7
_SIZES = (2414, 12_101, 50_000)


def plain(states: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Torch's own, with all logits in memory."""
    return F.cross_entropy(states @ items.T, targets)


def measure(loss: Callable[[], Tensor], states: Tensor, items: Tensor) -> tuple[float, tuple[Tensor, ...]]:
    """The median of some times, and the gradients."""
    seconds, gradients = [], torch.autograd.grad(loss(), (states, items))
    for _ in range(_REPEATS):
        begun = time.process_time()
        gradients = torch.autograd.grad(loss(), (states, items))
        seconds.append(time.process_time() - begun)
    return float(np.median(seconds)), gradients


def main() -> None:
    """Measure each size and write `softmax-speed.json`."""
    rows = []
    for size in _SIZES:
        draw = torch.Generator().manual_seed(0)
        states, items = (
            (F.normalize(torch.randn(n, _DIM, generator=draw), dim=1) / 0.07**0.5).requires_grad_()
            for n in (_POSITIONS, size)
        )
        targets = torch.randint(0, size, (_POSITIONS,), generator=draw)
        sides: dict[str, Callable[[], Tensor]] = {
            "torch": partial(plain, states, items, targets),
            "float32": partial(catalogue_softmax, states, items, targets),
            "bfloat16": partial(catalogue_softmax, states, items, targets, products=torch.bfloat16),
        }
        found = {name: measure(side, states, items) for name, side in sides.items()}
        exact = found["float32"][1]
        error = max(float((a - b).norm() / b.norm()) for a, b in zip(found["bfloat16"][1], exact, strict=True))
        row = {
            "items": size,
            "seconds": {name: round(of[0], 4) for name, of in found.items()},
            "error": round(error, 5),
        }
        print(row, flush=True)
        rows.append(row)
    auto = precision_here(torch.device("cpu"))
    shape = {"positions": _POSITIONS, "dim": _DIM, "repeats": _REPEATS}
    write_result(RESULTS / "softmax-speed.json", measured_by("softmax_speed") | shape | {"auto": auto, "rows": rows})


if __name__ == "__main__":
    main()

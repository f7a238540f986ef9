"""When training has diverged: numbers that are none, and numbers that nothing that learns comes to.

A term of the loss may be a thousand times what it was before the first step, or a thousand where it was below 1, and so may
the largest weight. Losses here are in nats, or squares of standardised numbers: a guess at random costs a few, and training
lowers that. Adam moves a weight by about the learning rate a step, so rates that learn stay below the limit by orders of
magnitude. A rate of 1e6 passes it within a step or two, often without a NaN: scores of 1e26 still make a ranking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from allmrec.core.errors import DivergedError

__all__ = ["TIMES", "check_figures", "check_losses", "check_weights", "largest"]

TIMES = 1000.0


def check_losses(terms: Mapping[str, float], first: dict[str, float], rate: float, step: int) -> None:
    """Look at a step's loss.

    Args:
        terms: the loss's terms by name.
        first: each term's first value; new terms are entered.
        rate: the learning rate, for the message.
        step: steps that were taken before.

    Raises:
        DivergedError: a term is no number, or absurd.
    """
    for name, value in terms.items():
        if not math.isfinite(value):
            raise _diverged(f"The loss {name!r} is {value} at step {step + 1}; expected a finite number", rate)
        begun = first.setdefault(name, value)
        if abs(value) > TIMES * max(1.0, abs(begun)):
            raise _diverged(
                f"The loss {name!r} is {value:.3g} at step {step + 1} and was {begun:.3g} at first; expected it to fall",
                rate,
            )


def check_weights(parameters: Sequence[nn.Parameter], first: float, rate: float, step: int) -> None:
    """Look at the weights after some steps.

    Args:
        parameters: what is trained.
        first: the largest weight before the first step.
        rate, step: for the message.

    Raises:
        DivergedError: a weight is no number, or absurd.
    """
    found = largest(parameters)
    if not found <= TIMES * max(1.0, first):
        raise _diverged(f"The largest weight is {found:.3g} after step {step} and was {first:.3g} at first", rate)


def check_figures(figures: Mapping[str, float], rate: float, step: int) -> None:
    """Look at a validation's figures.

    Raises:
        DivergedError: one is no number.
    """
    for name, value in figures.items():
        if not math.isfinite(value):
            raise _diverged(f"The validation's {name!r} is {value} after step {step}; expected a finite number", rate)


def largest(parameters: Sequence[nn.Parameter]) -> float:
    """The largest weight without its sign; NaN where a weight is none."""
    # Of a tensor on the device `meta` nothing is known.
    known = [parameter for parameter in parameters if parameter.numel() and not parameter.is_meta]
    found = [parameter.detach().abs().max().float().cpu() for parameter in known]
    return float(torch.stack(found).max()) if found else 0.0


def _diverged(found: str, rate: float) -> DivergedError:
    return DivergedError(
        f"{found}. Try a smaller training.learning_rate (now {rate:g}) or training.clip_norm=1, and look at the vectors that "
        "this stage reads."
    )

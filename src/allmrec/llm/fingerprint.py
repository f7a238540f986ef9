"""A short name for a frozen model's weights, the same wherever and at whatever precision they are loaded."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

__all__ = ["fingerprint"]

# Values looked at in each tensor; all of a 13 GB model would take half a minute at every start.
_SAMPLE = 1024


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and evenly spaced values of a model's parameters, rounded to bfloat16.

    Tells another model, or another version of it, from the one that stage 2 was trained with; it is no protection
    against somebody who means to deceive. A quantised model has other parameters and so another fingerprint.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        step = max(1, flat.numel() // _SAMPLE)
        values = flat[::step][:_SAMPLE].to(torch.bfloat16).cpu().view(torch.int16).numpy().tobytes()
        digest.update(f"{name} {tuple(parameter.shape)} ".encode())
        digest.update(values)
    return digest.hexdigest()

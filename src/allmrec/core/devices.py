"""Which device to compute on; the library and the command line ask here."""

from __future__ import annotations

from allmrec.core.errors import ConfigError

__all__ = ["chosen_device"]


def chosen_device(device: str = "auto") -> str:
    """The device to compute on.

    Args:
        device: cpu, cuda, cuda:1, mps and so on; auto: cuda where torch sees such a GPU, else cpu.

    Raises:
        ConfigError: torch does not know it or cannot reach it.
    """
    import torch  # slow to import, and the command line's help imports this file

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"The device {device!r} cannot be used here: {reason}. Try cpu.") from None
    return device

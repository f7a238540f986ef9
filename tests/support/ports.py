"""Ports of this machine."""

from __future__ import annotations

import socket

__all__ = ["free_port"]


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nothing listens at."""
    with socket.socket() as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])

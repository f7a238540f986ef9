"""A Ray cluster over two hosts: its head and one place on the first, another place on the second."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hosts import Host

import allmrec

__all__ = ["RayHosts", "waited"]

SRC = str(Path(allmrec.__file__).parents[1])


class RayHosts:
    """Both nodes are there once it is made.

    Args:
        hosts: the first gets the head.
        folder: of what Ray prints.

    Attributes:
        address: of the cluster.
        variables: of the environment of whoever is to use it.
    """

    def __init__(self, hosts: tuple[Host, Host], folder: Path) -> None:
        self._head, self._worker = hosts
        self._folder = folder
        self.address = f"{self._head.address}:6379"
        # Ray writes there which cluster is this machine's, for whoever asks for none by its address. Sockets lie in it, so its name is short.
        self._place = tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True)
        self.variables = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            # A head that is started by itself lets nobody in without a token.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "PYTHONPATH": os.pathsep.join([SRC, *filter(None, sys.path)]),
        }
        self._started(
            self._head,
            "head",
            "--head",
            "--port",
            "6379",
            "--include-dashboard",
            "false",
            "--temp-dir",
            self._place.name,
        )
        self.second = self.join()

    def join(self) -> subprocess.Popen[bytes]:
        """Start the second host's node, again where it has ended."""
        return self._started(self._worker, "worker", "--address", self.address)

    def _started(self, host: Host, name: str, *options: str) -> subprocess.Popen[bytes]:
        text = self._folder / f"ray-{name}.txt"
        before = text.read_text().count(_BEGUN) if text.exists() else 0
        command = [str(Path(sys.executable).parent / "ray"), "start", "--num-cpus", "1", "--block"]
        command += ["--disable-usage-stats", "--node-ip-address", host.address, *options]
        process = host.start(command, text, self.variables)
        waited(lambda: process.poll() is not None or text.read_text().count(_BEGUN) > before, text.read_text)
        assert process.poll() is None, text.read_text()
        return process


_BEGUN = "Ray runtime started"


def waited(until: Callable[[], bool], what: Callable[[], str], seconds: float = 200.0) -> None:
    """Wait for something that must come, and fail with words where it does not."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, what()
        time.sleep(0.02)

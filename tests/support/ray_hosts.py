"""A Ray cluster over two hosts: its head and one place on the first, another place on the second."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hosts import Host

import allmrec

__all__ = ["RayHosts", "ray_on", "waited"]

SRC = str(Path(allmrec.__file__).parents[1])


class RayHosts:
    """Both nodes are there once it is made.

    Args:
        hosts: the first gets the head.
        folder: of what Ray prints.
        place: folder of what Ray keeps; sockets lie in it, so its name is short.

    Attributes:
        address: of the cluster.
        variables: of the environment of whoever is to use it.
    """

    def __init__(self, hosts: tuple[Host, Host], folder: Path, place: str) -> None:
        self._head, self._worker = hosts
        self._folder = folder
        self.address = f"{self._head.address}:6379"
        self.variables = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            # Of themselves Ray's workers come behind every other test of this machine.
            "RAY_worker_niceness": "0",
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
            place,
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


@contextmanager
def ray_on(hosts: tuple[Host, Host], folder: Path) -> Iterator[RayHosts]:
    """A cluster that nobody finds who asks for none by its address."""
    # In Ray's usual place stands which cluster is this machine's.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as place:
        yield RayHosts(hosts, folder, place)
        for host in hosts:
            host.kill()


def waited(until: Callable[[], bool], what: Callable[[], str], seconds: float = 200.0, pause: float = 0.02) -> None:
    """Wait for something that must come, and fail with words where it does not; `pause` seconds between two looks."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, what()
        time.sleep(pause)

"""Two hosts on one machine: network namespaces joined by a cable that can be pulled; they share the disk, as hosts share a network drive.

It needs root on Linux and `ip` (iproute2). What cannot be had is named when a test is skipped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.forked import Forked

__all__ = ["Host", "two_hosts"]


@dataclass
class Host:
    """One of the two.

    Attributes:
        name: of its namespace.
        address: of its end of the cable.
        interface: name of that end.
        started: processes that were started on it.
    """

    name: str
    address: str
    interface: str
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, command: Sequence[str], output: Path, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program on it.

        Args:
            command: with its arguments.
            output: file that gets what it prints, behind what is there.
            variables: of its environment, beside this process's own.
        """
        environment = {**os.environ, **self._variables(variables)}
        with output.open("ab") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def fork(self, arguments: Sequence[str], output: Path, variables: Mapping[str, str] | None = None) -> Forked:
        """Start the command `allmrec` on it without the seconds that its libraries take; else as `start` does."""
        process = Forked(arguments, output, self._variables(variables), network=self.name)
        self.started.append(process)
        return process

    def _variables(self, more: Mapping[str, str] | None) -> dict[str, str]:
        # A host's own name often leads to its loopback, which no other host reaches, so gloo is told the interface.
        return {"GLOO_SOCKET_IFNAME": self.interface, **(more or {})}

    def output(self, command: Sequence[str]) -> str:
        """What a program prints that is run on it; empty where it fails."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command], capture_output=True, text=True, check=False
        ).stdout

    def pids(self) -> list[int]:
        """Every process on it, whoever started it."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def kill(self) -> None:
        """End all its processes at once, as when the host goes down; returns when there are none."""
        # Those that were started may not have reached the namespace yet.
        found = [process.pid for process in self.started if process.poll() is None]
        while found := [*found, *self.pids()]:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            found = []
            time.sleep(0.02)
        for process in self.started:
            process.wait()

    def link(self, up: bool) -> None:
        """Pull the cable or put it back."""
        _ip("-n", self.name, "link", "set", self.interface, "up" if up else "down")


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach one another and nothing else; all that runs on them is killed at the end.

    Where they cannot be made the test is skipped, with the reason.
    """
    _skip_where_there_are_none()
    number = os.getpid()
    subnet = f"10.{77 + number // 256 % 128}.{number % 256}"
    hosts = tuple(
        Host(f"allmrec-{number}-{end}", f"{subnet}.{n}", f"amr{number}{end}") for n, end in ((1, "a"), (2, "b"))
    )
    first, second = hosts
    made: list[Host] = []
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
            made.append(host)
        _ip(
            "link", "add", first.interface, "netns", first.name, "type", "veth",
            "peer", "name", second.interface, "netns", second.name,
        )  # fmt: skip
        for host in hosts:
            _ip("-n", host.name, "link", "set", "lo", "up")
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.interface)
            host.link(True)
        yield first, second
    finally:
        for host in made:
            host.kill()
            _ip("netns", "delete", host.name)


def _skip_where_there_are_none() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip(f"network namespaces are Linux's; this is {sys.platform}")
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip` (iproute2) to make network namespaces with")
    if os.geteuid() != 0:
        pytest.skip("only root may make network namespaces")
    name = f"allmrec-{os.getpid()}-try"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except RuntimeError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout

"""Programs of ours in processes that are forked from one that has imported the libraries: a start costs milliseconds, not seconds.

Each is a process of its own that shares nothing with this one: it can be killed, fill a disk, or be on another host.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

__all__ = ["COMMAND", "Forked", "start"]

COMMAND = "allmrec.cli.main"
# CLONE_NEWNET of Linux.
_OF_NETWORK = 0x40000000

_START = multiprocessing.get_context("forkserver")
_START.set_forkserver_preload(
    [
        COMMAND,
        "allmrec.cli.train",
        "allmrec.cli.update",
        "allmrec.experiments.job",
        "allmrec.serve.runner",
        # What torch and transformers import only when a model is loaded and an optimiser made.
        "torch._dynamo",
        "accelerate",
        "transformers.generation",
        "transformers.modeling_utils",
        "transformers.models.opt.modeling_opt",
        "transformers.models.bert.modeling_bert",
    ]
)


def start(
    arguments: Sequence[str],
    output: Path,
    variables: Mapping[str, str] | None = None,
    program: str = COMMAND,
    network: str = "",
) -> BaseProcess:
    """Start a program in a process of its own; returns when that one has begun.

    Args:
        arguments: behind the program's name.
        output: file that gets what it prints.
        variables: of its environment.
        program: module whose `main` it is.
        network: name of the network namespace that it is in; empty: this one's.
    """
    # As the program itself does, but before the server imports the libraries that read it.
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    begun, theirs = _START.Pipe(duplex=False)
    place = (network, Path.cwd(), output, dict(variables or {}))
    process = _START.Process(target=_run, args=(program, list(arguments), *place, theirs))
    process.start()
    theirs.close()
    begun.recv()
    return process


def _run(
    program: str,
    arguments: list[str],
    network: str,
    folder: Path,
    output: Path,
    variables: dict[str, str],
    begun: Connection,
) -> None:
    if network:
        with Path("/run/netns", network).open() as place:
            # Python has a function of its own for it from 3.12 on.
            if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), _OF_NETWORK):
                raise OSError(ctypes.get_errno(), f"no entry into {network}")
    os.environ.update(variables)
    os.chdir(folder)
    with output.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # Otherwise the server's: forked children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["allmrec", *arguments]
    begun.send(None)
    main = importlib.import_module(program).main
    sys.exit(main(arguments) if main.__code__.co_argcount else main())


class Forked(subprocess.Popen[bytes]):
    """A program that was started so, for those who know `subprocess.Popen`; see `start` for the arguments."""

    def __init__(
        self,
        arguments: Sequence[str],
        output: Path,
        variables: Mapping[str, str] | None = None,
        program: str = COMMAND,
        network: str = "",
    ) -> None:
        self._process = start(arguments, output, variables, program, network)
        self.pid = self._process.pid or 0

    @property  # type: ignore[override]  # the base class sets it
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, as soon as it has one.

        Raises:
            subprocess.TimeoutExpired: it has none in so many seconds.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

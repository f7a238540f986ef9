"""Runs the server: in this process, or in several that share one socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from allmrec.core.errors import AllmrecError, ConfigError
from allmrec.serve.config import ServeConfig
from allmrec.serve.logs import log, logging_as_json
from allmrec.serve.protocol import paced

__all__ = ["address_of", "bound", "http_settings", "name_of", "run_app", "serve", "serve_here"]

# Seconds that a connection may be idle: longer than clients keep theirs (httpx 5, many proxies 60), so that it is the client that lets go
# and no request is sent into a connection that is being closed.
_KEEP_ALIVE = 75
# Seconds that a thread which computes may keep the others waiting for the interpreter, a tenth of Python's own: with that one, a
# request in a hundred waits 5 ms longer.
_SWITCH = 0.0005
# A process that ends by itself sooner than this has not served; after that many in a row the server gives up.
_SOON, _TRIES = 20.0, 3


def bound(config: ServeConfig) -> socket.socket:
    """The socket that the server listens at.

    Raises:
        ConfigError: the address is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where a socket says that it is TCP; with it an answer in two pieces, head and
    # body, waits 40 ms for the client's acknowledgement.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((config.host, config.port))
    except OSError as error:
        made.close()
        raise ConfigError(
            f"Cannot listen at {config.host}:{config.port} ({error.strerror}). Give another --port."
        ) from None
    made.listen(2048)
    return made


def address_of(listening: socket.socket) -> str:
    """Where to reach it, as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def name_of(listening: socket.socket) -> str:
    """What tells this server from others that share its database; a start anew at the same address has it again."""
    return f"allmrec-{socket.gethostname()}-{listening.getsockname()[1]}"


def serve(config: ServeConfig, started: Callable[[str], None] = lambda address: None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        config: of the server.
        started: takes the address once it is bound.

    Raises:
        AllmrecError: a model or the database cannot be used.
    """
    listening = bound(config)
    started(address_of(listening))
    with listening, logging_as_json():
        if config.workers == 1:
            serve_here(config, listening)
        else:
            _supervise(config.model_copy(update={"name": name_of(listening)}), listening)


def http_settings(app: Any, config: ServeConfig) -> uvicorn.Config:
    """How uvicorn serves the app."""
    return uvicorn.Config(
        app,
        http=paced(config.read_seconds),
        # The one that was measured, whether or not another is installed.
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(config.drain_seconds)),
        h11_max_incomplete_event_size=65_536,
    )


def serve_here(config: ServeConfig, listening: socket.socket, waits: bool = False) -> None:
    """Serve in this process, with `waits` once the models are loaded; raises what `serve` raises."""
    from allmrec.serve.app import (
        make_app,
    )  # after PROMETHEUS_MULTIPROC_DIR is set, which the metrics read when imported

    made: list[FastAPI] = []

    def make(failed: Callable[[AllmrecError], None]) -> FastAPI:
        made.append(make_app(config, failed, waits))
        return made[0]

    def stopping() -> None:
        made[0].state.service.draining = True

    run_app(make, config, listening, stopping)


def run_app(
    make: Callable[[Callable[[AllmrecError], None]], ASGIApp],
    config: ServeConfig,
    listening: socket.socket,
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serve an application in this process until SIGTERM or Ctrl-C.

    Args:
        make: makes it; what it is given takes the error where the application cannot serve.
        config: of the server.
        listening: the socket.
        stopping: called when a signal asks for the end, while requests in hand are still answered.

    Raises:
        AllmrecError: the one that was given.
    """
    errors: list[AllmrecError] = []

    def failed(error: AllmrecError) -> None:
        errors.append(error)
        server.should_exit = True

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            stopping()
            super().handle_exit(sig, frame)

    server = Server(http_settings(make(failed), config))
    sys.setswitchinterval(_SWITCH)
    # uvicorn ends by the signal that stopped it, once it has drained; whoever asked for an orderly end gets status 0.
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)
    if errors:
        raise errors[0]


def _supervise(config: ServeConfig, listening: socket.socket) -> None:
    """Keep that many processes running; signals are handed on."""
    from allmrec.serve.state import State

    state = State(config.database_url, config.name)
    # What a worker that starts later is to serve, until a reload says otherwise.
    state.serve_run(str(config.run.absolute()))
    state.close()
    listening.set_inheritable(True)
    with tempfile.TemporaryDirectory(prefix="allmrec-metrics-") as folder:
        environment = os.environ | {
            "PROMETHEUS_MULTIPROC_DIR": folder,
            "ALLMREC_SERVE_CONFIG": config.model_dump_json(),
            "ALLMREC_SERVE_SOCKET": str(listening.fileno()),
        }
        _Workers(config.workers, environment, listening.fileno(), config.drain_seconds + 10).run(Path(folder))


class _Workers:
    def __init__(self, count: int, environment: dict[str, str], socket_number: int, seconds: float) -> None:
        self._environment, self._socket, self._seconds = environment, socket_number, seconds
        self._stopping = False
        self._children = [self._start() for _ in range(count)]
        self._failures = 0

    def run(self, metrics: Path) -> None:
        """Until a signal ends it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hand_on)
        while not self._stopping:
            time.sleep(0.2)
            for place, (child, begun) in enumerate(self._children):
                if child.poll() is None or self._stopping:
                    continue
                soon = time.monotonic() - begun < _SOON
                self._failures = self._failures + 1 if soon else 0
                log("worker ended", status=child.returncode, worker=child.pid)
                for left in metrics.glob(f"gauge_live*_{child.pid}.db"):
                    left.unlink(missing_ok=True)
                if self._failures >= _TRIES:
                    self._stop(signal.SIGTERM, None)
                    self._wait()
                    raise ConfigError("The workers end as soon as they start; the log above says why.")
                # Who came while it loads would get 503, and another process can answer.
                self._children[place] = self._start(any(one.poll() is None for one, _ in self._children))
        self._wait()

    def _start(self, waits: bool = False) -> tuple[subprocess.Popen[bytes], float]:
        command = [sys.executable, "-m", "allmrec.serve.worker"]
        environment = self._environment | ({"ALLMREC_SERVE_WAITS": "1"} if waits else {})
        child = subprocess.Popen(command, env=environment, pass_fds=(self._socket,))  # noqa: S603  # our own module
        return child, time.monotonic()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        for child, _ in self._children:
            if child.poll() is None:
                child.send_signal(number)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._hand_on(signal.SIGTERM, frame)

    def _wait(self) -> None:
        until = time.monotonic() + self._seconds
        for child, _ in self._children:
            try:
                child.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

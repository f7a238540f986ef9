"""A tiny trained run, and a real server around it on a port of this machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from allmrec.data.interactions import InteractionDataset
from allmrec.library import Run, train
from allmrec.serve.app import make_app
from allmrec.serve.config import ServeConfig
from allmrec.serve.runner import bound, http_settings
from allmrec.serve.service import Service
from allmrec.systems.registry import train_systems
from allmrec.testing.tiny_recipe import save_tiny_recipe
from allmrec.testing.worlds import taste_world
from tests.support.forked import Forked

ROOT = Path(__file__).parents[2]
TASTES = ("Comedy", "Drama", "War")


def tiny_data(hostile: bool = True) -> InteractionDataset:
    """Two dozen users of three tastes; titles of a kind that a page must not believe."""
    plain = taste_world(users=24, tastes=3, items_per_taste=12, length=6)
    sequences = {plain.users.id(u): [plain.items.id(int(i)) for i in plain.sequence(u)] for u in range(plain.n_users)}
    names = list(plain.items)
    titles = {name: f"Item {name.removeprefix('i')}" for name in names}
    if hostile:
        titles[names[4]] = "<img src=x onerror=alert(1)> & \u202ereversed"
    categories = {name: [TASTES[place * 3 // len(names)]] for place, name in enumerate(names)}
    times = {user: [1_600_000_000 + step for step in range(len(items))] for user, items in sequences.items()}
    return InteractionDataset.from_sequences(sequences, titles=titles, categories=categories, items=names, times=times)


def train_tiny(folder: Path, out: str = "run", epochs: int = 2, **changes: Any) -> Run:
    """A-LLMRec and late fusion on it, in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "tiny.toml"
    if not recipe.exists():
        save_tiny_recipe(
            folder,
            pretrain=f"training = {{ epochs = {epochs}, batch_size = 16 }}",
            align="training = { epochs = 1, batch_size = 16 }",
            tune="samples_per_epoch = 8\ntraining = { epochs = 1, batch_size = 4, learning_rate = 1e-2 }",
        )
    changes = {"pretrain.training.epochs": epochs, **changes}
    run = train(tiny_data(), folder / out, str(recipe), changes=changes, device="cpu", progress=False)
    train_systems(run, ["late-fusion"], lambda text: None)
    return run


class Served:
    """A server in a thread of this process."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.socket = bound(config)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.failed: list[Exception] = []
        self.app = make_app(config, self.failed.append)
        self.service: Service = self.app.state.service
        self.server = uvicorn.Server(http_settings(self.app, config))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self.socket])), daemon=True)
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def start(self) -> Served:
        self.thread.start()
        until = time.monotonic() + 120
        while time.monotonic() < until and not self.failed:
            try:
                if self.http.get("/health/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.failed}")

    def stop(self) -> None:
        self.http.close()
        self.server.should_exit = True
        self.thread.join(30)
        self.socket.close()

    def ask(self, path: str, body: Any, method: str = "POST", **named: Any) -> Any:
        """A call that must succeed; its body."""
        answer = self.http.request(method, path, json=body, **named)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, body: Any, status: int, method: str = "POST", **named: Any) -> Any:
        """A call that must be refused; the problem."""
        answer = self.http.request(method, path, json=body, **named)
        assert answer.status_code == status, (answer.status_code, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.json()


@contextmanager
def serving(run: Path, **settings: Any) -> Iterator[Served]:
    """A server for the length of a block."""
    made = Served(ServeConfig(run=run, port=0, device="cpu", **settings))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_tiny(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def server(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    database = f"sqlite:///{tmp_path_factory.mktemp('state')}/state.sqlite3"
    with serving(run.path, database=database) as made:
        yield made


@pytest.fixture
def fresh(run: Run, tmp_path: Path) -> Callable[..., Any]:
    """Makes a server with a state of its own."""
    return lambda **settings: serving(
        settings.pop("run", run.path), **{"database": f"sqlite:///{tmp_path}/state.sqlite3", **settings}
    )


class Process:
    """A server as `allmrec serve` starts it, in a process of its own.

    Args:
        run: what is served.
        options: of the command.
        log: file that gets what it prints.
        forked: from a process that has imported the libraries, which saves seconds.
    """

    def __init__(self, run: Path, *options: str, log: Path, forked: bool = False) -> None:
        self.log = log
        log.touch()
        if forked:
            self.process: subprocess.Popen[bytes] = Forked(["serve", str(run), *options], log)
            return
        path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from allmrec.cli import main; main()", "serve", str(run), *options],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": path},
                cwd=log.parent,
            )

    def ready(self, url: str, seconds: float = 120, times: int = 20) -> None:
        """Until many answers in a row say so: where several processes listen, one may be ready sooner than the next.

        Args:
            url: of the server.
            seconds: for which it is waited for.
            times: how many answers in a row; 1 is enough of one process.
        """
        until, in_a_row = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                good = httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
            except httpx.TransportError:
                good = False
            in_a_row = in_a_row + 1 if good else 0
            if in_a_row == times:
                return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

"""`--engine ray` over two hosts, as network namespaces: the head on one, a worker node on the other, which is killed in the middle."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosts import Host, two_hosts
from tests.cli.test_recommend_bulk import files

import allmrec
from allmrec.bulk.scoring import recommend_users

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra ray)"),
]

SRC = str(Path(allmrec.__file__).parents[1])
BLOCK = 2  # twelve blocks of 24 users
PATIENCE = 200.0

# The command itself, with actors that begin when both are there, and take 0.3 s a block more, so that it can be met in the middle.
PROGRAM = """
import os
import time
from pathlib import Path

from allmrec.bulk import ray_engine
from allmrec.cli.main import main
from allmrec.testing.actors import SlowActor


class Actor(SlowActor):
    def answer(self, number):
        place = Path(self._parts.path).parent / "pids"
        place.mkdir(exist_ok=True)
        (place / f"{os.getpid()}").touch()
        while len(list(place.iterdir())) < 2:
            time.sleep(0.02)
        return super().answer(number)


ray_engine.BlockActor = Actor
main()
"""


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with two_hosts() as made:
        yield made


def waited(until: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def test_a_killed_host_of_the_cluster_takes_nothing_with_it(
    hosts: tuple[Host, Host], workplace: Path, tmp_path: Path
) -> None:
    run = allmrec.open_run(workplace / "run", "cpu")
    recommend_users(run, tmp_path / "alone", system="backbone", block=BLOCK)
    variables = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        # A head that is started by itself lets nobody in without a token.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": os.pathsep.join([SRC, *filter(None, sys.path)]),
    }
    head, worker = hosts
    ray = [str(Path(sys.executable).parent / "ray"), "start", "--num-cpus", "1", "--block", "--disable-usage-stats"]
    log = tmp_path / "ray.txt"
    begin = [*ray, "--head", "--port", "6379", "--node-ip-address", head.address, "--include-dashboard", "false"]
    first = head.start(begin, log, variables)
    begun = lambda process, text: process.poll() is not None or "Ray runtime started" in text.read_text()  # noqa: E731
    waited(lambda: begun(first, log), log.read_text)
    joined = tmp_path / "worker.txt"
    second = worker.start(
        [*ray, "--address", f"{head.address}:6379", "--node-ip-address", worker.address], joined, variables
    )
    waited(lambda: begun(second, joined), joined.read_text)
    assert (first.poll(), second.poll()) == (None, None), log.read_text() + joined.read_text()

    places = run.path.parent / "pids"
    shutil.rmtree(places, ignore_errors=True)
    program, shown, out = tmp_path / "recommend.py", tmp_path / "shown.txt", tmp_path / "out"
    program.write_text(PROGRAM)
    arguments = [
        "recommend",
        str(run.path),
        "--users",
        "all",
        "-o",
        str(out),
        "--system",
        "backbone",
        "--block",
        str(BLOCK),
    ]
    engine = ["--engine", "ray", "--ray-address", f"{head.address}:6379", "--actors", "2", "--device", "cpu"]
    command = head.start([sys.executable, str(program), *arguments, *engine], shown, variables)
    waited(lambda: command.poll() is not None or len(list(out.glob("block-*.parquet"))) >= 2, shown.read_text)
    assert command.poll() is None, shown.read_text()
    assert {int(path.name) for path in places.iterdir()} & set(worker.pids()), (
        "no actor is on the host that is to be killed"
    )
    worker.kill()
    waited(lambda: command.poll() is not None, shown.read_text)
    assert command.returncode == 0, shown.read_text()
    assert "An actor died" in shown.read_text()
    assert files(out) == files(tmp_path / "alone")

"""`--engine ray` over two hosts, as network namespaces: the head on one, a worker node on the other, which is killed, or cut off for a minute, in the middle."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from pathlib import Path

import pytest
from hosts import Host
from ray_hosts import RayHosts, waited
from tests.cli.test_recommend_bulk import files

import allmrec
from allmrec.bulk.scoring import recommend_users

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra ray)"),
]

BLOCK = 2  # twelve blocks of 24 users

# The command itself, with actors that begin when both are there, and take 0.3 s a block more, so that it can be met in the middle.
PROGRAM = """
import os
import time
from pathlib import Path

from allmrec.bulk import ray_engine
from allmrec.cli.main import main
from allmrec.testing.actors import SlowActor


class Actor(SlowActor):
    def _answer(self, number):
        place = Path(self._parts.path).parent / "pids"
        place.mkdir(exist_ok=True)
        (place / f"{os.getpid()}").touch()
        while len(list(place.iterdir())) < 2:
            time.sleep(0.02)
        return super()._answer(number)


ray_engine.BlockActor = Actor
main()
"""


@pytest.mark.parametrize("harm", ["killed", "cut"])
def test_whatever_befalls_a_host_of_the_cluster_the_files_are_the_same(
    hosts: tuple[Host, Host], ray: RayHosts, workplace: Path, tmp_path: Path, harm: str
) -> None:
    run = allmrec.open_run(workplace / "run", "cpu")
    recommend_users(run, tmp_path / "alone", system="backbone", block=BLOCK)
    head, worker = hosts
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
    engine = ["--engine", "ray", "--ray-address", ray.address, "--actors", "2", "--device", "cpu"]
    command = head.start([sys.executable, str(program), *arguments, *engine], shown, ray.variables)
    waited(lambda: command.poll() is not None or len(list(out.glob("block-*.parquet"))) >= 2, shown.read_text)
    assert command.poll() is None, shown.read_text()
    assert {int(path.name) for path in places.iterdir()} & set(worker.pids()), (
        "no actor is on the host that is to be killed"
    )
    if harm == "killed":
        worker.kill()
    else:
        worker.link(False)
        time.sleep(60)
        worker.link(True)
    waited(lambda: command.poll() is not None, shown.read_text)
    assert command.returncode == 0, shown.read_text()
    # Across a cut cable an answer comes once it is mended, unless Ray holds the host for dead before.
    assert harm == "cut" or "An actor died" in shown.read_text()
    assert files(out) == files(tmp_path / "alone")

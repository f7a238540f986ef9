"""`--engine ray` over two hosts, as network namespaces: the head on one, a worker node on the other, which is cut off for a minute, or killed, in the middle."""

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

# Seconds for which the cable is cut, and after which an actor that is not heard is asked, and is replaced, in place of 30: an actor is
# given up while the cable is cut.
CUT, PATIENCE = 60, 5

# The command itself, with actors that begin when both are there, and take 0.3 s a block more, so that it can be met in the middle.
PROGRAM = """
import os
import sys
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
ray_engine._PATIENCE = float(sys.argv.pop(1))
main()
"""


class Command:
    """The command on the first host, both actors of it at work."""

    def __init__(self, hosts: tuple[Host, Host], ray: RayHosts, run: Path, folder: Path, patience: float) -> None:
        folder.mkdir()
        self.out, self._shown = folder / "out", folder / "shown.txt"
        program, places = folder / "recommend.py", run.parent / "pids"
        shutil.rmtree(places, ignore_errors=True)
        program.write_text(PROGRAM)
        words = [
            sys.executable,
            str(program),
            str(patience),
            "recommend",
            str(run),
            "--users",
            "all",
            "-o",
            str(self.out),
        ]
        words += ["--system", "backbone", "--block", str(BLOCK), "--device", "cpu"]
        words += ["--engine", "ray", "--ray-address", ray.address, "--actors", "2"]
        head, worker = hosts
        self._process = head.start(words, self._shown, ray.variables)
        waited(lambda: self._process.poll() is not None or len(list(self.out.glob("block-*.parquet"))) >= 2, self.said)
        assert self._process.poll() is None, self.said()
        assert {int(path.name) for path in places.iterdir()} & set(worker.pids()), "no actor is on the second host"

    def said(self) -> str:
        return self._shown.read_text()

    def ended(self) -> dict[str, str]:
        """The files, once it is done."""
        waited(lambda: self._process.poll() is not None, self.said)
        assert self._process.returncode == 0, self.said()
        return files(self.out)


@pytest.mark.parametrize("harm", ["cut", "killed"])
def test_whatever_befalls_a_host_of_the_cluster_the_files_are_the_same(
    hosts: tuple[Host, Host], ray: RayHosts, workplace: Path, tmp_path: Path, harm: str
) -> None:
    run = allmrec.open_run(workplace / "run", "cpu")
    recommend_users(run, tmp_path / "alone", system="backbone", block=BLOCK)
    _, worker = hosts
    command = Command(hosts, ray, run.path, tmp_path / harm, PATIENCE if harm == "cut" else 30)
    if harm == "cut":
        worker.link(False)
        time.sleep(CUT)
        worker.link(True)
    else:
        worker.kill()
    assert command.ended() == files(tmp_path / "alone")
    assert {"cut": f"no word from it for {PATIENCE} s", "killed": "An actor died"}[harm] in command.said()

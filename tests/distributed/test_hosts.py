"""Two hosts that train together, as network namespaces: their weights, a host that is killed, one without power, a cut cable."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import Popen

import pytest
from hosts import Host
from kills import World, quick_place
from tests.support.forked import start
from together import EQUAL, all_weights, assert_same, assert_same_logs, changes, world_without_dropout

from allmrec.core.distributed import TIMEOUT

pytestmark = pytest.mark.slow

# Long enough to be met in the middle, and so slow to learn that later steps count.
LONG = EQUAL | {"pretrain.training.epochs": "60", "pretrain.training.learning_rate": "2e-4"}
BINARIES = Path(sys.executable).parent
# Seconds for which the cable is cut.
CUT = 60
# A busy machine takes a while to import torch four times.
PATIENCE = 100.0


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Seen by both hosts, as a shared drive is."""
    with tempfile.TemporaryDirectory(dir=quick_place()) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def world(place: Path) -> World:
    return world_without_dropout(place / "world")


def command(world: World, run: Path, settings: Mapping[str, str], *more: str) -> list[str]:
    given = ["--recipe", str(world.recipe), "--device", "cpu", *changes(settings), "--save-every", "0", *more]
    return ["train", str(world.data), "-o", str(run), *given]


@pytest.fixture(scope="module")
def alone(world: World, place: Path) -> Callable[[str, Mapping[str, str]], Path]:
    """What one process trains, made when it is first asked for."""

    def made(verb: str, settings: Mapping[str, str]) -> Path:
        run = place / f"alone-{verb}"
        if not run.exists():
            process = start([verb, *command(world, run, settings)[1:]], run.with_suffix(".txt"))
            process.join()
            assert process.exitcode == 0, run.with_suffix(".txt").read_text()
        return run

    return made


class Together:
    """A command on both hosts.

    Args:
        hosts: the first is where they meet, and has the main process.
        launcher: `torchrun` or `accelerate`; `none`: what both give to a process is given to it, which needs no seconds to start.
        arguments: behind `allmrec`.
        place: where what they print goes.
        variables: of the environment.
    """

    def __init__(
        self,
        hosts: tuple[Host, Host],
        launcher: str,
        arguments: list[str],
        place: Path,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        if launcher != "none" and shutil.which(launcher, path=str(BINARIES)) is None:
            pytest.skip(f"{launcher} is not installed beside Python")
        program = place / "train.py"
        program.write_text("from allmrec.cli.main import main\n\nmain()\n")
        self.outputs = [place / f"{host.name}.txt" for host in hosts]
        self.processes: list[Popen[bytes]] = []
        for number, (host, output) in enumerate(zip(hosts, self.outputs, strict=True)):
            output.unlink(missing_ok=True)
            if launcher == "none":
                its = {"WORLD_SIZE": "2", "RANK": str(number), "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
                its |= {"MASTER_ADDR": hosts[0].address, "MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "true"}
                self.processes.append(host.fork(arguments, output, {**its, **(variables or {})}))
                continue
            starts = {
                "torchrun": ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(number),
                             "--master-addr", hosts[0].address, "--master-port", "29500", "--no-python", sys.executable],
                "accelerate": ["launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "2", "--machine_rank", str(number),
                               "--main_process_ip", hosts[0].address, "--main_process_port", "29500",
                               "--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"],
            }  # fmt: skip
            whole = [str(BINARIES / launcher), *starts[launcher], str(program), *arguments]
            self.processes.append(host.start(whole, output, variables))

    def codes(self) -> list[int | None]:
        return [process.poll() for process in self.processes]

    def shown(self, number: int) -> str:
        return self.outputs[number].read_text()

    def ended(self, seconds: float = PATIENCE) -> list[int | None]:
        """Their exit codes, when both have one."""
        until = time.monotonic() + seconds
        while None in self.codes():
            assert time.monotonic() < until, f"{self.codes()} after {seconds:g} s\n{self.shown(0)}\n{self.shown(1)}"
            time.sleep(0.05)
        return self.codes()

    def reached(self, pattern: str, run: Path) -> Path:
        """The resume state of that name, as soon as there is one."""
        until = time.monotonic() + PATIENCE
        while not (found := list((run / ".resume").glob(pattern))):
            assert self.codes() == [None, None], f"{self.shown(0)}\n{self.shown(1)}"
            assert time.monotonic() < until, f"{self.shown(0)}\n{self.shown(1)}"
            time.sleep(0.005)
        return found[0]


def assert_same_pretrained(run: Path, other: Path) -> None:
    assert_same_logs(run, other, "pretrain")
    assert_same(all_weights(run, ["pretrain"]), all_weights(other, ["pretrain"]))


def test_two_hosts_train_every_stage_to_the_weights_of_one_process(
    hosts: tuple[Host, Host], world: World, place: Path, tmp_path: Path, alone: Callable[..., Path]
) -> None:
    run = place / "whole"
    both = Together(hosts, "torchrun", command(world, run, EQUAL), tmp_path)
    assert both.ended() == [0, 0], f"{both.shown(0)}\n{both.shown(1)}"
    assert "2 processes train together" in both.shown(0)
    assert_same(all_weights(run), all_weights(alone("train", EQUAL)))


@pytest.mark.parametrize(
    ("launcher", "victim", "power"),
    [("torchrun", 1, True), ("torchrun", 0, True), ("accelerate", 1, False)],
    ids=["the second is killed", "the main one is killed", "one has no power"],
)
def test_a_host_that_dies_stops_the_other_and_the_same_command_goes_on(
    launcher: str, victim: int, power: bool, hosts: tuple[Host, Host], world: World, place: Path, tmp_path: Path,
    alone: Callable[..., Path],
) -> None:  # fmt: skip
    run, survivor = place / f"{launcher}-{victim}", 1 - victim
    pretrain = ["pretrain", *command(world, run, LONG)[1:]]
    # A host without power closes no connection: the other one waits for as long as it was told to.
    both = Together(hosts, launcher, pretrain, tmp_path, {} if power else {TIMEOUT: "8"})
    both.reached("pretrain-*.safetensors", run)
    if not power:
        hosts[victim].link(False)
    hosts[victim].kill()
    try:
        codes = both.ended(60)
    finally:
        hosts[victim].link(True)
    assert codes[survivor] == 1, both.shown(survivor)
    message = both.shown(survivor)
    assert f"error: Process {survivor} of 2 (from 0) has lost another of them" in message
    assert "allmrec/core" not in message, "no traceback of ours"
    assert not (run / "pretrain").exists(), "it was done before the host died"
    assert list((run / ".resume").glob("pretrain-*.safetensors"))

    again = Together(hosts, "none", pretrain, tmp_path)
    assert again.ended() == [0, 0], f"{again.shown(0)}\n{again.shown(1)}"
    assert_same_pretrained(run, alone("pretrain", LONG))


def test_training_goes_on_when_a_cut_cable_is_put_back(
    hosts: tuple[Host, Host], world: World, place: Path, tmp_path: Path, alone: Callable[..., Path]
) -> None:
    """TCP tries again at doubling distances, so the rest begins within as long a time again."""
    run = place / "cut"
    both = Together(hosts, "torchrun", ["pretrain", *command(world, run, LONG)[1:]], tmp_path)
    state = both.reached("pretrain-*.safetensors", run)
    hosts[1].link(False)
    time.sleep(5)
    stood = state.stat().st_mtime_ns
    time.sleep(CUT - 5)
    assert state.stat().st_mtime_ns == stood, "it trained without the other"
    assert both.codes() == [None, None], f"{both.shown(0)}\n{both.shown(1)}"
    hosts[1].link(True)
    assert both.ended() == [0, 0], f"{both.shown(0)}\n{both.shown(1)}"
    assert_same_pretrained(run, alone("pretrain", LONG))

"""Two processes that train together give what one gives: the real thing over gloo, every stage, from the command line."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from kills import TRAINED, World, start
from together import EQUAL, all_weights, assert_same, assert_same_logs, changes, world_without_dropout

from allmrec.core.artifacts import read_tensors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world_without_dropout(tmp_path_factory.mktemp("world"))


def command(world: World, run: Path, *more: str) -> list[str]:
    settings = changes(EQUAL)
    return [
        "train",
        str(world.data),
        "-o",
        str(run),
        "--recipe",
        str(world.recipe),
        "--device",
        "cpu",
        *settings,
        *more,
    ]


def places(count: int) -> list[dict[str, str]]:
    """The environment that `torchrun` and `accelerate launch` give to each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [common | {"RANK": str(n), "LOCAL_RANK": str(n), "ACCELERATE_USE_CPU": "true"} for n in range(count)]


def together(world: World, run: Path, count: int = 2, *more: str) -> list[str]:
    """Train with several processes; what each printed."""
    outputs = [run.with_name(f"{run.name}-{n}.txt") for n in range(count)]
    started = [start(command(world, run, *more), out, env) for out, env in zip(outputs, places(count), strict=True)]
    for process in started:
        process.join()
    shown = [output.read_text() for output in outputs]
    assert [process.exitcode for process in started] == [0] * count, "\n".join(shown)
    return shown


@pytest.fixture(scope="module")
def alone(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    process = start(command(world, run), run.with_name("output.txt"))
    process.join()
    assert process.exitcode == 0, run.with_name("output.txt").read_text()
    return run


def test_two_processes_train_every_stage_to_the_weights_of_one(world: World, alone: Path, tmp_path: Path) -> None:
    shown = together(world, tmp_path / "run")
    assert "2 processes train together" in shown[0]
    assert_same(all_weights(tmp_path / "run"), all_weights(alone))
    # Only the main process speaks and writes, and the logs agree.
    assert [line.split(":")[0] for line in shown[0].splitlines() if re.match(r"\w+: done", line)] == list(TRAINED)
    assert "done" not in shown[1]
    for stage in TRAINED:
        assert_same_logs(tmp_path / "run", alone, stage)
    assert not list((tmp_path / "run" / ".resume").iterdir())


def test_more_processes_than_rows_agree_too(world: World, alone: Path, tmp_path: Path) -> None:
    """Some get nothing of the last batch of an epoch."""
    together(world, tmp_path / "run", 4)
    assert_same(all_weights(tmp_path / "run"), all_weights(alone))


def test_processes_that_were_killed_go_on_together(world: World, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outputs = [tmp_path / "0.txt", tmp_path / "1.txt"]
    started = [
        start(command(world, run, "--save-every", "0"), out, env) for out, env in zip(outputs, places(2), strict=True)
    ]
    while not list((run / ".resume").glob("align-*.safetensors")):
        assert all(process.exitcode is None for process in started), [output.read_text() for output in outputs]
        started[0].join(0.005)
    for process in started:
        process.kill()
    for process in started:
        process.join()
        assert process.exitcode == -signal.SIGKILL
    shown = together(world, run)
    assert "pretrain: there already" in shown[0]
    assert_same(all_weights(run), all_weights(alone))


@pytest.mark.parametrize("launcher", ["accelerate", "torchrun"])
def test_the_launchers_start_it(launcher: str, world: World, alone: Path, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text("from allmrec.cli import main\n\nmain()\n")
    binaries = Path(sys.executable).parent
    starts = {
        # With --cpu it would start one process only, and with --multi_gpu it does what torchrun does, without GPUs too.
        "accelerate": ["launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
                       "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--main_process_port", "0"],
        "torchrun": ["--standalone", "--nproc-per-node", "2"],
    }  # fmt: skip
    if shutil.which(launcher, path=str(binaries)) is None:
        pytest.skip(f"{launcher} is not installed beside Python")
    changed = [str(binaries / launcher), *starts[launcher], str(program), *command(world, tmp_path / "run")]
    changed[changed.index("train")] = "pretrain"
    done = subprocess.run(changed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 processes train together" in done.stdout
    assert done.stdout.count("pretrain: done") == 1
    mine, theirs = (read_tensors(run / "pretrain" / "weights.safetensors") for run in (tmp_path / "run", alone))
    assert_same(mine, theirs)

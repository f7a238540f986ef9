"""Two processes that train together give what one gives: the real thing over gloo, every stage, from the command line."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import TRAINED, World
from ports import free_port
from tests.support.forked import start
from together import EQUAL, all_weights, assert_same, assert_same_logs, changes, world_without_dropout
from torch import Tensor

from allmrec.core.artifacts import read_tensors
from allmrec.core.distributed import processes
from allmrec.llm.transformers_lm import load_language_model

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
    port = str(free_port())
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


@pytest.mark.parametrize("form", ["paper", "copy"])
def test_processes_share_the_language_models_layers(form: str, world: World, tmp_path: Path) -> None:
    """Each holds half of them, and stage 2 comes to the weights of one process that holds all, the uneven last batch included."""
    forms = ["--set", f"tune.prompt.template.form={form}"]
    run = tmp_path / "alone"
    process = start(command(world, run, *forms), tmp_path / "alone.txt")
    process.join()
    assert process.exitcode == 0, (tmp_path / "alone.txt").read_text()
    together(world, tmp_path / "run", 2, *forms, "--share-llm")
    assert_same(all_weights(tmp_path / "run"), all_weights(run))
    assert_same_logs(tmp_path / "run", run, "tune")


def test_a_lost_process_with_a_part_of_the_language_model_is_named(world: World, alone: Path, tmp_path: Path) -> None:
    """The other one waits for it inside of a layer."""
    run = tmp_path / "run"
    outputs = [tmp_path / "0.txt", tmp_path / "1.txt"]
    asked = command(world, run, "--save-every", "0", "--share-llm")
    started = [start(asked, out, env) for out, env in zip(outputs, places(2), strict=True)]
    while not list((run / ".resume").glob("tune-*.safetensors")):
        assert all(process.exitcode is None for process in started), [output.read_text() for output in outputs]
        started[0].join(0.005)
    started[1].kill()
    for process in started:
        process.join()
    assert started[0].exitcode == 1
    assert "has lost another of them" in outputs[0].read_text()
    assert "Traceback" not in outputs[0].read_text()
    together(world, run, 2, "--share-llm")
    assert_same(all_weights(run), all_weights(alone))


def _reads(index: int, place: str, found: Any) -> None:
    """Read and go backwards before and after layers are shared; what a process holds of the layers, and by how much it is off."""
    os.environ.update(places(2)[0] | {"RANK": str(index), "LOCAL_RANK": str(index), "MASTER_PORT": place})
    torch.set_num_threads(1)
    assert processes("cpu").count == 2
    lm = load_language_model("smollm2-135m-instruct", "cpu", "float32", on_cpu=True)
    embeddings = lm.embed(torch.tensor([[1, 2, 3, 4, 5][: 3 + index]])).requires_grad_()
    positions = torch.arange(embeddings.shape[1])[None]

    def once() -> list[Tensor]:
        state = lm.hidden(embeddings, None, positions)
        (gradient,) = torch.autograd.grad(state.square().sum(), embeddings)
        return [state.detach(), lm.logits(state[0]).detach(), gradient]

    layers = lm.frozen.module.model.layers
    before, whole = once(), sum(p.numel() for p in layers.parameters())
    lm.share_layers("cpu")
    with torch.inference_mode():
        lm.hidden(embeddings, None, positions)
    after, mine = once(), sum(p.to_local().numel() for p in layers.parameters())
    found[index] = (mine / whole, max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True)))


def test_each_process_holds_its_part_and_reads_as_the_whole() -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        found = manager.dict()
        port = places(2)[0]["MASTER_PORT"]
        started = [context.Process(target=_reads, args=(index, port, found)) for index in range(2)]
        for process in started:
            process.start()
        for process in started:
            process.join()
        assert [process.exitcode for process in started] == [0, 0]
        shares, off = zip(*found.values(), strict=True)
    assert shares == pytest.approx([0.5, 0.5], abs=0.01)
    assert off == (0.0, 0.0)


def _summed(place: dict[str, str], folder: str) -> None:
    """What a process has of gradients: some rows of a table, other rows, none at all; and a dense one beside it."""
    os.environ.update(place)
    here = processes("cpu")
    table, weight = torch.nn.Parameter(torch.zeros(6, 2)), torch.nn.Parameter(torch.zeros(3))
    rows = ([4, 1, 4], [1], [])[here.index]
    if rows:
        values = torch.full((len(rows), 2), float(here.index + 1))
        table.grad = torch.sparse_coo_tensor(torch.tensor([rows]), values, table.shape)
    weight.grad = torch.full((3,), float(here.index))
    here.sum_gradients([table, weight])
    torch.save([table.grad, weight.grad], f"{folder}/{here.index}.pt")


def test_sparse_gradients_add_up_over_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=_summed, args=(place, str(tmp_path))) for place in places(3)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    wanted = torch.zeros(6, 2)
    wanted[4], wanted[1] = 2.0, 3.0
    for n in range(3):
        table, weight = torch.load(tmp_path / f"{n}.pt", weights_only=True)
        assert table.is_sparse
        assert table.indices()[0].tolist() == [1, 4]
        assert torch.equal(table.to_dense(), wanted)
        assert torch.equal(weight, torch.full((3,), 3.0))


def test_one_process_has_nobody_to_share_with(world: World, tmp_path: Path) -> None:
    process = start(command(world, tmp_path / "run", "--share-llm"), tmp_path / "output.txt")
    process.join()
    assert process.exitcode == 1
    assert "this is one alone" in (tmp_path / "output.txt").read_text()
    assert not (tmp_path / "run").exists()

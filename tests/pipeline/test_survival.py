"""What may happen to a run: killed processes, two at once, Ctrl-C, damaged files, a full disk. Nothing is lost by it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kills import TRAINED, World, kill_and_go_on, make_world, quick_place, weights
from tests.support.forked import start
from tiny_world import TinyWorld

from allmrec.core.artifacts import read_json
from allmrec.core.errors import AllmrecError, AllmrecWarning, RunInUseError
from allmrec.core.locking import held
from allmrec.data.build import read_table
from allmrec.evaluation import EvaluationProtocol
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from allmrec.recommend.request import Recommendations
from allmrec.systems.evaluating import evaluate_run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def train(world: World, run: Path, *more: str) -> list[str]:
    return ["train", str(world.data), "-o", str(run), "--recipe", str(world.recipe), "--device", "cpu", *more]


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done(train(world, run), run.with_name("output.txt"))
    return run


def done(command: list[str], output: Path) -> None:
    """Run a command to its end, which must be a good one."""
    process = start(command, output)
    process.join()
    assert process.exitcode == 0, output.read_text()


# Killing


@pytest.mark.slow
def test_killed_at_twenty_random_moments_the_weights_are_those_of_an_undisturbed_run(
    world: World,
) -> None:
    with tempfile.TemporaryDirectory(dir=quick_place()) as folder:
        found = kill_and_go_on(world, Path(folder), kills=20, seed=1)
    assert found.failed == []
    assert found.different == []
    assert found.count >= 20
    assert set(found.by_stage) >= set(TRAINED)


# Two at once


@pytest.fixture(scope="module")
def trained(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = read_table(tiny_world.interactions, tiny_world.items)
    path = tmp_path_factory.mktemp("survival") / "run"
    run = Run.create(path, data, load_recipe(str(tiny_world.recipe)))
    run.train()
    evaluate_run(run, ["popularity", "allmrec-select"]).save(path / "report.json")
    return run


@pytest.fixture
def copy(trained: Run, tmp_path: Path) -> Run:
    """The same run in a place of its own, for tests that change it."""
    shutil.copytree(trained.path, tmp_path / "copy")
    return Run.open(tmp_path / "copy")


def test_two_trainings_of_one_run_at_once_are_refused(copy: Run) -> None:
    before = (copy.path / "run.json").read_bytes()
    with held(copy.path):
        with pytest.raises(RunInUseError, match=rf"{copy.path} is being trained by another process\. Wait"):
            copy.train()
        with pytest.raises(RunInUseError, match="is being trained by another process"):
            Run.create(copy.path, copy.dataset, copy.config.changed({"seed": 3}))
        # Reading needs no lock.
        assert Run.open(copy.path).recommender().recommend(user="u3", k=2)
    assert (copy.path / "run.json").read_bytes() == before
    copy.train()


@pytest.mark.slow
def test_the_lock_dies_with_its_process(world: World, tmp_path: Path) -> None:
    first = start(train(world, tmp_path / "run", "--set", "pretrain.training.epochs=100000"), tmp_path / "first.txt")
    wait_for(lambda: (tmp_path / "run" / ".resume").is_dir(), first)
    second = start(train(world, tmp_path / "run"), tmp_path / "second.txt")
    second.join()
    assert second.exitcode == 1
    assert "is being trained by another process" in (tmp_path / "second.txt").read_text()
    first.kill()
    first.join()
    done(["pretrain", *train(world, tmp_path / "run")[1:]], tmp_path / "third.txt")


def wait_for(condition: Callable[[], bool], process: BaseProcess) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.exitcode is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Ctrl-C


def stopped(process: BaseProcess, output: Path) -> str:
    """Press Ctrl-C; what the program has shown when it has ended as it should."""
    os.kill(process.pid or 0, signal.SIGINT)
    process.join()
    shown = output.read_text()
    assert process.exitcode == 130, shown
    assert "Traceback" not in shown
    return shown


@pytest.mark.slow
@pytest.mark.parametrize("stage", TRAINED)
def test_ctrl_c_in_any_stage_says_what_to_type_and_the_same_command_goes_on(
    stage: str, world: World, whole: Path, tmp_path: Path
) -> None:
    run, output = tmp_path / "run", tmp_path / "output.txt"
    process = start(train(world, run, "--save-every", "0"), output)
    wait_for(lambda: any((run / ".resume").glob(f"{stage}-*")), process)
    shown = stopped(process, output)
    assert f"Stopped. What is finished is kept; to go on: allmrec train {world.data} -o {run}" in shown
    assert [name for name in TRAINED if (run / name).exists()] == list(TRAINED[: TRAINED.index(stage)])
    done(train(world, run), output)
    assert weights(run) == weights(whole)


def worked(process: BaseProcess, seconds: float) -> bool:
    """Wait until a process has used so much more processor time, however busy the machine is; false where it ended before."""
    with suppress(psutil.NoSuchProcess):
        child = psutil.Process(process.pid)
        until = sum(child.cpu_times()[:2]) + seconds
        while process.exitcode is None:
            if sum(child.cpu_times()[:2]) >= until:
                return process.exitcode is None
            process.join(0.005)
    return False


@pytest.mark.slow
def test_ctrl_c_in_evaluate_and_prepare_leaves_no_half_file(whole: Path, tmp_path: Path) -> None:
    run, output = Path(shutil.copytree(whole, tmp_path / "run")), tmp_path / "output.txt"
    rows = "".join(f"u{n % 5000},i{n % 997},{n}\n" for n in range(400_000))
    (tmp_path / "raw.csv").write_text("user_id,item_id,timestamp\n" + rows)
    commands = {
        "evaluate": ["evaluate", str(run), "--device", "cpu"],
        "prepare": ["prepare", "table", "--interactions", str(tmp_path / "raw.csv"), "-o", str(tmp_path / "data")],
    }
    for verb, command in commands.items():
        # Before the command has begun nothing is shown, and then the key is pressed later.
        for late in range(1, 40):
            output.write_text("")
            process = start(command, output)
            assert worked(process, 0.05 * late), "it was done before the key was pressed"
            if shown := stopped(process, output):
                break
        assert f"to go on: allmrec {verb} " in shown
        assert not list(tmp_path.rglob(".*.tmp"))
        assert not (run / "report.json").exists()
        assert not (tmp_path / "data").exists()


# Damaged resume states


def test_a_damaged_resume_state_is_set_aside_and_the_stage_comes_out_the_same(copy: Run) -> None:
    whole = weights(copy.path)
    shutil.rmtree(copy.path / "tune")
    state = copy.path / ".resume" / f"tune-{copy.stage('tune').key[:16]}.safetensors"
    state.write_bytes(b"no resume state at all")
    with pytest.warns(AllmrecWarning, match=rf"{state} is damaged .* lies in {state}\.unusable, and this stage starts"):
        copy.train()
    assert weights(copy.path) == whole
    assert list((copy.path / ".resume").iterdir()) == []


# Damaged files


def recommended(run: Run) -> Recommendations:
    return run.recommender().recommend(user="u3", k=5, candidates=10)


def files(run: Run) -> list[str]:
    found = sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file())
    return [name for name in found if name != ".lock"]


@pytest.fixture(scope="module")
def target(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy whose files are damaged one at a time and put back."""
    path = Path(shutil.copytree(trained.path, tmp_path_factory.mktemp("damaged") / "run"))
    return Run.open(path)


@pytest.fixture(scope="module")
def wanted(target: Run) -> Recommendations:
    return recommended(target)


def check_damage(target: Run, wanted: Recommendations, name: str, spoil: Callable[[bytes], bytes | None]) -> None:
    """Opening and recommending names the file, or does what it did."""
    file = target.path / name
    whole = file.read_bytes()
    spoilt, message, found = spoil(whole), None, None
    try:
        file.unlink() if spoilt is None else file.write_bytes(spoilt)
        try:
            opened = Run.open(target.path)
            opened.__dict__["lm"] = target.lm  # its files are not the run's, and loading takes long
            found = recommended(opened)
            if name == "protocol.json":
                protocol = EvaluationProtocol.load(file, opened.dataset.content_hash)
                assert protocol.hash == read_json(file)["hash"]
        except AllmrecError as error:
            message = str(error)
    finally:
        file.write_bytes(whole)
    if message is None:
        assert found == wanted, name
        assert not name.endswith(".safetensors")
    else:
        # The data's hash covers its files together.
        place = str(file.parent) if name.startswith("data/") else str(file)
        assert place in message or f"{target.path} has no {name}" in message, f"{name}: {message}"


@given(data=st.data())
def test_a_damaged_byte_of_any_file_is_named_or_changes_nothing(
    data: st.DataObject, target: Run, wanted: Recommendations
) -> None:
    damage_a_byte(data, target, wanted)


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=500)
def test_many_damaged_bytes_one_at_a_time(data: st.DataObject, target: Run, wanted: Recommendations) -> None:
    damage_a_byte(data, target, wanted)


def damage_a_byte(data: st.DataObject, target: Run, wanted: Recommendations) -> None:
    name = data.draw(st.sampled_from(files(target)), label="file")
    size = (target.path / name).stat().st_size
    place = data.draw(st.integers(0, size - 1), label="place")
    change = data.draw(st.integers(1, 255), label="change")
    check_damage(
        target, wanted, name, lambda whole: whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :]
    )


@given(data=st.data())
def test_a_cut_file_is_named_or_changes_nothing(data: st.DataObject, target: Run, wanted: Recommendations) -> None:
    name = data.draw(st.sampled_from(files(target)), label="file")
    size = (target.path / name).stat().st_size
    length = data.draw(st.integers(0, size - 1), label="length")
    check_damage(target, wanted, name, lambda whole: whole[:length])


def test_a_missing_or_foreign_file_is_named_or_changes_nothing(target: Run, wanted: Recommendations) -> None:
    for name in files(target):
        check_damage(target, wanted, name, lambda whole: None) if name != "protocol.json" else None
        check_damage(target, wanted, name, lambda whole: b"\x89PNG\r\n\x1a\n" + bytes(64))
        check_damage(target, wanted, name, lambda whole: b'{"kind": "of another program"}')


# A full disk

PROGRAM = [sys.executable, "-c", "from allmrec.cli import main; main()"]


def limited() -> None:
    """No file may grow beyond 1,500 bytes: a disk that is full for all but the smallest."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))


@pytest.mark.slow
def test_a_limit_on_files_is_told_and_the_same_command_goes_on(world: World, tmp_path: Path) -> None:
    run, output = tmp_path / "run", tmp_path / "output.txt"
    done(["pretrain", *train(world, run)[1:]], output)
    before = weights(run)
    command = [*PROGRAM, *train(world, run)]
    failed = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limited)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    message = failed.stderr.strip().splitlines()[-1]
    assert message.startswith(f"error: {run}/")
    assert "could not be written: no space is left (it is larger than a file may be here (see `ulimit -f`)" in message
    assert "Free some space, then run the same command again" in message
    assert weights(run) == before
    assert not [path for path in run.rglob(".*") if path.name.endswith(".tmp")]
    done(train(world, run), output)
    assert set(weights(run)) > set(before)


@pytest.mark.slow
def test_on_a_full_disk_nothing_is_lost_and_the_same_command_goes_on(world: World, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=1m none '{tmp_path / 'disk'}'"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("no tmpfs can be mounted here: unshare -rm is not permitted")
    run = tmp_path / "disk" / "run"
    output, then = tmp_path / "output.txt", train(world, run)
    first = ["pretrain", *then[1:]]
    root = Path(__file__).parents[2]
    script = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(root)!r}, {str(root / "tests" / "support")!r}]
from kills import weights
from tests.support.forked import start
run, output = Path({str(run)!r}), Path({str(output)!r})

def ended(command):
    output.write_text("")
    process = start(command, output)
    process.join()
    return process.exitcode, output.read_text()

code, said = ended({first!r})
assert code == 0, said
before = weights(run)
filler = run.parent / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(512))
    except OSError:
        pass
code, said = ended({then!r})
assert code == 1, said
assert "Traceback" not in said, said
(message,) = [line for line in said.splitlines() if line.startswith("error: ")]
assert message.startswith("error: " + str(run)), message
assert "no space is left (" in message and "are free in " in message, message
assert weights(run) == before
left = [path.name for path in run.rglob(".*") if path.name.endswith(".tmp")]
assert not left, left
filler.unlink()
code, said = ended({then!r})
assert code == 0, said
assert set(weights(run)) > set(before)
"""
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""`allmrec update`: what came is joined, weights go on, stages 1 and 2 stay or do not by a stated amount; the run stays as it is."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.conftest import call, fails
from tests.support.forked import Forked
from tiny_world import TinyWorld

import allmrec
from allmrec.core.artifacts import read_json
from allmrec.core.hashing import file_hash
from allmrec.serve.export import export
from allmrec.serve.state import Event, State, StoredItem
from allmrec.stages.align import ALIGN
from allmrec.stages.tune import TUNE, allmrec_stages
from allmrec.systems.movement import INPUTS, Inputs, mean_cosine_distance, read_inputs
from allmrec.systems.towers import TEXT_TOWER
from allmrec.systems.updating import RECORD


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_hash(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def before(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run with both towers beside."""
    folder = Path(shutil.copytree(workplace / "run", tmp_path_factory.mktemp("before") / "run"))
    made = call("train", folder, "--system", "towers")
    assert made.exit_code == 0, made.output
    return folder


@pytest.fixture(scope="module")
def new(before: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three known users go on, one is new, one item is new; one row stands in the run already."""
    data = allmrec.open_run(before, "cpu").dataset
    known = f"u3,{data.items.id(int(data.sequence(data.users.number('u3'))[0]))},0\n"
    rows = "u0,fresh,100\nu1,fresh,100\nu2,i1,100\n" + "".join(f"newcomer,i{n},{100 + n}\n" for n in (2, 3, 4))
    folder = tmp_path_factory.mktemp("new")
    (folder / "new.csv").write_text("user_id,item_id,timestamp\n" + known + rows)
    (folder / "items.csv").write_text("item_id,title,description\nfresh,The fresh one,A thing.\n")
    return folder / "new.csv", folder / "items.csv"


def test_new_interactions_a_new_user_and_a_new_item(before: Path, new: tuple[Path, Path], tmp_path: Path) -> None:
    then = hashes(before)
    out = tmp_path / "later"
    line = ("update", before, "--interactions", new[0], "--items", new[1], "-o", out, "--device", "cpu")
    result = call(*line, "--keep-within", "2")
    assert result.exit_code == 0, result.output
    assert hashes(before) == then
    assert "6 new interactions, 1 new users, 1 new items" in result.stdout
    assert "1 interactions were there already" in result.stdout
    assert f"{new[0].name}: user is " in result.stdout, "how the files were read is said as by prepare"
    for stage in ("pretrain", "reference", "text-tower"):
        assert f"{stage}: goes on from {before.resolve()}" in result.stdout
    for stage in ("align", "tune"):
        assert f"{stage}: kept as {before.resolve()} has it: " in result.stdout
    earlier, later = allmrec.open_run(before, "cpu"), allmrec.open_run(out, "cpu")
    for kind in (ALIGN, TUNE):
        mine, theirs = later.tensors(kind), earlier.tensors(kind)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        assert later.stage(kind).key != earlier.stage(kind).key
    for stage in ("align", "tune"):
        assert [row["step"] for row in read_json(out / stage / "log.json")["records"]] == [0], "validated, not trained"
    (tower,) = TEXT_TOWER.stages(later.config)
    assert later.has(tower)
    assert later.start_key(tower) == earlier.stage(tower).key
    # The new item has joint vectors by the kept encoders, and is recommended.
    joint, fresh = later.joint(), later.dataset.items.number("fresh")
    assert bool(joint.has_text[fresh])
    assert len(later.recommender().recommend(history=["fresh", "i2"], k=5)) == 5
    assert len(later.recommender().recommend(user="newcomer", k=5)) == 5
    record = read_json(out / RECORD)
    assert record["joined"]["users"] == record["joined"]["items"] == 1
    assert record["kept"].keys() == record["moved"].keys() == {"align", "tune"}
    assert all(0 <= moved <= 2 for moved in record["moved"].values())
    # The same call again has nothing to train.
    again = call(*line, "--keep-within", "2")
    assert again.exit_code == 0, again.output
    stages = [row for row in again.stdout.splitlines() if row.startswith(("pretrain", "align", "tune", "towers"))]
    assert stages
    assert all(row.endswith("there already, made of the same inputs") for row in stages)


def test_stages_go_on_where_their_inputs_moved_more(before: Path, new: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "later"
    result = call("update", before, "--interactions", new[0], "-o", out, "--device", "cpu", "--keep-within", "-1")
    assert result.exit_code == 0, result.output
    for stage in ("pretrain", "align", "tune"):
        assert f"{stage}: goes on from {before.resolve()}" in result.stdout
    assert "1 new items have no title" in result.stdout
    assert read_json(out / RECORD)["kept"] == {}


def test_movement_adds_up_over_updates_that_keep(before: Path, new: tuple[Path, Path], tmp_path: Path) -> None:
    """Each update is measured from the run that the stage was trained in, so that many small movements are one large one."""
    one, two, three = tmp_path / "one", tmp_path / "two", tmp_path / "three"
    first = call(*("update", before, "--interactions", new[0], "-o", one, "--device", "cpu", "--keep-within", "2"))
    assert first.exit_code == 0, first.output
    (tmp_path / "next.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u{n},i{n},300\n" for n in range(1, 9)))
    line = ("update", one, "--interactions", tmp_path / "next.csv", "--device", "cpu")
    second = call(*line, "-o", two, "--keep-within", "2")
    assert second.exit_code == 0, second.output
    origin, between, later = (allmrec.open_run(folder, "cpu") for folder in (before, one, two))
    for kind in (ALIGN, TUNE):
        moved = read_json(two / RECORD)["moved"][kind.name]
        assert moved == pytest.approx(max(Inputs.of(origin, kind).moved(later, kind)), abs=1e-6)
        assert abs(moved - max(Inputs.of(between, kind).moved(later, kind))) > 1e-4
        for folder in (one, two):
            kept = read_inputs(folder, [kind.name])[kind.name]
            np.testing.assert_array_equal(kept.item_vectors, Inputs.of(origin, kind).item_vectors)
            np.testing.assert_array_equal(kept.user_vectors, Inputs.of(origin, kind).user_vectors)
    # A stage that is trained again begins anew; where that was not written down it is said from where movement counts.
    (one / INPUTS).unlink()
    third = call(*line, "-o", three, "--keep-within", "-1")
    assert third.exit_code == 0, third.output
    assert f"so movement is measured from {one}" in third.stdout
    assert not (three / INPUTS).exists()
    (two / INPUTS).write_bytes(b"cut")
    damaged = call("update", two, "--items", new[1], "-o", tmp_path / "four", "--device", "cpu")
    assert damaged.exit_code == 1
    assert f"{two / INPUTS} is damaged. Restore it, or remove it" in damaged.stderr


def test_nothing_new_trains_nothing(before: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    out = tmp_path / "later"
    result = call("update", before, "--interactions", tiny_world.interactions, "-o", out)
    assert result.exit_code == 0, result.output
    assert "Nothing is new" in result.stdout
    assert not out.exists()


@pytest.mark.parametrize(("name", "content"), [("day.csv", "user_id,item_id,timestamp\n"), ("day.jsonl", "")])
def test_a_day_without_interactions_ends_well(before: Path, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    result = call("update", before, "--interactions", tmp_path / name, "-o", tmp_path / "later")
    assert result.exit_code == 0, result.output
    assert "Nothing is new" in result.stdout
    assert not (tmp_path / "later").exists()


def test_a_day_with_items_alone(before: Path, tmp_path: Path) -> None:
    known = allmrec.open_run(before, "cpu").dataset.items.id(1)
    (tmp_path / "items.csv").write_text(f"item_id,title\n{known},Another title\n")
    out = tmp_path / "later"
    line = ("--items", tmp_path / "items.csv", "-o", out, "--device", "cpu", "--set", "pretrain.training.epochs=1")
    result = call("update", before, *line)
    assert result.exit_code == 0, result.output
    assert "1 known items have other texts" in result.stdout
    later = allmrec.open_run(out, "cpu").dataset
    assert later.catalogue.titles[1] == "Another title"
    assert read_json(out / RECORD)["joined"]["interactions"] == 0
    assert "--interactions, --items, or both" in fails("update", before, "-o", tmp_path / "none")


def day(tmp_path: Path, rows: str) -> tuple[str | Path, ...]:
    """A day's file as arguments, and short training."""
    (tmp_path / "day.csv").write_text("user_id,item_id,timestamp\n" + rows)
    return "--interactions", tmp_path / "day.csv", "--device", "cpu", "--set", "pretrain.training.epochs=1"


def test_a_day_with_new_users_alone(before: Path, tmp_path: Path) -> None:
    rows = "".join(f"new{user},i{item},{100 + item}\n" for user in range(2) for item in (1, 2, 3))
    result = call("update", before, *day(tmp_path, rows), "-o", tmp_path / "later")
    assert result.exit_code == 0, result.output
    assert "6 new interactions, 2 new users, 0 new items" in result.stdout
    then, later = (allmrec.open_run(folder, "cpu") for folder in (before, tmp_path / "later"))
    assert list(later.dataset.users)[: then.dataset.n_users] == list(then.dataset.users)
    assert len(later.recommender().recommend(user="new1", k=5)) == 5


def test_the_same_file_twice_is_new_once_and_a_line_twice_counts_twice(before: Path, tmp_path: Path) -> None:
    arguments = day(tmp_path, "u0,i1,100\nu0,i1,100\nu1,i2,101\n")
    first = call("update", before, *arguments, "-o", tmp_path / "one")
    assert first.exit_code == 0, first.output
    assert "3 new interactions, 0 new users, 0 new items" in first.stdout
    second = call("update", tmp_path / "one", *arguments, "-o", tmp_path / "two")
    assert second.exit_code == 0, second.output
    assert "3 interactions were there already" in second.stdout
    assert not (tmp_path / "two").exists()


def test_interactions_that_came_late_are_sorted_in_and_said(before: Path, tmp_path: Path) -> None:
    """In a file in no order; what the old model trained on would now test some of these users, so that training begins anew."""
    result = call("update", before, *day(tmp_path, "u0,i9,3\nu2,i1,100\nu0,i8,1\nu0,i7,2\n"), "-o", tmp_path / "later")
    assert result.exit_code == 0, result.output
    assert "3 interactions came late, before others of their user" in result.stdout
    data = allmrec.open_run(tmp_path / "later", "cpu").dataset
    times = data.times[data.offsets[data.users.number("u0")] : data.offsets[data.users.number("u0") + 1]]  # type: ignore[index]
    assert times.tolist() == sorted(times.tolist())
    assert read_json(tmp_path / "later" / RECORD)["joined"]["late"] == 3


@pytest.fixture(scope="module")
def whole(before: Path, new: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A command without its `-o` and its folder, and the run that it makes where nobody kills it."""
    line = ["update", str(before), "--interactions", str(new[0]), "--items", str(new[1])]
    line += ["--device", "cpu", "--keep-within", "-1"]
    out = tmp_path_factory.mktemp("whole") / "run"
    made = call(*line, "-o", out)
    assert made.exit_code == 0, made.output
    return line, out


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["pretrain:", "align:", "tune:"])
def test_an_update_that_was_killed_goes_on_to_the_same_weights(
    whole: tuple[list[str], Path], tmp_path: Path, moment: str
) -> None:
    line, undisturbed = whole
    out, said = tmp_path / "out", tmp_path / "said.txt"
    killed = Forked([*line, "-o", str(out)], said)
    while not any(one.startswith(moment) for one in said.read_text().splitlines()):
        assert killed.poll() is None, said.read_text()
        time.sleep(0.005)
    assert killed.poll() is None, "it was over before it could be killed"
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (out / RECORD).exists()
    again = Forked([*line, "-o", str(out)], said)
    assert again.wait() == 0, said.read_text()
    one, other = (allmrec.open_run(path, "cpu") for path in (undisturbed, out))
    for kind in allmrec_stages(one.config):
        mine, theirs = one.tensors(kind), other.tensors(kind)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert read_json(undisturbed / RECORD) == read_json(out / RECORD)


def test_the_run_before_can_be_removed_once_the_update_is_done(
    before: Path, new: tuple[Path, Path], tmp_path: Path
) -> None:
    """The new run has its own data and weights, and is evaluated, asked and updated without the others."""
    earlier, one = Path(shutil.copytree(before, tmp_path / "earlier")), tmp_path / "one"
    made = call("update", earlier, "--interactions", new[0], "-o", one, "--device", "cpu", "--keep-within", "2")
    assert made.exit_code == 0, made.output
    shutil.rmtree(earlier)
    assert call("evaluate", one, "--device", "cpu").exit_code == 0
    assert len(allmrec.open_run(one, "cpu").recommender().recommend(user="u3", k=5)) == 5
    after = call("update", one, *day(tmp_path, "u5,i5,400\n"), "-o", tmp_path / "two", "--keep-within", "2")
    assert after.exit_code == 0, after.output
    assert read_json(tmp_path / "two" / RECORD)["kept"].keys() == {"align", "tune"}


def test_events_of_a_server_can_be_passed_straight_in(before: Path, tmp_path: Path) -> None:
    data = allmrec.open_run(before, "cpu").dataset
    state = State(f"sqlite:///{tmp_path / 'state.db'}")
    state.write_items([StoredItem("served", "Served", None, ())])
    state.write_events([Event("u0", "served", 200, "k1"), Event("somebody", "i5", 201, "k2")])
    written = export(data, state, tmp_path / "served")
    state.close()
    out = tmp_path / "later"
    result = call(
        *("update", before, "--interactions", written.interactions, "--items", written.items, "-o", out),
        *("--set", "pretrain.training.epochs=1"),
    )
    assert result.exit_code == 0, result.output
    assert "2 new interactions, 1 new users, 1 new items" in result.stdout
    assert f"{data.n_interactions} interactions were there already" in result.stdout
    later = allmrec.open_run(out, "cpu")
    assert later.dataset.catalogue.titles[later.dataset.items.number("served")] == "Served"
    assert later.config.pretrain.training.epochs == 1


def test_bad_lines_and_wrong_places(before: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("user_id,item_id,timestamp\nu0,i1,100\nu1,i1,yesterday\n" + "u2,i1,100\n" * 9)
    assert f"{bad}:3:" in fails("update", before, "--interactions", bad, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "stays as it is" in fails("update", before, "--interactions", bad, "-o", before)
    assert "gone.csv" in fails("update", before, "--interactions", tmp_path / "gone.csv", "-o", tmp_path / "out")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("dear")
    good = tmp_path / "good.csv"
    good.write_text("user_id,item_id,timestamp\nu0,i1,100\n")
    assert "is no run of allmrec" in fails("update", before, "--interactions", good, "-o", tmp_path / "thesis")
    skipped = call(
        *("update", before, "--interactions", bad, "-o", tmp_path / "out", "--on-error", "skip"),
        *("--set", "pretrain.training.epochs=1", "--keep-within", "2"),
    )
    assert skipped.exit_code == 0, skipped.output
    assert "skipped 1 lines" in skipped.stdout
    record = read_json(tmp_path / "out" / RECORD)
    assert list(record["skipped"].values()) == [1]
    assert record["skipped_lines"] == dict.fromkeys(record["skipped"], "3")


def test_a_limit_that_is_no_number_is_refused(before: Path, new: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing is above it, so it kept everything."""
    message = fails("update", before, "--interactions", new[0], "-o", tmp_path / "new", "--keep-within", "nan")
    assert message.startswith("keep_within is nan; expected a mean cosine distance")
    assert not (tmp_path / "new").exists()


def test_distance_by_hand() -> None:
    before = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float32)
    assert mean_cosine_distance(before, before) == 0
    assert mean_cosine_distance(before, 3 * before) == pytest.approx(0, abs=1e-6)
    turned = np.array([[0, 1], [-1, 0], [0, 1], [0, -1]], dtype=np.float32)
    assert mean_cosine_distance(before, turned) == pytest.approx(1 / 4)
    assert mean_cosine_distance(before, -before) == pytest.approx(2)
    # What all share is no movement against one another, but where all move together they did move.
    assert mean_cosine_distance(before + 5, before + 5) == pytest.approx(0, abs=1e-6)
    zeros = np.zeros((3, 2), dtype=np.float32)
    assert mean_cosine_distance(zeros, zeros) == 0
    assert mean_cosine_distance(zeros[:0], zeros[:0]) == 0

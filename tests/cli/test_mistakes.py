"""What a user gets wrong is said in a line: what was found, what was expected, what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.cli.conftest import call, fails
from tiny_world import TinyWorld


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert "gone.csv" in fails("prepare", "table", "--interactions", f"{gone}.csv", "-o", tmp_path / "data")
    assert f"{gone} does not exist" in fails("train", gone, "-o", tmp_path / "run")
    assert f"{gone} does not exist" in fails("train", gone)
    assert f"{gone} does not exist" in fails("evaluate", gone)
    assert f"{gone} does not exist" in fails("recommend", gone, "--user", "u1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to nothing", "link to itself"])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", ""])
@pytest.mark.parametrize("which", ["--interactions", "--items"])
def test_what_is_no_file_is_said_at_once(
    which: str, ending: str, kind: str, engine: str, tiny_world: TinyWorld, tmp_path: Path
) -> None:
    """A pipe that nobody writes to would be waited for; one that somebody does cannot be read twice."""
    place = tmp_path / f"table.{ending}"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to({"device": "/dev/zero", "link to nothing": "nothing"}.get(kind, place))
    files = {"--interactions": tiny_world.interactions, which: place}
    options = [word for option, path in files.items() for word in (option, path)]
    message = fails("prepare", "table", *options, "-o", tmp_path / "out", "--engine", engine)
    assert message.startswith(f"{place}: ")
    expected = {
        "folder": "this is a folder",
        "link to nothing": "there is no such file",
        "link to itself": "cannot be read",
    }
    assert expected.get(kind, "this is a pipe or a device; expected a file") in message
    assert not (tmp_path / "out").exists()


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    assert "empty.csv" in fails("prepare", "table", "--interactions", tmp_path / "empty.csv", "-o", tmp_path / "data")
    (tmp_path / "header.csv").write_text("user_id,item_id\n")
    fails("prepare", "table", "--interactions", tmp_path / "header.csv", "-o", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_bad_line_is_named_and_may_be_skipped(tmp_path: Path) -> None:
    raw = tmp_path / "raw.csv"
    raw.write_text("user_id,item_id,timestamp\n" + "".join(f"u,i{n},{n}\n" for n in range(5)) + "u,i9,yesterday\n")
    assert f"{raw}:7:" in fails("prepare", "table", "--interactions", raw, "-o", tmp_path / "data")
    skipped = call("prepare", "table", "--interactions", raw, "-o", tmp_path / "data", "--on-error", "skip")
    assert skipped.exit_code == 0
    assert "skipped 1 lines" in skipped.stdout


def test_a_column_that_is_not_there(tiny_world: TinyWorld, tmp_path: Path) -> None:
    message = fails(
        "prepare", "table", "--interactions", tiny_world.interactions, "--user", "usr", "-o", tmp_path / "data"
    )
    assert "usr" in message
    assert "user_id" in message


def test_filters_that_leave_nothing(tiny_world: TinyWorld, tmp_path: Path) -> None:
    fails("prepare", "table", "--interactions", tiny_world.interactions, "--core", "1000", "-o", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_output_into_a_foreign_folder(tiny_world: TinyWorld, workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    message = fails("prepare", "table", "--interactions", tiny_world.interactions, "-o", tmp_path)
    assert message == f"{tmp_path} exists and is no data set of allmrec. Give another folder with -o."
    message = fails("train", workplace / "data", "-o", tmp_path, "--recipe", tiny_world.recipe)
    assert message == f"{tmp_path} exists and is no run of allmrec. Give another folder with -o."
    # A run is no place for a data set, nor a data set for a run.
    assert "is no data set" in fails(
        "prepare", "table", "--interactions", tiny_world.interactions, "-o", workplace / "run"
    )
    assert "is no run" in fails("train", workplace / "data", "-o", workplace / "data", "--recipe", tiny_world.recipe)
    assert os.listdir(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below", "link", "loop"])
@pytest.mark.parametrize("verb", ["prepare", "train", "update", "recommend", "experiment"])
def test_output_where_no_folder_can_be(
    verb: str, place: str, tiny_world: TinyWorld, workplace: Path, tmp_path: Path
) -> None:
    """It is said before anything is read for long, and nothing is written."""
    (tmp_path / "file").write_text("dear")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "new.csv").write_text("user_id,item_id,timestamp\nu1,i30,99\n")
    arguments = {
        "prepare": ["table", "--interactions", tiny_world.interactions],
        "train": [workplace / "data", "--recipe", tiny_world.recipe],
        "update": [workplace / "run", "--interactions", tmp_path / "new.csv"],
        "recommend": [workplace / "run", "--users", "all", "--system", "popularity"],
        "experiment": ["table1", "--data", workplace / "data", "--recipe", tiny_world.recipe],
    }[verb]
    message = fails(verb, *arguments, "-o", tmp_path / place)
    assert message == f"{tmp_path / place.partition('/')[0]} is no folder. Give another place with -o."
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link", "loop", "new.csv"}


def test_output_onto_a_file(tiny_world: TinyWorld, workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    for arguments in (
        ["prepare", "table", "--interactions", tiny_world.interactions],
        ["train", workplace / "data", "--recipe", tiny_world.recipe],
    ):
        assert str(tmp_path / "file") in fails(*arguments, "-o", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "dear"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_output_where_writing_is_forbidden(tiny_world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    message = fails("prepare", "table", "--interactions", tiny_world.interactions, "-o", tmp_path / "locked" / "data")
    assert "Permission denied" in message


def test_data_of_another_run(workplace: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("user_id,item_id\n" + "".join(f"u,i{n}\n" for n in range(5)))
    call("prepare", "table", "--interactions", tmp_path / "raw.csv", "-o", tmp_path / "other", "--time", "none")
    message = fails("train", tmp_path / "other", "-o", workplace / "run", "--recipe", tiny_world.recipe)
    assert "is a run of other data" in message


def test_data_without_a_place_for_the_run(workplace: Path) -> None:
    assert "Give the run's folder: -o runs/NAME" in fails("train", workplace / "data")
    assert "leave -o out" in fails("train", workplace / "run", "-o", workplace / "run")


def test_going_on_from_what_is_no_earlier_run(workplace: Path, tmp_path: Path) -> None:
    assert "--from goes with prepared data and -o" in fails("train", workplace / "run", "--from", workplace / "run")
    started = ("train", workplace / "data", "-o", tmp_path / "run", "--from")
    assert "does not exist; expected the folder of a run" in fails(*started, tmp_path / "nowhere")
    assert "has no run.json" in fails(*started, workplace / "data")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "tune.traning.epochs=3"], "tune.traning: no such field; did you mean tune.training?"),
        (["--set", "tune.training.epochs"], "expected field=value"),
        (["--set", "tune.training.epochs=many"], "tune.training.epochs: Input should be a valid integer"),
        (["--recipe", "papre"], "There is no recipe 'papre': neither a file nor one of "),
        (["--backbone", "sasreq"], "There is no backbone 'sasreq'"),
        (["--words", "watch,movie"], "expected verb,participle,noun"),
        (["--device", "abacus"], "The device 'abacus' cannot be used here"),
        (["--recipe", "cpu", "--llm", "no/such"], "The language model 'no/such' is no folder here"),
    ],
)
def test_an_option_that_does_not_fit(arguments: list[str], message: str, workplace: Path, tmp_path: Path) -> None:
    found = fails("train", workplace / "data", "-o", tmp_path / "run", *arguments)
    assert message in found
    assert "\n" not in found


def test_an_id_that_is_not_there(workplace: Path) -> None:
    message = fails("recommend", workplace / "run", "--user", "u33")
    assert message.startswith("There is no user 'u33' among 24. Did you mean 'u3'")
    message = fails("recommend", workplace / "run", "--history", "i1, i99")
    assert message.startswith("There is no item 'i99' among 36. Did you mean 'i9'")


@pytest.mark.parametrize("options", [[], ["--user", "u1", "--history", "i1"]])
def test_neither_or_both_of_user_and_history(options: list[str], workplace: Path) -> None:
    assert (
        fails("recommend", workplace / "run", *options)
        == "Give either --user ID or --history ID,ID,…; --history '' is for somebody new, --users for many."
    )


def test_a_history_of_everything(workplace: Path) -> None:
    everything = ",".join(f"i{n}" for n in range(36))
    assert "--seen" in fails("recommend", workplace / "run", "--history", everything)


def test_a_system_that_is_not_there(workplace: Path) -> None:
    run = workplace / "run"
    assert "There is no system 'sasrek'; known are popularity" in fails("evaluate", run, "--systems", "sasrek")
    assert "There is no system 'sasrek'; known are popularity" in fails("train", run, "--system", "sasrek")
    assert "has no stage 'morec'" in fails("recommend", run, "--user", "u1", "--system", "morec")
    assert "--system goes with `allmrec train`" in fails("align", run, "--system", "no-llm")


def test_a_run_that_is_not_trained(workplace: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    run = tmp_path / "run"
    call("pretrain", workplace / "data", "-o", run, "--recipe", tiny_world.recipe)
    for arguments in (
        ["evaluate", run, "--systems", "allmrec"],
        ["recommend", run, "--user", "u1", "--system", "allmrec"],
    ):
        assert fails(*arguments).endswith(f"Run: allmrec train {run}")
    # What is there can be evaluated and asked, and it is said that it is not all.
    for arguments in (["evaluate", run], ["recommend", run, "--user", "u1"]):
        done = call(*arguments)
        assert done.exit_code == 0
        assert "A-LLMRec itself is not trained" in " ".join(done.stdout.split())


def test_damaged_weights_are_named_never_loaded_and_trained_again(copy: Path) -> None:
    file = copy / "tune" / "weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for arguments in (["recommend", copy, "--user", "u1"], ["evaluate", copy]):
        message = fails(*arguments)
        assert message.startswith(f"{file} is missing or damaged")
        assert message.endswith(f"run: allmrec train {copy}")
    assert f"tune: {file} is missing or damaged; training it again" in call("train", copy).stdout
    assert file.read_bytes() == whole


def test_a_damaged_data_set_is_named(workplace: Path, tiny_world: TinyWorld, tmp_path: Path) -> None:
    call("prepare", "table", "--interactions", tiny_world.interactions, "-o", tmp_path / "data")
    file = tmp_path / "data" / "interactions.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    assert str(file) in fails("train", tmp_path / "data", "-o", tmp_path / "run", "--recipe", tiny_world.recipe)

"""`allmrec recommend RUN --users`: one row a user whatever happened on the way, and the answers of the single request."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import call, fails
from tests.support.forked import Forked
from tiny_world import TinyWorld

import allmrec
from allmrec.bulk.block import Block
from allmrec.bulk.folder import MANIFEST
from allmrec.bulk.job import BulkJob
from allmrec.bulk.scoring import in_this_process, recommend_users
from allmrec.core.artifacts import read_json
from allmrec.core.errors import ConfigError, RunInUseError, UnknownIdError
from allmrec.core.hashing import file_hash
from allmrec.core.locking import held
from allmrec.data.build import read_table
from allmrec.library import Run
from allmrec.pipeline.run import Log

CF = ("--system", "backbone")


@pytest.fixture(scope="module")
def run(workplace: Path) -> Run:
    return allmrec.open_run(workplace / "run", "cpu")


def files(folder: Path) -> dict[str, str]:
    """Hashes of the blocks by name."""
    return {path.name: file_hash(path) for path in sorted(folder.glob("*.parquet"))}


def rows(folder: Path) -> list[dict[str, object]]:
    return list(pq.read_table(folder).to_pylist())


def test_every_user_has_one_row_with_the_answer_to_the_single_request(
    workplace: Path, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "recommendations"
    result = call("recommend", workplace / "run", "--users", "all", "-o", out, "--block", "7", "--k", "4", "--titles")
    assert result.exit_code == 0, result.output
    found = rows(out)
    assert [row["user_id"] for row in found] == list(run.dataset.users)
    model = run.recommender()
    # The very blocks that were asked, since the language model's rounding depends on who is asked together.
    for start in (0, 7):
        block = found[start : start + 7]
        answers = model.recommend([allmrec.Request(user=str(row["user_id"]), k=4) for row in block])
        for row, answer in zip(block, answers, strict=True):
            assert row["item_ids"] == [item.item_id for item in answer]
            assert row["titles"] == [item.title for item in answer]
            assert row["scores"] == pytest.approx([item.score for item in answer], rel=1e-6)
            assert (row["answered_by"], row["note"]) == (answer.answered_by, answer.note)
    about = read_json(out / MANIFEST)
    assert about["run"] == str(workplace / "run")
    assert about["made_of"]["request"]["k"] == 4
    assert about["made_of"]["system"] in ("allmrec", "allmrec-select")
    assert {"pretrain", "align", "tune"} <= about["made_of"]["stages"].keys()
    assert about["made_of"]["versions"]["allmrec"]
    assert about["rows"] == sum(block["users"] for block in about["blocks"]) == run.dataset.n_users
    assert {block["file"]: block["sha256"] for block in about["blocks"]} == files(out)
    assert sum(about["answered_by"].values()) == run.dataset.n_users


def test_a_list_of_users_lists_of_items_and_whom_nothing_is_left_for(workplace: Path, run: Run, tmp_path: Path) -> None:
    listed = tmp_path / "users.txt"
    listed.write_bytes("\ufeffu3\r\n\r\n u5 \nnobody\nu3\nu1".encode())
    out = tmp_path / "out"
    message = fails("recommend", workplace / "run", "--users", listed, "-o", out, *CF)
    assert message.startswith("There is no user 'nobody'")
    assert "--skip-unknown" in message
    assert not out.exists()
    seen = [run.dataset.items.id(int(item)) for item in run.dataset.sequence(run.dataset.users.number("u3"))]
    allowed = ",".join([*seen[:2], "i1"])
    result = call(
        *("recommend", workplace / "run", "--users", listed, "-o", out, "--skip-unknown", *CF),
        *("--allow", allowed, "--deny", "i1"),
    )
    assert result.exit_code == 0, result.output
    assert "1 ids (nobody)" in result.stdout
    assert "written once: 1 lines" in result.stdout
    found = rows(out)
    assert [row["user_id"] for row in found] == ["u3", "u5", "u1"]
    assert (found[0]["item_ids"], found[0]["answered_by"]) == ([], "")
    assert "No item is left" in str(found[0]["note"])
    assert read_json(out / MANIFEST)["answered_by"]["nobody"] >= 1
    single = run.recommender("backbone")
    for row in found[1:]:
        answer = single.recommend(user=row["user_id"], allow=allowed.split(","), deny=["i1"])
        assert row["item_ids"] == [item.item_id for item in answer]


def killing(after: int) -> Callable[[BulkJob, Sequence[int], Callable[[int], None], Log], Iterator[Block]]:
    """An engine that Ctrl-C ends behind so many blocks."""

    def engine(job: BulkJob, blocks: Sequence[int], advance: Callable[[int], None], log: Log) -> Iterator[Block]:
        for count, block in enumerate(in_this_process(job, blocks, advance, log)):
            if count == after:
                raise KeyboardInterrupt
            yield block

    return engine


def test_a_call_that_was_cut_off_goes_on_and_the_files_are_the_same(run: Run, tmp_path: Path) -> None:
    whole = recommend_users(run, tmp_path / "whole", system="backbone", block=5)
    assert (whole.users, whole.blocks, whole.found) == (24, 5, 0)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        recommend_users(run, out, system="backbone", block=5, engine=killing(2))
    assert read_json(out / MANIFEST)["finished"] is None
    assert len(files(out)) == 2
    asked: list[int] = []

    def watched(job: BulkJob, blocks: Sequence[int], advance: Callable[[int], None], log: Log) -> Iterator[Block]:
        asked.extend(blocks)
        return in_this_process(job, blocks, advance, log)

    again = recommend_users(run, out, system="backbone", block=5, engine=watched)
    assert asked == [2, 3, 4]
    assert again.found == 2
    assert files(out) == files(tmp_path / "whole")
    # And a third call has nothing to do.
    asked.clear()
    assert recommend_users(run, out, system="backbone", block=5, engine=watched).found == 5
    assert asked == []


@pytest.mark.parametrize("harm", ["cut", "turned", "foreign"])
def test_a_block_that_is_not_what_it_should_be_is_made_again(run: Run, tmp_path: Path, harm: str) -> None:
    out = tmp_path / "out"
    recommend_users(run, out, system="backbone", block=8)
    expected = files(out)
    block = out / "block-0000001.parquet"
    content = bytearray(block.read_bytes())
    if harm == "cut":
        block.write_bytes(content[:-20])
    elif harm == "turned":
        content[40] ^= 0xFF
        block.write_bytes(content)
    else:
        block.write_bytes((out / "block-0000000.parquet").read_bytes())
    assert recommend_users(run, out, system="backbone", block=8).found == 2
    assert files(out) == expected


def test_another_setting_is_refused_or_starts_anew(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recommend_users(run, out, system="backbone", block=8)
    before = files(out)
    for changes, words in (
        ({"k": 5}, "request.k is 10 there and 5 now"),
        ({"block": 9}, "block is 8 there and 9 now"),
        ({"users": ["u1"]}, "users.count is 24 there and 1 now"),
        ({"system": "popularity"}, "system is 'backbone' there and 'popularity' now"),
    ):
        with pytest.raises(ConfigError, match=f"made otherwise: .*{words}"):
            recommend_users(run, out, **({"system": "backbone", "block": 8} | changes))
    other = run.with_config(run.config.changed({"seed": 5}))
    with pytest.raises(ConfigError, match=r"stages\.|config\.seed"):
        recommend_users(other, out, system="popularity", block=8)
    assert files(out) == before
    assert recommend_users(run, out, ["u1"], system="backbone", anew=True).users == 1
    assert list(files(out)) == ["block-0000000.parquet"]


def test_what_was_asked_for_is_named_before_what_follows_from_it(run: Run, tmp_path: Path) -> None:
    """Another system has other stages and settings, each of which differs too."""
    recommend_users(run, tmp_path / "out", k=3)
    with pytest.raises(
        ConfigError, match=r"made otherwise: system is 'allmrec\S*' there and 'popularity' now; request.k is 3"
    ):
        recommend_users(run, tmp_path / "out", k=4, system="popularity")


def test_a_foreign_folder_stays_as_it_is(run: Run, workplace: Path, tmp_path: Path) -> None:
    """Nothing is written there, no lock either."""
    data = shutil.copytree(workplace / "data", tmp_path / "data")
    before = {path.name for path in data.iterdir()}
    with pytest.raises(ConfigError, match="no block of recommendations"):
        recommend_users(run, data, system="popularity")
    assert {path.name for path in data.iterdir()} == before


def test_a_folder_that_holds_something_else_or_is_held(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    for anew in (False, True):
        with pytest.raises(ConfigError, match=r"holds thesis\.txt"):
            recommend_users(run, tmp_path, system="backbone", anew=anew)
    assert (tmp_path / "thesis.txt").read_text() == "dear"
    with held(tmp_path / "out", "being written"), pytest.raises(RunInUseError, match="being written by another"):
        recommend_users(run, tmp_path / "out", system="backbone")
    out = tmp_path / "lost"
    recommend_users(run, out, system="backbone")
    (out / MANIFEST).unlink()
    with pytest.raises(ConfigError, match="--anew"):
        recommend_users(run, out, system="backbone")


def test_nobody_and_unknown_ids(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody to recommend for"):
        recommend_users(run, tmp_path / "out", ["x"], unknown="skip", system="backbone")
    with pytest.raises(UnknownIdError, match="2 of 3 users are not among"):
        recommend_users(run, tmp_path / "out", ["x", "u1", "y"], system="backbone")
    with pytest.raises(UnknownIdError, match="'i999'"):
        recommend_users(run, tmp_path / "out", ["u1"], deny=["i999"], system="backbone")
    nobody = replace(run, dataset=allmrec.InteractionDataset.from_sequences({}, items=list(run.dataset.items)))
    with pytest.raises(ConfigError, match="holds 0 users"):
        recommend_users(nobody, tmp_path / "out", system="popularity")
    assert not (tmp_path / "out").exists()


def test_what_does_not_go_together(workplace: Path, tmp_path: Path) -> None:
    assert "--titles goes with --users" in fails("recommend", workplace / "run", "--user", "u1", "--titles")
    assert "leave these out" in fails(
        "recommend", workplace / "run", "--users", "all", "--user", "u1", "-o", tmp_path / "out"
    )
    assert "Where to?" in fails("recommend", workplace / "run", "--users", "all")
    gone = tmp_path / "gone.txt"
    assert str(gone) in fails("recommend", workplace / "run", "--users", gone, "-o", tmp_path / "out")
    gone.write_bytes(b"u1\n\xff\n")
    assert f"{gone}:2: no UTF-8" in fails("recommend", workplace / "run", "--users", gone, "-o", tmp_path / "out")


@pytest.mark.slow
def test_a_killed_process_loses_no_finished_block(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """SIGKILL at the moment when a few blocks stand; the same command goes on to the same files."""
    data = read_table(tiny_world.interactions, tiny_world.items)
    many = tmp_path / "many.csv"
    with many.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["user_id", "item_id", "timestamp"])
        for copy in range(60):
            for user in range(data.n_users):
                for place, item in enumerate(data.sequence(user)):
                    out.writerow([f"{copy}-{data.users.id(user)}", data.items.id(int(item)), place])
    folder = tmp_path / "run"
    allmrec.train(read_table(many, tiny_world.items), folder, str(tiny_world.recipe), device="cpu")
    line = ["recommend", str(folder), "--users", "all", "--device", "cpu", "--block", "16", "-o"]
    said = tmp_path / "said.txt"
    killed = Forked([*line, str(tmp_path / "out")], said)
    while len(list((tmp_path / "out").glob("*.parquet"))) < 3:
        assert killed.poll() is None, said.read_text()
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    there = len(files(tmp_path / "out"))
    assert 3 <= there < 90
    assert Forked([*line, str(tmp_path / "out")], said).wait() == 0, said.read_text()
    assert "of them there already" in said.read_text()
    assert Forked([*line, str(tmp_path / "whole")], said).wait() == 0, said.read_text()
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert len(rows(tmp_path / "out")) == 1440

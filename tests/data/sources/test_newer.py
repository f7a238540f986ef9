"""Newer files: no record in one is no error, a bad file still is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allmrec.core.errors import AllmrecError, ConfigError, DataError, NoRecordsError
from allmrec.data.build import read_table
from allmrec.data.growing import Growth, grown
from allmrec.data.sources.newer import NewerConfig, read_newer_files
from allmrec.data.sources.table import TableConfig, read_table_files

HEADER = "user_id,item_id,timestamp\n"


def empty_parquet(path: Path) -> Path:
    columns = {"user_id": pa.string(), "item_id": pa.string(), "timestamp": pa.int64()}
    pq.write_table(pa.table({name: pa.array([], kind) for name, kind in columns.items()}), path)
    return path


@pytest.mark.parametrize("times", [True, False])
@pytest.mark.parametrize(
    ("name", "content"),
    [("l.csv", HEADER), ("l.csv", "user_id,item_id\n"), ("l.jsonl", ""), ("l.jsonl", "\n\n"), ("l.json", "[]")],
)
def test_no_interactions_join_any_data(tmp_path: Path, name: str, content: str, times: bool) -> None:
    (tmp_path / "first.csv").write_text((HEADER if times else "user_id,item_id,x\n") + "a,x,1\nb,y,2\n")
    data = read_table(tmp_path / "first.csv", **({} if times else {"time": None}))
    (tmp_path / name).write_text(content)
    with pytest.raises(NoRecordsError):
        read_table_files(TableConfig(interactions=tmp_path / name))
    again, growth = grown(data, read_newer_files(NewerConfig(interactions=tmp_path / name)))
    assert growth == Growth()
    assert again.content_hash == data.content_hash


def test_other_files_of_no_record(tmp_path: Path) -> None:
    assert (
        len(read_newer_files(NewerConfig(interactions=empty_parquet(tmp_path / "l.parquet"))).interactions.user_ids)
        == 0
    )
    (tmp_path / "l.csv").write_text("")
    headerless = {"layout": {"header": False}}
    assert read_newer_files(NewerConfig(interactions=tmp_path / "l.csv", **headerless)).items is None
    (tmp_path / "items.jsonl").write_text("")
    (tmp_path / "l.csv").write_text(HEADER + "a,x,1\n")
    for interactions in (tmp_path / "l.csv", None):
        raw = read_newer_files(NewerConfig(interactions=interactions, items=tmp_path / "items.jsonl"))
        assert raw.items is not None
        assert raw.items.ids == ()
        assert raw.notes[-1] == "items.jsonl: no items"
        assert raw.files[-1] == tmp_path / "items.jsonl"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", "", "the file is empty"),
        ("l.csv", "a,b\n", "no column 'user_id'"),
        ("l.csv", HEADER + ",,\n", "1 bad lines were left out"),
        ("l.jsonl", "{\n", "no column 'user_id'"),
    ],
)
def test_a_file_that_should_hold_more_is_an_error(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as raised:
        read_newer_files(NewerConfig(interactions=tmp_path / name, on_error="skip"))
    assert not isinstance(raised.value, NoRecordsError)


def test_one_of_the_files_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--interactions, --items, or both"):
        read_newer_files(NewerConfig())
    with pytest.raises(AllmrecError, match="gone"):
        read_newer_files(NewerConfig(items=tmp_path / "gone.csv"))

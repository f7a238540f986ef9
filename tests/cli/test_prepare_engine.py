from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from allmrec.cli.main import app
from allmrec.cli.prepare_options import bytes_of
from allmrec.core.errors import ConfigError
from allmrec.core.memory import available_memory
from allmrec.data import InteractionDataset
from allmrec.data.large import choice, chosen_engine


def prepare(folder: Path, *options: str) -> str:
    (folder / "log.csv").write_text("user_id,item_id,timestamp\na,x,2\na,y,1\nb,x,3\n")
    result = CliRunner().invoke(
        app, ["prepare", "table", "--interactions", str(folder / "log.csv"), "-o", str(folder / "out"), *options]
    )
    return f"{result.exit_code}: {result.output}"


def test_both_engines_write_the_same(tmp_path: Path) -> None:
    assert prepare(tmp_path).startswith("0: ")
    memory = InteractionDataset.load(tmp_path / "out").content_hash
    said = prepare(tmp_path, "--engine", "duckdb", "--memory-limit", "100MB")
    assert said.startswith("0: ")
    assert "prepared by DuckDB" in said
    assert InteractionDataset.load(tmp_path / "out").content_hash == memory


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * 10**9), ("512MiB", 512 << 20), ("1.5 g", 15 * 10**8), ("1000000", 10**6)]
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text, "--memory-limit") == size


def test_a_wrong_size_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'much'"):
        bytes_of("much", "--memory-limit")
    assert "expected a size such as 4GB" in prepare(tmp_path, "--memory-limit", "-1")
    assert "is DuckDB's" in prepare(tmp_path, "--memory-limit", "4GB", "--engine", "memory")


def test_the_rule_that_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b" " * 1000)
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(b" " * 1000)
    for memory, plain, gzip in ((10**6, "memory", "memory"), (10_000, "memory", "duckdb"), (1000, "duckdb", "duckdb")):
        monkeypatch.setattr(choice, "available_memory", lambda memory=memory: memory)
        assert chosen_engine("auto", "table", [path]) == plain
        assert chosen_engine("auto", "table", [packed]) == gzip
        assert chosen_engine("auto", "movielens", [path]) == "memory"
        assert chosen_engine("memory", "table", [path]) == "memory"


def test_memory_is_known() -> None:
    assert available_memory() > 1 << 24
    assert choice.default_limit() >= 256 << 20

"""Files and folders: whole or not at all, readable by whom the user allows, hashed without running together."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core import artifacts
from allmrec.core.artifacts import (
    atomic_directory,
    atomic_write,
    content_hash,
    file_hash,
    read_json,
    read_tensors,
    versions,
    write_json,
    write_tensors,
)
from allmrec.core.errors import ArtifactError


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "deep" / "run") as folder:
        (folder / "a").write_text("new")
        assert not (tmp_path / "deep" / "run").exists()
    assert (tmp_path / "deep" / "run" / "a").read_text() == "new"
    assert os.listdir(tmp_path / "deep") == ["run"]


def test_a_folder_takes_anothers_place_whole(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("old")
    with atomic_directory(tmp_path / "run") as folder:
        (folder / "new").write_text("new")
    assert os.listdir(tmp_path / "run") == ["new"]
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_content_and_no_rubbish(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("old")

    def fill() -> None:
        with atomic_directory(tmp_path / "run") as folder:
            (folder / "half").write_text("half")
            raise error

    with pytest.raises(error):
        fill()
    assert os.listdir(tmp_path / "run") == ["old"]
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("failing", [0, 1])
def test_when_renaming_fails_the_old_content_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("old")
    calls, rename = [0], os.replace

    def replace(source: Path, target: Path) -> None:
        calls[0] += 1
        if calls[0] == failing + 1:
            raise OSError("no room")
        rename(source, target)

    monkeypatch.setattr(artifacts.os, "replace", replace)
    with pytest.raises(OSError, match="no room"), atomic_directory(tmp_path / "run") as folder:
        (folder / "new").write_text("new")
    assert os.listdir(tmp_path / "run") == ["old"]
    assert os.listdir(tmp_path) == ["run"]


def test_what_is_written_is_as_readable_as_the_umask_says(tmp_path: Path, umask: int) -> None:
    with atomic_directory(tmp_path / "folder") as folder:
        atomic_write(folder / "text", "x")
        write_json(folder / "json", {})
        write_tensors(folder / "tensors", {"a": torch.zeros(1)})
    assert mode(tmp_path / "folder") == 0o777 & ~umask
    for name in ("text", "json", "tensors"):
        assert mode(tmp_path / "folder" / name) == 0o666 & ~umask
    assert os.umask(umask) == umask


def test_a_file_that_cannot_be_put_in_place_leaves_no_rubbish(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        atomic_write(tmp_path / "taken", b"bytes")
    with pytest.raises(OSError, match="taken"):
        write_tensors(tmp_path / "taken", {"a": torch.zeros(1)})
    assert os.listdir(tmp_path) == ["taken"]


def test_json_comes_back_and_is_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"title": "Amélie", "n": [1, 2]})
    assert read_json(tmp_path / "new" / "a.json") == {"title": "Amélie", "n": [1, 2]}
    assert "Amélie" in (tmp_path / "new" / "a.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "cannot be read as JSON"),
        (b'{"a": 1', "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[1]", "holds a list; expected a JSON object"),
    ],
)
def test_a_json_file_that_is_none_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"a\.json {message}"):
        read_json(tmp_path / "a.json")


def test_tensors_come_back_also_shared_and_strided_ones(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "t", {"a": whole, "same": whole, "turned": whole.T, "row": whole[1]}, {"note": "x"})
    found = read_tensors(tmp_path / "t")
    assert torch.equal(found["a"], whole)
    assert torch.equal(found["same"], whole)
    assert torch.equal(found["turned"], whole.T)
    assert torch.equal(found["row"], whole[1])


def test_damaged_tensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="t does not exist"):
        read_tensors(tmp_path / "t")
    write_tensors(tmp_path / "t", {"a": torch.zeros(100)})
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-8])
    with pytest.raises(ArtifactError, match="t is damaged or no safetensors file"):
        read_tensors(tmp_path / "t")


PARTS = st.lists(st.one_of(st.text("ab 1", max_size=3), st.binary(max_size=2)), max_size=4)


@given(PARTS, PARTS)
def test_parts_never_run_together(parts: list[str | bytes], other: list[str | bytes]) -> None:
    assert content_hash(*parts) == content_hash(*parts)
    assert (content_hash(*parts) == content_hash(*other)) == (parts == other)


def test_an_arrays_kind_and_shape_count() -> None:
    a = np.arange(6, dtype=np.int32)
    variants = [a, a.astype(np.int64), a.reshape(2, 3), a.reshape(3, 2), a.tobytes(), a.reshape(2, 3).T]
    assert len({content_hash(v) for v in variants}) == len(variants)
    assert content_hash(a.reshape(2, 3).T) == content_hash(np.ascontiguousarray(a.reshape(2, 3).T))
    assert content_hash("ab", "c") != content_hash("a", "bc") != content_hash("abc")
    assert content_hash("a") != content_hash(b"a")


def test_a_files_hash_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert file_hash(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_versions_name_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions()["torch"] == artifacts.metadata.version("torch")

    def missing(name: str) -> str:
        raise artifacts.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(artifacts.metadata, "version", missing)
    assert set(versions().values()) == {"not installed"}

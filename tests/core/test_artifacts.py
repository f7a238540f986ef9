"""Files and folders: whole or not at all, readable by whom the user allows, hashed without running together."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from allmrec.core import artifacts
from allmrec.core.artifacts import (
    atomic_directory,
    atomic_write,
    read_json,
    read_tensors,
    recover,
    space_checked,
    sweep,
    versions,
    write_json,
    write_tensors,
)
from allmrec.core.errors import ArtifactError, NoSpaceError
from allmrec.core.hashing import content_hash, file_hash


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


class Killed(BaseException):
    """Nothing behind this is run, as with `kill -9`."""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_between_the_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("old")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "new").write_text("new")
    calls, rename = [0], os.replace

    def replace(source: Path, target: Path) -> None:
        if calls[0] == renames:
            raise Killed
        calls[0] += 1
        rename(source, target)

    monkeypatch.setattr(artifacts.os, "replace", replace)
    if renames == 2:
        monkeypatch.setattr(artifacts.shutil, "rmtree", lambda path, **_: replace(path, path))
    monkeypatch.setattr(artifacts, "recover", lambda path: None)  # a killed process recovers nothing
    with pytest.raises(Killed):
        artifacts._replace(tmp_path / "run", tmp_path / "new")
    monkeypatch.undo()
    assert (tmp_path / "run").exists() == (renames != 1)

    recover(tmp_path / "run")
    assert os.listdir(tmp_path / "run") == (["new"] if renames == 2 else ["old"])
    assert not (tmp_path / ".run.retired").exists()
    # What comes next works as ever.
    with atomic_directory(tmp_path / "run") as folder:
        (folder / "newer").write_text("newer")
    assert os.listdir(tmp_path / "run") == ["newer"]


def test_content_reaches_the_disk_before_its_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut between the two must not leave an empty file under the final name."""
    done: list[str] = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(
        artifacts.os,
        "fsync",
        lambda handle: (done.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))), fsync(handle)),
    )
    monkeypatch.setattr(artifacts.os, "replace", lambda a, b: (done.append(f"rename to {Path(b).name}"), rename(a, b)))
    atomic_write(tmp_path / "f", b"bytes")
    assert [done[0][:3], done[0][-4:], *done[1:]] == [".f.", ".tmp", "rename to f", tmp_path.name]
    done.clear()
    with atomic_directory(tmp_path / "d") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_bytes(b"a")
    assert done == [folder.name, "a", "deep", "rename to d", tmp_path.name] or done == [
        folder.name, "deep", "a", "rename to d", tmp_path.name,
    ]  # fmt: skip


def test_sweeping_takes_what_was_half_written_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.b.json.12.tmp", ".c.xy_z.tmp", "c.tmp", ".hidden", "a.b.json"):
        (tmp_path / name).touch()
    (tmp_path / ".c.folder.tmp").mkdir()
    (tmp_path / ".c.folder.tmp" / "x").touch()
    sweep(tmp_path, ["nothing"])
    sweep(tmp_path, ["c"], older_than=60)
    assert len(os.listdir(tmp_path)) == 6
    sweep(tmp_path, ["c"])
    assert sorted(os.listdir(tmp_path)) == [".a.b.json.12.tmp", ".hidden", "a.b.json", "c.tmp"]
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "a.b.json", "c.tmp"]
    # What safetensors leaves when it is killed: whose it is cannot be told.
    (tmp_path / ".tmpIRtCfm").touch()
    sweep(tmp_path, ["c"])
    assert (tmp_path / ".tmpIRtCfm").exists()
    sweep(tmp_path)
    assert not (tmp_path / ".tmpIRtCfm").exists()
    sweep(tmp_path / "gone")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_the_errors_of_a_full_disk_say_what_to_do(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError) as raised, space_checked(tmp_path / "file", 3_000_000):
        raise error
    assert str(raised.value).startswith(f"{tmp_path / 'file'} could not be written: no space is left (")
    assert "3.0 MB" in str(raised.value)
    assert "Free some space, then run the same command again" in str(raised.value)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), SafetensorError("x (os error 13)")])
def test_other_errors_pass(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, space_checked(tmp_path):
        raise error
    assert raised.value is error


def test_a_full_disk_inside_a_folder_is_told_by_the_folders_final_name(tmp_path: Path) -> None:
    with (
        pytest.raises(NoSpaceError) as raised,
        atomic_directory(tmp_path / "run") as folder,
        space_checked(folder / "weights"),
    ):
        raise OSError(errno.ENOSPC, "full")
    assert raised.value.path == tmp_path / "run" / "weights"
    assert os.listdir(tmp_path) == []


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

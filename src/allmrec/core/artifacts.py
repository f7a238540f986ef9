"""Files and folders on disk: written whole or not at all, checked on reading.

What is being written has a temporary name, `.NAME.XXXX.tmp`, until it is whole and on the disk itself; then it is renamed.
A process that is killed leaves such a name behind. A folder's is removed by the next `atomic_directory` of the same output, a
file's by `sweep`. While a folder takes another's place, the other is called `.NAME.retired` for a moment; `recover` brings it
back if the process was killed just then.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from allmrec.core.errors import ArtifactError, NoSpaceError
from allmrec.core.temporary import LOCK_SUFFIX, is_held, remove_abandoned, remove_lock, temporary_folder

__all__ = [
    "atomic_directory",
    "atomic_write",
    "read_json",
    "read_tensors",
    "recover",
    "space_checked",
    "sweep",
    "versions",
    "write_dense_json",
    "write_json",
    "write_tensors",
]


_LINE = 140

# No room on the device, none within the user's quota, larger than a file may be.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_directory(path: Path | str) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of `path` when the block ends without an error.

    What killed processes left of the same output is removed first; what another process is filling for it now is not.

    Raises:
        NoSpaceError: the disk is full; what stood at `path` is untouched.
    """
    path = Path(path)
    recover(path)
    remove_abandoned(path)
    with space_checked(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path) as temporary:
            yield temporary
            for folder, _, files in os.walk(temporary):
                for name in files:
                    _to_disk(Path(folder, name))
                _to_disk(Path(folder))
            temporary.chmod(0o777 & ~_umask())  # it was a private folder
            _replace(path, temporary)
        _to_disk(path.parent)


def _replace(path: Path, new: Path) -> None:
    """Put `new` in the place of `path`; should that fail, what was there comes back."""
    if not os.path.lexists(path):
        os.replace(new, path)
        return
    retired = _retired(path)
    try:
        os.replace(path, retired)
        os.replace(new, path)
    except BaseException:  # Ctrl-C may come between the two renames
        recover(path)
        raise
    with suppress(OSError):
        _remove(retired)


def _remove(path: Path) -> None:
    """Remove a file or a folder; of a link the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def recover(path: Path | str) -> None:
    """Bring back a folder whose replacement was cut off between its two renames; remove it if the new one is there."""
    path = Path(path)
    retired = _retired(path)
    if not os.path.lexists(retired):
        return
    if os.path.lexists(path):
        _remove(retired)
    else:
        os.replace(retired, path)


def _retired(path: Path) -> Path:
    return path.with_name(f".{path.name}.retired")


def sweep(folder: Path | str, names: Collection[str] | None = None, older_than: float = 0.0) -> None:
    """Remove what killed processes left half written in a folder. A folder that `atomic_directory` is filling stays.

    Args:
        folder: where they wrote; need not exist.
        names: files, and folders of older versions, that nobody else is writing at present; none: whatever stands there.
        older_than: seconds since the last change; for names that somebody else may be writing.
    """
    folder = Path(folder)
    # safetensors writes to a temporary name of its own first.
    for entry in (*folder.glob(".*.tmp"), *folder.glob(".tmp??????")):
        if entry.name.endswith(LOCK_SUFFIX):
            continue  # goes with its folder
        name = entry.name[1:].removesuffix(".tmp").rpartition(".")[0]
        with suppress(FileNotFoundError):  # another process sweeps too
            old = time.time() - entry.lstat().st_mtime >= older_than
            if (names is None or name in names) and old and not is_held(entry):
                _remove(entry)
                remove_lock(entry)


@contextmanager
def space_checked(path: Path | str, needed: int | None = None) -> Iterator[None]:
    """Turn the errors of a full disk, whoever raises them, into one that says what to do.

    Args:
        path: what is being written, for the message.
        needed: its bytes, where that is known.

    Raises:
        NoSpaceError: the disk, the quota or the limit on a file's size is exhausted.
    """
    path = Path(path)
    try:
        yield
    except NoSpaceError as error:
        # A part of this, which still had its temporary name.
        inner = [part for part in error.path.parts if part.startswith(f".{path.name}.") and part.endswith(".tmp")]
        if not inner:
            raise
        rest = error.path.parts[error.path.parts.index(inner[0]) + 1 :]
        raise NoSpaceError(path.joinpath(*rest), error.reason) from error
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else _number_in(str(error))
        if number not in _NO_SPACE:
            raise
        raise NoSpaceError(path, _space(number, path, needed)) from error


def _number_in(message: str) -> int | None:
    """The system's error number in a message of a library that keeps it nowhere else."""
    found = re.search(r"\(os error (\d+)\)", message)
    return None if found is None else int(found[1])


def _space(number: int, path: Path, needed: int | None) -> str:
    """What was needed and what there is, in words."""
    if number == errno.EFBIG:
        reason = "it is larger than a file may be here (see `ulimit -f`)"
        return reason if needed is None else f"{reason}: about {_size(needed)}"
    place = next((folder for folder in path.parents if folder.is_dir()), Path())
    free = shutil.disk_usage(place).free
    there = f"{_size(free)} are free in {place}"
    if number == errno.EDQUOT:
        there += ", but the quota is used up"
    return there if needed is None else f"about {_size(needed)} are needed, and {there}"


def _size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def _to_disk(path: Path) -> None:
    """Make sure that a power cut leaves a file or folder as it is now; renaming alone may outrun the content."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems know no such thing for a folder.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    """What the user's umask takes away: a result is as readable as anything else that the user writes."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


@contextmanager
def _atomic_file(path: Path, needed: int) -> Iterator[Path]:
    """Give a temporary name to write to; the file takes the place of `path` when the block ends without an error."""
    with space_checked(path, needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name that is new and nobody's: what somebody put there, a link say, is not written to.
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp and safetensors make a private file
            _to_disk(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _to_disk(path.parent)


def atomic_write(path: Path | str, content: str | bytes) -> None:
    """Write a file under a temporary name, then rename it into place.

    Raises:
        NoSpaceError: the disk is full; what stood at `path` is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    with _atomic_file(Path(path), len(data)) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write a mapping as readable JSON, whole or not at all."""
    atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_dense_json(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all: as many values a line as fit, and never a break within a list of numbers."""
    atomic_write(path, _dense(value) + "\n")


def _dense(value: Any, depth: int = 0) -> str:
    whole = json.dumps(value, ensure_ascii=False)
    if len(whole) + depth <= _LINE or not isinstance(value, Mapping | list | tuple):
        return whole
    if isinstance(value, Mapping):
        parts = [
            f"{json.dumps(str(name), ensure_ascii=False)}: {_dense(part, depth + 1)}" for name, part in value.items()
        ]
        begin, end = "{", "}"
    elif all(isinstance(part, int | float | None) for part in value):
        return whole
    else:
        parts, (begin, end) = [_dense(part, depth + 1) for part in value], "[]"
    space = " " * (depth + 1)
    lines, line = [], ""
    for part in parts:
        if line and ("\n" in line or "\n" in part or len(space) + len(line) + len(part) + 2 > _LINE):
            lines.append(line)
            line = ""
        line = f"{line}, {part}" if line else part
    return begin + "\n" + space + f",\n{space}".join([*lines, line]) + "\n" + " " * depth + end


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ArtifactError: the file is missing, is not JSON, or is not an object.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ArtifactError(f"{path} is no file; expected JSON written by allmrec. Remove it, or restore the file.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; expected a JSON file written by allmrec.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read as JSON ({error}); write it again or restore it.") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} holds a {type(value).__name__}; expected a JSON object written by allmrec.")
    return value


def write_tensors(path: Path | str, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all; shared storage is written once per name.

    Raises:
        NoSpaceError: the disk is full; what stood at `path` is untouched.
    """
    with _atomic_file(Path(path), sum(t.numel() * t.element_size() for t in tensors.values())) as temporary:
        save_file(
            {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, temporary, dict(about or {})
        )


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; expected a safetensors file written by allmrec.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged or no safetensors file ({error}); train that stage again.") from error


def versions() -> dict[str, str]:
    """Versions of what decides a result: allmrec itself, torch, transformers and their like."""
    found = {}
    for package in ("allmrec", "torch", "transformers", "sentence-transformers", "numpy", "safetensors"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found

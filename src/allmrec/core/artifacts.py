"""Files and folders on disk: written whole or not at all, hashed, checked on reading; knows no model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from allmrec.core.errors import ArtifactError

__all__ = [
    "atomic_directory",
    "atomic_write",
    "content_hash",
    "file_hash",
    "read_json",
    "read_tensors",
    "versions",
    "write_json",
    "write_tensors",
]


@contextmanager
def atomic_directory(path: Path | str) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp makes a private folder
        _replace(path, temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _replace(path: Path, new: Path) -> None:
    """Put `new` in the place of `path`; should that fail, what was there comes back."""
    if not path.exists():
        os.replace(new, path)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        os.replace(path, retired / path.name)
        os.replace(new, path)
    except BaseException:
        if (retired / path.name).exists() and not path.exists():
            os.replace(retired / path.name, path)
        shutil.rmtree(retired, ignore_errors=True)
        raise
    shutil.rmtree(retired)


def _umask() -> int:
    """What the user's umask takes away: a result is as readable as anything else that the user writes."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def atomic_write(path: Path | str, content: str | bytes) -> None:
    """Write a file under a temporary name, then rename it into place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write a mapping as readable JSON, whole or not at all."""
    atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ArtifactError: the file is missing, is not JSON, or is not an object.
    """
    path = Path(path)
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
    """Write tensors as safetensors, whole or not at all; shared storage is written once per name."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(
            {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, temporary, dict(about or {})
        )
        temporary.chmod(0o666 & ~_umask())  # safetensors makes a private file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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


def content_hash(*parts: bytes | str | np.ndarray) -> str:
    """SHA-256, in hex, over parts in order. Each part's kind, shape and length count, so parts cannot run together."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            data = np.ascontiguousarray(part).tobytes()
            head = f"array {part.dtype.str} {part.shape} "
        else:
            data = part.encode() if isinstance(part, str) else part
            head = f"{type(part).__name__} {len(data)} "
        digest.update(head.encode())
        digest.update(data)
    return digest.hexdigest()


def file_hash(path: Path | str) -> str:
    """SHA-256, in hex, of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of what decides a result: allmrec itself, torch, transformers and their like."""
    found = {}
    for package in ("allmrec", "torch", "transformers", "sentence-transformers", "numpy", "safetensors"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found

"""Small arrays by name in one compressed file that numpy reads, too."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from allmrec.core.artifacts import atomic_write

__all__ = ["read_arrays", "write_arrays"]

# What a damaged archive, or a damaged array in a whole one, raises.
_DAMAGE = (KeyError, TypeError, ValueError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # fmt: skip


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays, whole or not at all. The same arrays give the same bytes.

    Args:
        path: the file, .npz. Its parts are compressed by LZMA, which takes a tenth less than deflate of ranks.
        arrays: by name, of any shape.

    Raises:
        ValueError: an array holds objects, which would have to be pickled.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for name, values in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asanyarray(values), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue(), zipfile.ZIP_LZMA)
    atomic_write(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `write_arrays` or `numpy.savez_compressed` wrote.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no such file, or a byte of it is another.
    """
    buffer = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(buffer) as archive:
            # numpy reads what an array is before the sum of its bytes is known.
            if (wrong := archive.testzip()) is not None:
                raise ValueError(f"the sum of {wrong}'s bytes is another")
        buffer.seek(0)
        with np.load(buffer, allow_pickle=False) as stored:
            return dict(stored)
    except _DAMAGE as error:
        raise ValueError(str(error) or type(error).__name__) from error

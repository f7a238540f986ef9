"""Arrays come back as they were written, numpy reads them, and a damaged byte is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from allmrec.core.arrays import read_arrays, write_arrays

_ARRAYS = {"ranks": np.array([[1, -1], [20, 3]], np.int8), "about": np.array('{"é": 1}'), "none": np.zeros((0, 2))}


def _equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return list(found) == list(expected) and all(
        found[name].dtype == values.dtype and np.array_equal(found[name], values) for name, values in expected.items()
    )


@given(hnp.arrays(st.sampled_from([np.int8, np.int16, np.uint8, np.bool_]), hnp.array_shapes(min_dims=0, min_side=0)))
def test_arrays_come_back(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("arrays") / "some.npz"
    write_arrays(path, values=values, **_ARRAYS)
    assert _equal(read_arrays(path), {"values": values} | _ARRAYS)


def test_numpy_reads_it_and_it_reads_numpys(tmp_path: Path) -> None:
    write_arrays(tmp_path / "ours.npz", **_ARRAYS)
    with np.load(tmp_path / "ours.npz") as stored:
        assert _equal(dict(stored), _ARRAYS)
    np.savez_compressed(tmp_path / "theirs.npz", **_ARRAYS)  # type: ignore[arg-type]  # a name may be that of numpy's flag
    assert _equal(read_arrays(tmp_path / "theirs.npz"), _ARRAYS)


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_arrays(tmp_path / name, **_ARRAYS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_no_damaged_byte_gives_other_arrays(tmp_path: Path) -> None:
    """Every byte in turn, and every length. Some, such as a part's date, change nothing that is read; others lose a part."""
    path = tmp_path / "some.npz"
    write_arrays(path, **_ARRAYS)
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        for damaged in (whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :], whole[:place]):
            path.write_bytes(damaged)
            try:
                found = read_arrays(path)
                assert _equal(found, {name: _ARRAYS[name] for name in found})
            except ValueError:
                refused += 1
    assert refused > len(whole)


def test_what_would_be_pickled_is_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path / "ours.npz", values=np.array([{}], dtype=object))
    assert not (tmp_path / "ours.npz").exists()
    np.savez(tmp_path / "theirs.npz", values=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(tmp_path / "theirs.npz")


def test_a_missing_file_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")

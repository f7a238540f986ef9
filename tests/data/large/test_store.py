"""Rows that come part by part are kept as they are in memory."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmrec.data.files.parts import InMemory, Part
from allmrec.data.large.clean import _PLAIN_ID, _all_usual
from allmrec.data.large.store import Store

pytest.importorskip("duckdb")

_WANTED = {"user": "id", "item": "id", "rating": "number", "time": "time"}
_KINDS = {
    "id": st.just((pa.large_string(), st.text("abc1", min_size=1))),
    "number": st.sampled_from(
        [
            (pa.int64(), st.integers(-(2**40), 2**40)),
            (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
            (pa.large_string(), st.sampled_from(["1", "2.5", "x"])),
        ]
    ),
}
_KINDS["time"] = _KINDS["number"]


@st.composite
def _parts(draw: st.DrawFn) -> list[tuple[int, dict[str, pa.Array]]]:
    """Rows and columns of parts whose columns are missing, empty, or of a kind of their own."""
    parts = []
    for _ in range(draw(st.integers(1, 5))):
        n, arrays = draw(st.integers(1, 4)), {}
        for name, role in _WANTED.items():
            kind, values = draw(_KINDS[role])
            if draw(st.booleans()) or draw(st.booleans()):
                filled = draw(st.lists(st.none() | values, min_size=n, max_size=n))
                arrays[name] = pa.nulls(n) if set(filled) == {None} else pa.array(filled, kind)
        parts.append((n, arrays))
    return parts


@settings(max_examples=60, deadline=None)
@given(parts=_parts())
def test_parts_of_any_kinds_are_kept_as_in_memory(
    parts: list[tuple[int, dict[str, pa.Array]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(Path(tmp_path_factory.mktemp("store")), 1 << 28, 1)
    try:
        plain, stored = InMemory(_WANTED), store.collect(_WANTED)
        for collector in (plain, stored):
            line = 1
            for n, arrays in parts:
                collector.add(Part(arrays, range(line, line + n)))
                line += n
        expected, found = plain.columns(list(_WANTED)), stored.columns(list(_WANTED))
        assert list(found) == list(expected)
        for name, column in expected.items():
            column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            one = found[name].dictionary_decode() if pa.types.is_dictionary(found[name].type) else found[name]
            assert one.to_pylist() == column.to_pylist()
            assert one.type == column.type
        assert list(stored.lines()) == list(plain.lines())
    finally:
        store.close()


def test_columns_that_no_part_has_take_no_memory(tmp_path: Path) -> None:
    store = Store(tmp_path, 1 << 28, 1)
    try:
        collector = store.collect(_WANTED)
        ids = pa.array(["a", "b"], pa.large_string())
        collector.add(Part({"user": ids, "item": ids, "rating": pa.array([1.0, 2.0])}, range(1, 3)))
        columns = collector.columns(list(_WANTED))
        assert [name for name, *_ in store.sql.execute("DESCRIBE log").fetchall()] == ["c0", "c1", "f2"]
        assert columns["time"].null_count == 2
    finally:
        store.close()


@given(st.from_regex(_PLAIN_ID, fullmatch=True))
def test_what_is_taken_for_a_plain_id_is_one(name: str) -> None:
    assert _all_usual(pa.array([name], pa.large_string()))

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allmrec.core.errors import DataError
from allmrec.data.files import Problems, lines
from allmrec.data.files.lines import line_blocks, read_ahead, spans


@given(
    content=st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"bc", b" ", b"\xff", b"\0"])).map(b"".join),
    size=st.integers(1, 9),
    zipped=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_hold_what_a_plain_split_finds(tmp_path: Path, content: bytes, size: int, zipped: bool) -> None:
    file = tmp_path / "file"
    file.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    expected = [(number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
    for blocks in (line_blocks(file, Problems(), size), read_ahead(line_blocks(file, Problems(), size))):
        found = list(blocks)
        assert [line for block in found for line in block.lines()] == expected
        assert all(block.data.endswith(b"\n") for block in found)
        assert all(block.data.count(b"\n") == len(block.line_ends) for block in found)


@given(
    content=st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"bc", b" ", b"\xff", b"x" * 30])).map(b"".join),
    size=st.integers(1, 40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spans_hold_each_line_once(tmp_path: Path, content: bytes, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    limit, found, bad, before = 50, [], [], 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lines, "LONGEST_LINE", limit)
        for span in spans(file, None, size) or ():
            block, cut = span.block()
            found += [(before + number, line) for number, line in block.lines()]
            bad += [before + block.n_lines + 1] * cut
            before += block.n_lines + cut
    whole = list(enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1))
    assert found == [(number, line) for number, line in whole if line.strip() and len(line) <= limit]
    assert bad == [number for number, line in whole if len(line) > limit]


def test_what_is_packed_or_in_another_encoding_has_no_spans(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(gzip.compress(b"a\n"))
    assert spans(file, None) is None
    file.write_bytes("a\nb\n".encode("utf-16"))
    assert spans(file, None) is None
    file.write_bytes(b"\xe9\n")
    assert spans(file, "latin-1") is None
    assert [span.block()[0].data for span in spans(file, "utf-8") or ()] == [b"\xe9\n"]
    with pytest.raises(DataError, match="missing"):
        spans(tmp_path / "missing", None)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    (block,) = line_blocks(tmp_path / "file", Problems())
    assert list(block.lines()) == [(1, b"a"), (2, b"\xef\xbb\xbfb")]


@pytest.mark.parametrize("size", [4, 64, 4096])
def test_a_line_without_end_is_left_out_and_the_others_keep_their_numbers(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    file = tmp_path / "file"
    file.write_bytes(b"a\n" + b"x" * 9000 + b"\nb\nc\n" + b"y" * 9000)
    problems = Problems("skip")
    found = [line for block in line_blocks(file, problems, size) for line in block.lines()]
    assert found == [(1, b"a"), (3, b"b"), (4, b"c")]
    assert problems.skipped == {"file: line too long": 2}
    with pytest.raises(DataError, match="file:2: found a line of more than"):
        list(line_blocks(file, Problems(), size))

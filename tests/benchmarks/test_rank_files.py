"""Ranks of a table come back as they were written, and a file of another protocol is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.rank_files import MISS, NOT_ASKED, Asked, as_ranks, asked_in, kept, placed, read_ranks, write_ranks
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import ArtifactError, DataError
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import draw_protocol
from allmrec.testing.worlds import taste_world

ASKED = Asked("0f" * 32, "test", seed=3, users=4, candidates=20)
FIRST, SECOND = np.array([1, MISS, 20, 3], np.int16), np.array([NOT_ASKED, 2, 1, MISS], np.int16)


@given(st.lists(st.none() | st.integers(1, 32_767), min_size=1))
def test_ranks_are_stored_without_loss(ranks: list[int | None]) -> None:
    assert as_ranks(kept(ranks)).tolist() == [np.inf if rank is None else rank for rank in ranks]


@pytest.mark.parametrize("rank", [0, -1, 32_768, -np.inf, np.nan])
def test_what_is_no_rank_is_refused(rank: float) -> None:
    with pytest.raises(DataError, match="A rank is"):
        kept([1, rank])


@pytest.mark.parametrize("largest", [20, 127, 128, 32_767])
def test_a_file_gives_back_every_system(tmp_path: Path, largest: int) -> None:
    """Those of a whole catalogue need 16 bits, and those of 20 candidates do not."""
    written = {"SASRec": FIRST, "A-LLMRec · é": np.where(SECOND == 2, np.int16(largest), SECOND)}
    write_ranks(tmp_path / "table.npz", ASKED, written)
    found = read_ranks(tmp_path / "table.npz", ASKED)
    assert list(found) == list(written)
    for name, row in written.items():
        assert found[name].dtype == np.int16
        assert found[name].tolist() == row.tolist()
    assert asked_in(tmp_path / "table.npz") == ASKED


@pytest.mark.parametrize(
    "other", [{"hash": "ab" * 32}, {"part": "validation"}, {"seed": 4}, {"users": 5}, {"candidates": 10}]
)
def test_ranks_of_another_protocol_are_refused(tmp_path: Path, other: dict[str, object]) -> None:
    write_ranks(tmp_path / "table.npz", ASKED, {"SASRec": FIRST})
    with pytest.raises(ArtifactError, match=f"another protocol .{next(iter(other))} "):
        read_ranks(tmp_path / "table.npz", replace(ASKED, **other))  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize("row", [FIRST[:3], np.append(FIRST, FIRST[:1])])
def test_rows_of_other_users_are_not_written(tmp_path: Path, row: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected int16 of 4 users"):
        write_ranks(tmp_path / "table.npz", ASKED, {"SASRec": row})
    assert not (tmp_path / "table.npz").exists()


def test_what_holds_no_ranks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    with pytest.raises(ArtifactError, match="does not exist"):
        asked_in(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ArtifactError, match="holds no ranks"):
        asked_in(path)
    np.savez(path, ranks=np.zeros((2, 2), np.int16))
    with pytest.raises(ArtifactError, match="holds no ranks"):
        asked_in(path)
    write_ranks(path, ASKED, {"SASRec": FIRST})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="holds no ranks"):
        asked_in(path)


def test_ranks_of_some_users_stand_in_the_protocols_order() -> None:
    protocol = draw_protocol(leave_one_out(taste_world(users=9, tastes=3)), n_candidates=4)
    users = protocol.users.tolist()
    row = placed(protocol, [users[5], users[2]], [3, None])
    assert row.tolist() == [0, 0, MISS, 0, 0, 3, 0, 0, 0]
    with pytest.raises(DataError, match="7 of 9"):
        as_ranks(row)
    with pytest.raises(DataError, match="User 99"):
        placed(protocol, [users[0], 99], [1, 1])
    assert Asked.of(protocol) == Asked(protocol.hash, "test", protocol.seed, 9, 4)

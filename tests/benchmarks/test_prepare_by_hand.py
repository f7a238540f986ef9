"""What pandas, polars and a loop make of reviews by hand is the data set that the library prepares."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from benchmarks.prepare_by_hand import BY_HAND, MEASURED, require
from benchmarks.prepare_speed import loop, ours, write_reviews

from allmrec.core.errors import ConfigError
from benchmarks import prepare_by_hand


@pytest.mark.parametrize("side", BY_HAND)
def test_by_hand_as_by_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    pytest.importorskip(side, reason=f"needs: pip install {side}=={MEASURED[side]}")
    monkeypatch.setattr(prepare_by_hand, "_AT_ONCE", 1 << 16)
    write_reviews(tmp_path / "reviews.json", 3000)
    expected = ours(tmp_path / "reviews.json")
    assert 100 < expected.n_interactions < 3000
    assert BY_HAND[side](tmp_path / "reviews.json", 5).dataset().content_hash == expected.content_hash
    assert loop(tmp_path / "reviews.json").content_hash == expected.content_hash


def test_a_side_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(prepare_by_hand, "version", missing)
    with pytest.raises(ConfigError, match=f"pip install polars=={MEASURED['polars']}"):
        require("polars")

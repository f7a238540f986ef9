"""Bootstrap intervals: against a plain bootstrap, against the normal approximation, and where they are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.core.errors import DataError
from allmrec.evaluation.intervals import Estimate, bootstrap_mean, paired_difference


def plain_bootstrap(values: np.ndarray, rng: np.random.Generator, resamples: int) -> tuple[float, float]:
    """As the textbook has it: draw users with replacement, average, again and again."""
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def test_agrees_with_a_plain_bootstrap() -> None:
    values = np.random.default_rng(1).choice([0.0, 0.25, 0.5, 1.0], size=200, p=[0.4, 0.3, 0.2, 0.1])
    estimate = bootstrap_mean(values, np.random.default_rng(2), resamples=20_000)
    low, high = plain_bootstrap(values, np.random.default_rng(3), resamples=20_000)
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.003)


def test_width_is_that_of_the_normal_approximation() -> None:
    # 160 hits among 400: the standard error is sqrt(0.4 * 0.6 / 400) = 0.0245, so the interval is 0.4 +- 0.048.
    values = np.repeat([1.0, 0.0], [160, 240])
    estimate = bootstrap_mean(values, np.random.default_rng(0), resamples=20_000)
    assert estimate.low == pytest.approx(0.352, abs=0.004)
    assert estimate.high == pytest.approx(0.448, abs=0.004)


def test_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(400):
        estimate = bootstrap_mean((rng.random(100) < 0.3).astype(np.float64), rng, resamples=500)
        covered += estimate.low <= 0.3 <= estimate.high
    assert 0.91 <= covered / 400 <= 0.98


def test_pairs_shrink_the_interval_and_show_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(5)
    reference = (rng.random(300) < 0.5).astype(np.float64)
    # The same system, but for 12 users whom it serves better.
    better = reference.copy()
    better[np.flatnonzero(reference == 0)[:12]] = 1.0
    a, b = (bootstrap_mean(values, np.random.default_rng(6)) for values in (better, reference))
    difference = paired_difference(better, reference, np.random.default_rng(6))
    assert a.low < b.high, "the two intervals overlap"
    assert difference.value == pytest.approx(12 / 300)
    assert not difference.includes_zero


def test_a_system_against_itself_is_exactly_zero() -> None:
    values = np.array([0.0, 1.0, 1.0])
    assert paired_difference(values, values, np.random.default_rng(0)) == Estimate(0.0, 0.0, 0.0)


def test_includes_zero() -> None:
    assert Estimate(0.1, -0.1, 0.3).includes_zero
    assert Estimate(0.1, 0.0, 0.2).includes_zero
    assert not Estimate(0.1, 0.01, 0.2).includes_zero
    assert not Estimate(-0.1, -0.2, -0.01).includes_zero


def test_nobody_has_no_mean() -> None:
    with pytest.raises(DataError, match="no users"):
        bootstrap_mean(np.zeros(0), np.random.default_rng(0))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 2**32))
def test_interval_lies_within_the_values_and_repeats_with_its_seed(values: list[float], seed: int) -> None:
    array = np.array(values)
    estimate = bootstrap_mean(array, np.random.default_rng(seed), resamples=50)
    assert array.min() - 1e-9 <= estimate.low <= estimate.high <= array.max() + 1e-9
    assert estimate == bootstrap_mean(array, np.random.default_rng(seed), resamples=50)

"""Late fusion: its features, what it learns where one part is right, what the language model adds to it, save and load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Int

from allmrec.baselines.fusion import FusionConfig, LateFusion, LateFusionLLM, _features
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ArtifactError, ConfigError, DataError
from allmrec.data import InteractionDataset, Split, leave_one_out
from allmrec.evaluation import Pair, PairedDifference, draw_protocol, evaluate_rankers
from allmrec.ranking import Query, Ranker, Ranking, ranking_from_scores
from allmrec.testing.worlds import taste_world


class Told:
    """Scores by a function of user and item."""

    def __init__(self, score: Callable[[int, int], float], name: str = "told") -> None:
        self._score, self.name = score, name
        self.asked: list[tuple[int, list[int]]] = []

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        self.asked += [(query.user, items.tolist()) for query, items in zip(queries, candidates, strict=True)]
        return [
            ranking_from_scores(items, np.array([self._score(query.user, int(i)) for i in items]))
            for query, items in zip(queries, candidates, strict=True)
        ]


def noise(user: int, item: int) -> float:
    return float(np.random.default_rng([user, item]).normal())


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(taste_world(users=150))


def right_half_of_the_time(split: Split) -> Told:
    """For users of even number it knows what they take, validation and test alike; for the others nothing."""
    own = [set(split.dataset.sequence(user).tolist()) for user in range(split.dataset.n_users)]
    return Told(lambda user, item: 5.0 * (item in own[user] and user % 2 == 0) + noise(user, item + 10_000))


def test_features_are_those_of_the_docstring() -> None:
    counts = np.array([0, 9, 0, 99])
    part = Told(lambda user, item: float(10 * item), "part")
    (rows,) = _features({"part": part}, counts, [Query(np.array([1]))], [np.array([3, 1, 2])])
    score = np.array([1.0, -1.0, 0.0]) / np.sqrt(2 / 3)
    popularity = np.log([100.0, 10.0, 1.0])
    popularity = (popularity - popularity.mean()) / popularity.std()
    cold = np.array([0.01, 0.1, 1.0])
    expected = [score, popularity, (cold - cold.mean()) / cold.std(), cold * score, cold * popularity]
    np.testing.assert_allclose(rows, np.stack(expected, axis=1), atol=1e-12)
    (flat,) = _features({"part": part}, np.array([0, 3, 3, 3]), [Query(np.array([1]))], [np.array([3])])
    assert not flat.any()


def test_it_trusts_the_part_that_knows_and_not_the_one_that_does_not(split: Split, tmp_path: Path) -> None:
    parts = {"good": right_half_of_the_time(split), "noise": Told(noise, "noise")}
    fusion = LateFusion.fit(parts, split, seed=0)
    assert isinstance(fusion, Ranker)
    assert fusion.weights["good"] > 5 * abs(fusion.weights["noise"])
    assert list(fusion.weights)[:4] == ["good", "noise", "popularity", "inverse popularity"]
    protocol = draw_protocol(split, n_candidates=5)
    fused, noisy = evaluate_rankers([fusion, parts["noise"]], protocol, split, reference=fusion.name).systems
    assert np.mean(np.asarray(fused.ranks) == 1) > np.mean(np.asarray(noisy.ranks) == 1) + 0.2
    write_tensors(tmp_path / "fusion.safetensors", fusion.tensors())
    again = LateFusion.from_tensors(read_tensors(tmp_path / "fusion.safetensors"), parts)
    assert np.array_equal(
        evaluate_rankers([again], protocol, split, reference=fusion.name).systems[0].ranks, fused.ranks
    )


def test_one_part_alone_gains_from_what_another_knows() -> None:
    """Two parts, each right about other users: together they are right about more than either."""
    split = leave_one_out(taste_world(users=150))
    own = [set(split.dataset.sequence(user).tolist()) for user in range(split.dataset.n_users)]
    even = right_half_of_the_time(split)
    odd = Told(lambda user, item: 5.0 * (item in own[user] and user % 2 == 1) + noise(user, item + 20_000), "odd")
    fusion = LateFusion.fit({"even": even, "odd": odd}, split, seed=0)
    protocol = draw_protocol(split, n_candidates=5)
    hits = [np.mean(np.asarray(s.ranks) == 1) for s in evaluate_rankers([fusion, even, odd], protocol, split).systems]
    assert hits[0] > max(hits[1:]) + 0.1


def added(split: Split, llm: Told, config: FusionConfig | None = None) -> tuple[PairedDifference, dict[str, float]]:
    """Hit@1 of late fusion with a language model's score less late fusion, and the weights with it."""
    parts = {"CF": Told(noise, "CF"), "text": Told(lambda user, item: noise(item, user), "text")}
    plain = LateFusion.fit(parts, split, 0, config)
    fused = LateFusionLLM.fit(parts | {"LLM": llm}, split, 0, config)
    pair = Pair("What the language model adds", fused.name, plain.name)
    report = evaluate_rankers([plain, fused], draw_protocol(split), split, reference=plain.name, pairs=[pair])
    return report.pairs[0].differences[0], fused.weights


def test_what_only_the_language_model_knows_is_what_it_adds(split: Split) -> None:
    found, weights = added(split, right_half_of_the_time(split))
    assert (found.system, found.reference) == ("Late fusion with the LLM", "Late fusion")
    assert (found.metric, found.n_users) == ("Hit@1", 150)
    assert found.estimate.low > 0.2
    # Of the standardised scores; products with inverse popularity are of another scale.
    assert weights["LLM"] > 3 * max(abs(weights[name]) for name in ("CF", "text", "popularity"))


def test_a_language_model_that_knows_nothing_adds_nothing(split: Split) -> None:
    found, weights = added(split, Told(lambda user, item: noise(user + 1_000, item)))
    assert found.estimate.includes_zero
    # The penalty is small and users are few, so no weight is exactly 0.
    assert abs(weights["LLM"]) < 0.3


def test_with_the_language_model_and_without_it_is_fitted_on_the_same_users(split: Split) -> None:
    config = FusionConfig(validation_users=70, validation_negatives=4)
    cf, llm = Told(noise, "CF"), Told(noise, "LLM")
    LateFusion.fit({"CF": cf}, split, 0, config)
    alone = list(cf.asked)
    LateFusionLLM.fit({"CF": cf, "LLM": llm}, split, 0, config)
    assert len(alone) == 70
    assert cf.asked[70:] == llm.asked == alone


def test_seeds_and_test_items(split: Split) -> None:
    """The same seed gives the same weights, and who was tested on what plays no part."""
    parts = {"good": right_half_of_the_time(split)}
    config = FusionConfig(validation_users=60, validation_negatives=4)
    weights = [LateFusion.fit(parts, split, seed, config).weights for seed in (0, 0, 1)]
    assert weights[0] == weights[1] != weights[2]
    other = Split(split.dataset, split.train_end, split.prefix_end, split.validation, np.roll(split.test, 1))
    assert LateFusion.fit(parts, other, 0, config).weights == weights[0]


def test_mistakes_are_named(split: Split) -> None:
    parts = {"a": Told(noise)}
    with pytest.raises(ConfigError, match="3 weights came for 5 features"):
        LateFusion(parts, np.zeros(3, dtype=np.int64), np.zeros(3))
    with pytest.raises(ArtifactError, match="counts"):
        LateFusion.from_tensors({}, parts)
    short = leave_one_out(InteractionDataset.from_sequences({"u": ["a", "b"]}))
    with pytest.raises(DataError, match="No training user"):
        LateFusion.fit(parts, short, 0)

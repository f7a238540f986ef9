"""BM25 on titles: numbers worked out by hand, items without a title, a world that titles alone explain."""

from __future__ import annotations

import importlib.util
import math
import os

import numpy as np
import pytest

from allmrec.baselines.bm25 import BM25, BM25Config
from allmrec.core.errors import ConfigError, MissingExtraError
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import draw_protocol, evaluate_rankers
from allmrec.ranking import Query, Ranker
from allmrec.testing.worlds import THEMES, title_world

needs_bm25s = pytest.mark.skipif(
    importlib.util.find_spec("bm25s") is None and os.environ.get("CI") != "true",
    reason="needs: pip install 'allmrec[bm25]'",
)

# Three documents of 2, 3 and 2 words; item 4 is none.
TITLES = [None, "Red lamp", "Blue lamp, lamp", "Green chair", None]


def scores(made: BM25, history: list[int], items: list[int]) -> dict[int, float]:
    (ranking,) = made.rank([Query(np.array(history, dtype=np.int64))], [np.array(items)])
    return dict(zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True))


def weight(documents: int, count: int, length: int) -> float:
    """One word's part of a score with N = 3, mean length 7/3, k1 = 1.5, b = 0.75."""
    idf = math.log(1 + (3 - documents + 0.5) / (documents + 0.5))
    return idf * count / (count + 1.5 * (0.25 + 0.75 * length / (7 / 3)))


@needs_bm25s
def test_against_numbers_worked_out_by_hand() -> None:
    made = BM25(TITLES)
    assert isinstance(made, Ranker)
    # "lamp" stands in two titles, "red" in one: ln(1 + 1.5/2.5) = 0.4700, ln(1 + 2.5/1.5) = 0.9808.
    assert weight(2, 2, 3) == pytest.approx(0.4700 * 2 / (2 + 1.5 * 1.2142857), abs=1e-4)
    found = scores(made, [1], [3, 2, 1])
    assert found == pytest.approx({1: weight(1, 1, 2) + weight(2, 1, 2), 2: weight(2, 2, 3), 3: 0.0}, rel=1e-5)
    # A word that comes three times in the history counts three times.
    assert scores(made, [1, 2], [2])[2] == pytest.approx(weight(1, 1, 3) + 3 * weight(2, 2, 3), rel=1e-5)


@needs_bm25s
def test_items_without_title_and_old_items_say_nothing() -> None:
    made = BM25(TITLES, BM25Config(max_history=1))
    assert list(scores(made, [3, 1], [4, 3, 2]).items())[1:] == [(4, 0.0), (3, 0.0)]
    for history in ([], [4], [1, 4]):
        assert list(scores(made, history, [4, 3, 1]).items()) == [(4, 0.0), (3, 0.0), (1, 0.0)]
    for titles in ([None, None, None], [None, "of the", "a"]):
        assert list(scores(BM25(titles), [1], [2, 1]).items()) == [(2, 0.0), (1, 0.0)]


@needs_bm25s
def test_stop_words_can_be_kept() -> None:
    titles = [None, "the lamp", "the chair", "a door"]
    assert scores(BM25(titles), [1], [2])[2] == 0
    assert scores(BM25(titles, BM25Config(stopwords=None)), [1], [2])[2] > 0
    with pytest.raises(ConfigError, match="stopwords is 'xx'"):
        BM25(titles, BM25Config(stopwords="xx"))


@needs_bm25s
def test_titles_explain_the_title_world() -> None:
    split = leave_one_out(title_world())
    themes = [
        [title is not None and title.startswith(theme) for theme in THEMES] for title in split.dataset.catalogue.titles
    ]
    protocol = draw_protocol(split, n_candidates=5)
    alone = [
        sum(themes[i] == themes[t] for i in c) == 1 for t, c in zip(protocol.targets, protocol.candidates, strict=True)
    ]
    ranks = np.asarray(evaluate_rankers([BM25(split.dataset.catalogue.titles)], protocol, split).systems[0].ranks)
    assert sum(alone) > 50
    assert np.mean(ranks[alone] == 1) > 0.98


def test_without_the_library_the_command_to_install_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "bm25s" else find(name, *rest))
    with pytest.raises(MissingExtraError, match=r"pip install 'allmrec\[bm25\]'"):
        BM25(TITLES)

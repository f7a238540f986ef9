"""What the benchmarks of reasons compute, by hand and against what the models read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.titles_answers import kind_of, measured
from benchmarks.titles_cold import (
    CF,
    TITLES,
    WORDS,
    Lists,
    cold_figures,
    learned_from,
    places,
    scores_of,
    stored_figures,
    within,
    words_of,
)
from benchmarks.titles_tokens import alone, counted, shared
from tests.recommend.conftest import queries, ranker
from tiny_world import TinyWorld

from allmrec.evaluation import draw_protocol
from allmrec.library import Run
from allmrec.recipes.files import load_recipe
from allmrec.recommend.samples import StageTwoBatch
from allmrec.testing.tiny_lm import tiny_language_model
from allmrec.testing.worlds import taste_world

NAMES = ["Heat", "Heat and Dust", "Up in the Air"]
TITLES_OF = [[1], [1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("tokens", "text", "kind"),
    [
        ([1, 8], "heat.", "other spelling"),
        ([4, 5], "Up in", "stopped"),
        ([], "", "stopped"),
        ([1, 2, 3, 9], "Heat and Dust II", "went on"),
        ([4, 2, 3], "Up and Dust", "mixture"),
        ([4, 5, 3], "Up in Dust", "mixture"),
        ([4, 9, 3], "Up on Dust", "other"),
        ([9, 9], "no no", "other"),
    ],
)
def test_answers_that_are_no_title_by_kind(tokens: list[int], text: str, kind: str) -> None:
    assert kind_of(tokens, TITLES_OF, text, NAMES) == kind


def test_a_title_that_begins_another_goes_on_only_where_neither_is_said() -> None:
    # All of it but the end of the longer title: that one was not finished.
    assert kind_of([1, 2], TITLES_OF, "Heat and", NAMES) == "stopped"
    # One that ends as the other does is a mixture of the two before it is anything else.
    assert kind_of([4, 5, 2, 3], TITLES_OF, "Up in and Dust", NAMES) == "mixture"


def test_places_among_all_and_among_some() -> None:
    scores = np.array([[3.0, 1.0, 2.0, 1.0]] * 2)
    at = np.array([3, 1])
    # A tie keeps the list's order.
    assert places(scores, at).tolist() == [4, 3]
    assert places(scores, at, np.array([[False, True, False, True]] * 2)).tolist() == [2, 1]


def test_rank_correlations_within_some_candidates() -> None:
    scores, other = np.array([[4.0, 1.0, 2.0, 3.0]]), np.array([[0.0, 1.0, 2.0, 3.0]])
    assert within(scores, other, np.array([[False, True, True, True]]))[0] == pytest.approx(1)
    assert within(scores, other, np.ones((1, 4), dtype=bool))[0] == pytest.approx(-0.2)
    assert np.isnan(within(scores, other, np.array([[True, True, False, False]]))[0])


def test_a_score_that_is_popularity_loses_it_where_it_is_taken_out() -> None:
    """Two cold targets; one system scores by log counts and a hint, the CF model by the hint alone."""
    counts = np.array([[1, 2, 50, 90]] * 2)
    lists = Lists(np.array([0, 1]), counts, counts < 10)
    hint = np.array([[0.9, 0.0, 0.1, 0.2], [0.0, 0.9, 0.1, 0.2]])
    found = cold_figures(lists, {TITLES: np.log1p(counts) + hint, CF: hint})
    row = found["systems"][TITLES]
    assert row["Hit@1"][0] == 0
    assert found["systems"][CF]["Hit@1"][0] == 1
    assert row["first choice is cold"][0] == 0
    assert [part["Hit@1"][0] for part in row["popularity taken out"]] == [0, 0, 1]
    assert row["ahead of"]["warm"][0] == 0
    assert found["chance among cold"] == 0.5


def test_stored_ranks_say_where_each_has_cold_targets() -> None:
    cold = np.array([True, True, False, False])
    ranks = {
        "seed-0/allmrec": [9, 1, 1, 2], "seed-0/backbone": [1, 7, 1, 1], "seed-0/popularity": [20, 12, 1, 2],
        "seed-1/allmrec": [9, 5, 1, 2], "seed-1/backbone": [2, 7, 1, 1],
    }  # fmt: skip
    kept = {name: np.array(row, dtype=np.int16) for name, row in ranks.items()}
    found = stored_figures(kept, ["seed-0", "seed-1"], cold, np.array([1.0, 3.0, 2.0, 2.0]), np.array([4, 8, 4, 4]))
    assert found["systems"][TITLES]["cold Hit@1"][0] == 0.25
    assert found["systems"][TITLES]["less CF"][0] == 0
    assert found["systems"][TITLES]["cold mean rank"][0] == 6
    assert found["CF or words first"][0] == 0.5
    assert [(row["system"], row["share"]) for row in found["by rank"]] == [
        (CF, 0.25), (CF, 0.25), (CF, 0.5), (WORDS, 0.5), (WORDS, 0.5), (WORDS, 0.0),
    ]  # fmt: skip
    assert found["by rank"][-1]["Hit@1"] is None
    assert [(row["from"], row["users"], row["cold"]) for row in found["by length"]] == [(4, 3, 1), (8, 1, 1)]
    assert list(found["slots"]) == ["e and q", "none: the CF model itself"]


def test_a_run_is_asked_and_every_answer_is_counted(tmp_path: Path, tiny_world: TinyWorld) -> None:
    data = taste_world(users=24, tastes=3, items_per_taste=12, length=6)
    changes = {"tune.title_weight": 1.0, "tune.prompt.template.form": "copy", "tune.prompt.budget.title_tokens": 3,
               "held_out_targets": 0, "tune.positions": "all"}  # fmt: skip
    run = Run.create(tmp_path / "run", data, load_recipe(str(tiny_world.recipe), changes), "cpu")
    run.train(lambda text: None)
    found = measured(run, 6, examples=1)
    assert found["answers"] == 6
    assert found["invalid"] == sum(kind["answers"] for kind in found["kinds"].values())
    assert found["Hit@1"]["constrained"][0] >= found["Hit@1"]["generate"][0]
    assert 0 < found["titles that are cut"] <= 1
    protocol = draw_protocol(run.split, "test", None, 20, 0)
    scores = scores_of(run, words_of(run), protocol, np.arange(4))
    assert all(np.isfinite(one).all() and one.shape == (4, 20) for one in scores.values())
    assert Lists.of(run, protocol, np.arange(4)).counts.shape == (4, 20)
    assert learned_from(run)["most_interactions"] >= 0
    tokens = counted(run, 4)
    assert tokens["A-LLMRec, copy"]["tokens"] < tokens["A-LLMRec, copy, prompts one by one"]["tokens"]
    assert len({row["samples"] for row in tokens.values()}) == 1


@pytest.mark.parametrize("form", ["copy", "paper"])
def test_tokens_are_those_that_the_loss_reads(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ranker(tiny_language_model(), template={"form": form}, budget={"title_tokens": 4})
    lists = [np.asarray(c) for c in ([3, 1, 7, 9], [9, 2, 3, 12], [5, 6, 7, 8])]
    batch = StageTwoBatch(queries(3), lists, np.asarray([2, 0, 3]), text=False)
    read: list[int] = []
    hidden = own.lm.hidden

    def noted(embeddings, visible=None, *rest):  # type: ignore[no-untyped-def]  # stands in for a method of transformers
        read.append(embeddings.shape[0] * embeddings.shape[1])
        return hidden(embeddings, visible, *rest)

    monkeypatch.setattr(type(own.lm), "hidden", lambda self, *given: noted(*given))
    if form == "copy":
        own.losses(batch.queries, lists, batch.targets, title=True, select=False)
        assert shared(own.builder, batch) == read[0]
    else:
        for n in range(3):
            own.losses([batch.queries[n]], [lists[n]], batch.targets[[n]], title=True, select=False)
        assert alone(own.builder, batch) == sum(read)

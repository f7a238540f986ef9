"""The benchmark of genres on a tiny run: every system is asked, everything is evaluated, nobody's id is written."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.genres import EXCHANGED, OWN, measured, show
from tiny_world import TinyWorld

from allmrec.data.catalogue import Catalogue
from allmrec.library import Run
from allmrec.prompting.questions import GENRES, PROFILE, Question
from allmrec.ranking import Query
from allmrec.recipes.files import load_recipe
from allmrec.systems.registry import train_systems
from allmrec.testing.worlds import taste_world


def tiny_run(folder: Path, tiny_world: TinyWorld, categories: bool = True) -> Run:
    """Three tastes, each with a genre of its own beside the one of all."""
    data = taste_world(users=24, tastes=3, items_per_taste=12, length=6)
    if categories:
        taste = {int(item): user % 3 for user in range(data.n_users) for item in data.sequence(user)}
        genres = ((), *((("Comedy", "Drama", "War")[taste.get(n, 0)], "Film") for n in range(1, data.n_items + 1)))
        data = replace(data, catalogue=Catalogue(data.catalogue.titles, data.catalogue.descriptions, genres))
    changes = {"answer.explain.max_new_tokens": 6, "tune.title_weight": 1.0, "systems.tallrec.training.epochs": 1}
    return Run.create(folder, data, load_recipe(str(tiny_world.recipe), changes))


def test_every_system_is_asked_of_items_and_of_users(
    tmp_path: Path, tiny_world: TinyWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run(tmp_path / "run", tiny_world)
    run.train()
    names = [OWN, EXCHANGED, "LLM-Only"]
    if importlib.util.find_spec("peft") is not None:
        train_systems(run, ["tallrec"], lambda text: None)
        names.append("TALLRec")
    found = measured(run, 6, examples=2)
    assert (found["trained"], found["title_weight"]) == (True, 1.0)
    assert [list(part) for part in found["right"].values()] == [
        ["the item"],
        ["the next item", "the history's majority"],
    ]
    for comparison in (c for part in found["right"].values() for c in part.values()):
        assert comparison["answers"] == 6
        assert list(comparison["systems"]) == names
        assert list(comparison["differences"]) == names[1:]
    items, users = found["examples"]["items"], found["examples"]["users"]
    assert [list(example["said"]) for example in (*items, *users)] == [names] * 4
    # The same users' next items are the items that are spoken of.
    assert [example["title"] for example in items] == [example["next"] for example in users]
    written = json.dumps(found)
    assert not [user for user in run.dataset.users.ids if f'"{user}"' in written]
    show(json.loads(written)["right"])
    assert f"{OWN} less LLM-Only: " in capsys.readouterr().out


def test_what_is_said_is_evaluated_with_those_it_was_said_of(
    tmp_path: Path, tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run", tiny_world)
    categories, test = run.dataset.catalogue.categories, run.split.test

    def scripted(
        run: Run, asked: Any, question: Question, queries: list[Query], items: Any = None
    ) -> dict[str, list[str]]:
        """Each user's taste in the right place; exchanged, one of their titles in place of a genre."""
        next_items = [int(test[query.user]) for query in queries]
        assert items is None or items == next_items
        assert question == (GENRES if items else PROFILE)
        return {OWN: [f"{categories[item][0]}." for item in next_items], EXCHANGED: ["Item 3"] * len(queries)}

    monkeypatch.setattr("benchmarks.genres.readers", lambda run, trained: {})
    monkeypatch.setattr("benchmarks.genres.said", scripted)
    found = measured(run, 20)["right"]
    for comparison in (c for part in found.values() for c in part.values()):
        own, exchanged = comparison["systems"].values()
        # The most frequent genre is everybody's, so naming it alone is right as well.
        assert (own["precision"]["value"], own["base_rate"]["value"], own["named"]) == (1.0, 1.0, 1.0)
        assert (exchanged["precision"]["value"], exchanged["silent"]) == (0.0, 20)
        assert comparison["differences"][EXCHANGED]["low"] == 1.0


def test_data_without_categories_are_refused_before_anybody_is_asked(tmp_path: Path, tiny_world: TinyWorld) -> None:
    with pytest.raises(SystemExit, match="categories"):
        measured(tiny_run(tmp_path / "run", tiny_world, categories=False), 6)

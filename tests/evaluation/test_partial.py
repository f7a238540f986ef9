"""What an evaluation has found is on disk before it ends: a killed one goes on, and asks nobody twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from allmrec.core.errors import AllmrecWarning
from allmrec.data.splitting import Split
from allmrec.evaluation import Report, draw_protocol, evaluate_rankers
from allmrec.evaluation.partial import Found, PartialResults
from allmrec.ranking import Query, Ranking

from .conftest import Scored

SYSTEMS = ("first", "second", "third")


def kept(
    folder: Path, split: Split, made_of: str = "keys", every: float = 0.0, whole: Sequence[str] = ()
) -> PartialResults:
    return PartialResults(folder, draw_protocol(split).hash, dict.fromkeys(SYSTEMS, made_of), whole, every)


def systems(stop_after: int | None = None) -> list[Scored]:
    """Three systems; the second is stopped, as by Ctrl-C or a kill, when it was asked so often."""

    class Stopped(Scored):
        def rank(self, queries: Sequence[Query], candidates: Sequence[np.ndarray]) -> list[Ranking]:
            if len(self.asked) == stop_after:
                raise KeyboardInterrupt
            return super().rank(queries, candidates)

    score: Callable[[Query, int], float] = lambda query, item: (item * 7 + len(query.history)) % 11  # noqa: E731  # one line is read faster here
    return [
        Scored("first", score),
        Stopped("second", lambda query, item: -item),
        Scored("third", lambda query, item: item),
    ]


def evaluate(split: Split, asked: Sequence[Scored], results: PartialResults | None) -> Report:
    return evaluate_rankers(
        asked, draw_protocol(split), split, kept=results, batch_size=8, notes={"third": lambda: "seen"}
    )


def figures(report: Report) -> list[object]:
    return [replace(system, seconds=0.0) for system in report.systems]


def test_it_goes_on_where_it_was_stopped(split: Split, tmp_path: Path) -> None:
    undisturbed = evaluate(split, systems(), None)
    with pytest.raises(KeyboardInterrupt):
        evaluate(split, systems(stop_after=2), kept(tmp_path, split))
    again = systems()
    report = evaluate(split, again, kept(tmp_path, split))
    # Thirty users in batches of eight: two batches of the second were kept.
    assert [system.asked for system in again] == [[], [8, 6], [8, 8, 8, 6]]
    assert figures(report) == figures(undisturbed)
    assert report.systems[2].note == "seen"
    once_more = systems()
    assert figures(evaluate(split, once_more, kept(tmp_path, split))) == figures(undisturbed)
    assert [system.asked for system in once_more] == [[], [], []]
    kept(tmp_path, split).clear()
    assert list(tmp_path.iterdir()) == []


def test_a_kill_keeps_what_was_written_before(split: Split, tmp_path: Path) -> None:
    """Nothing runs when a process is killed: what counts is on disk behind every batch here."""
    results = kept(tmp_path, split)
    with pytest.raises(KeyboardInterrupt):
        evaluate(split, systems(stop_after=3), results)
    first = results.read("first", 30)
    assert first is not None
    assert len(first.ranks) == 30
    found = results.read("second", 30)
    assert found is not None
    assert (len(found.ranks), found.note) == (24, None)


@pytest.mark.parametrize("change", ["made of", "protocol", "whole"])
def test_what_was_made_of_something_else_is_asked_again(change: str, split: Split, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(split, systems(stop_after=2), kept(tmp_path, split))
    again = systems()
    if change == "protocol":
        other = draw_protocol(split, seed=5)
        results = PartialResults(tmp_path, other.hash, dict.fromkeys(SYSTEMS, "keys"))
        evaluate_rankers(again, other, split, kept=results, batch_size=8)
    elif change == "made of":
        evaluate(split, again, kept(tmp_path, split, made_of="other keys"))
    else:
        evaluate(split, again, kept(tmp_path, split, whole=["second"]))
    whole = [8, 8, 8, 6]
    assert [system.asked for system in again] == ([[], whole, whole] if change == "whole" else [whole] * 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value | {"ranks": [0] * 30},
        lambda value: value | {"ranks": "all"},
        lambda value: value | {"ranks": [1] * 30},
        lambda value: value | {"seconds": "long"},
        lambda value: [],
    ],
)
def test_a_damaged_file_is_named_and_its_system_asked_again(
    damage: Callable[[dict[str, object]], object], split: Split, tmp_path: Path
) -> None:
    results = kept(tmp_path, split)
    evaluate(split, systems(), results)
    path = results._path("first")
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    again = systems()
    with pytest.warns(AllmrecWarning, match=r"\.json.* first is evaluated anew"):
        evaluate(split, again, results)
    assert [system.asked for system in again] == [[8, 8, 8, 6], [], []]


def test_fewer_users_are_the_beginning_of_more(split: Split, tmp_path: Path) -> None:
    results = kept(tmp_path, split)
    results.write("first", Found(np.array([1.0, np.inf, 3.0, 2.0]), 8.0, "note"))
    fewer, same, more = (results.read("first", n) for n in (2, 4, 6))
    assert fewer is not None
    assert same is not None
    assert more is not None
    assert (fewer.ranks.tolist(), fewer.seconds, fewer.note) == ([1.0, np.inf], 4.0, None)
    assert (len(same.ranks), same.note) == (4, "note")
    assert (len(more.ranks), more.note) == (4, None)


def test_a_disk_that_takes_no_file_stops_no_evaluation(split: Split, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(AllmrecWarning, match="goes on and keeps nothing"):
        report = evaluate(split, systems(), kept(tmp_path / "file", split))
    assert len(report.systems) == 3

"""Reports: they survive the disk, and say who wins without saying too much."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from allmrec.core.errors import ArtifactError
from allmrec.evaluation.files import readable_json
from allmrec.evaluation.rendering import markdown, render, verdict
from allmrec.evaluation.report import Pair, Report, compare, compare_pairs, summarise

HASH = "abc"


def report(reference: str = "SASRec", **ranks: list[float]) -> Report:
    """A report of systems with given ranks of users 0, 1, 2 …"""
    systems = tuple(
        summarise(name, np.arange(len(r)), np.array(r, dtype=np.float64), protocol_hash=HASH, seconds=2.0)
        for name, r in ranks.items()
    )
    return Report(
        systems=systems,
        differences=compare(systems, reference, HASH),
        reference=reference,
        ks=(1, 5, 10),
        scenario="all users",
        part="test",
        n_candidates=20,
        protocol_hash=HASH,
        dataset_hash="def",
        versions={"allmrec": "0.1.0"},
        device="a machine",
        date="2025-01-01T00:00:00+00:00",
    )


def with_pair(made: Report, system: str = "More", against: str = "Less") -> Report:
    """The same report, asked for the difference of two systems too."""
    asked = [Pair("What more adds", system, against)]
    return replace(made, pairs=compare_pairs(made.systems, asked, HASH))


def read(text: str, folder: Path) -> Report:
    """A report from a file with this text."""
    (folder / "report.json").write_text(text)
    return Report.load(folder / "report.json")


GOOD, POOR = [1.0] * 80 + [2.0] * 20, [1.0] * 40 + [3.0] * 60


def test_survives_the_disk_exactly(tmp_path: Path) -> None:
    before = replace(report(SASRec=POOR, Ours=[*GOOD[:99], np.inf]), command="allmrec evaluate", git_commit="1234")
    before.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == before
    value = json.loads(before.to_json())
    assert value["systems"][0]["n_users"] == 100
    assert value["systems"][1]["ranks"][-1] is None
    assert len(before.to_json().splitlines()) < 200, "ranks stand on one line each"


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.pop("kind"),
        lambda value: value.update(format=3),
        lambda value: value.pop("systems"),
        lambda value: value["systems"][0].update(ranks=[1]),
        lambda value: value["systems"][0].update(users=["x"]),
        lambda value: value["systems"][0]["metrics"].update({"Hit@1": 0.5}),
    ],
)
def test_damage_is_noticed(damage, tmp_path: Path) -> None:
    value = json.loads(report(SASRec=POOR).to_json())
    damage(value)
    with pytest.raises(ArtifactError, match=r"report.json is (no report|damaged|not what was written)"):
        read(json.dumps(value), tmp_path)


def test_text_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"report\.json"):
        read("[", tmp_path)
    with pytest.raises(ArtifactError, match="does not exist"):
        Report.load(tmp_path / "none.json")


def test_a_pair_is_compared_on_common_users_and_survives_the_disk(tmp_path: Path) -> None:
    made = with_pair(report(SASRec=POOR, Less=POOR, More=GOOD[:50]))
    (pair,) = made.pairs
    assert [d.metric for d in pair.differences] == [d.metric for d in made.differences if d.system == "More"]
    assert {(d.system, d.reference, d.n_users) for d in pair.differences} == {("More", "Less", 50)}
    # Less is the reference's equal here, so both comparisons have the same figures.
    assert [d.estimate for d in pair.differences] == [d.estimate for d in made.differences if d.system == "More"]
    assert pair.differences[0].estimate.value == pytest.approx(1 - 40 / 50)
    made.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == made


def test_a_pair_is_said_in_every_form_of_the_report() -> None:
    made = with_pair(report(SASRec=POOR, Less=POOR, More=GOOD))
    first = made.pairs[0].differences[0].estimate
    console = Console(width=240, record=True, file=StringIO())
    console.print(render(made))
    said = (
        f"What more adds: Hit@1 of More less Less: +0.400 [{first.low:+.3f}, {first.high:+.3f}], 100 users; NDCG@10 +0."
    )
    assert said in console.export_text()
    assert f"What more adds: Hit@1 of More less Less: +0.4000 [{first.low:+.4f}, " in markdown(made)
    assert "What more adds" not in markdown(replace(made, pairs=()))


def test_figures_repeat_and_do_not_depend_on_the_other_systems() -> None:
    alone, together = report(SASRec=POOR), report(Ours=GOOD, SASRec=POOR)
    assert alone.by_name["SASRec"] == together.by_name["SASRec"]


def test_differences_use_common_users_only() -> None:
    found = report(SASRec=POOR, Few=[1.0] * 50).difference("Few")
    assert found is not None
    assert found.n_users == 50
    assert found.estimate.value == pytest.approx(1 - 40 / 50)


def test_users_are_paired_by_number_not_by_place() -> None:
    users = np.arange(10)
    ranks = np.where(users < 5, 1.0, 2.0)
    systems = [
        summarise("SASRec", users, ranks, protocol_hash=HASH, seconds=1.0),
        summarise("Same", users[::-1].copy(), ranks[::-1].copy(), protocol_hash=HASH, seconds=1.0),
        summarise("Elsewhere", users + 100, ranks, protocol_hash=HASH, seconds=1.0),
    ]
    found = compare(systems, "SASRec", HASH, (1,))
    assert {(d.system, d.metric, d.estimate.value, d.estimate.high) for d in found} == {
        ("Same", "Hit@1", 0.0, 0.0),
        ("Same", "MRR", 0.0, 0.0),
    }


def test_verdict_names_a_winner_whose_interval_excludes_zero() -> None:
    said = verdict(report(SASRec=POOR, Ours=GOOD))
    assert said.startswith("Ours has the highest Hit@1: 0.8000 [")
    assert "over 100 users." in said
    assert "Ours less SASRec is +0.4000 [" in said
    assert said.endswith("excludes 0, in favour of Ours.")


def test_verdict_says_when_nothing_is_shown() -> None:
    said = verdict(report(SASRec=POOR, Ours=[1.0] * 41 + [3.0] * 59))
    assert said.startswith("Ours has the highest")
    assert "includes 0, so neither is shown to be better" in verdict(
        report(SASRec=[1.0, 2.0] * 20, Ours=[2.0, 1.0] * 19 + [1.0, 1.0])
    )


def test_verdict_compares_a_winning_reference_with_the_next() -> None:
    said = verdict(report(SASRec=GOOD, Worst=[5.0] * 100, Ours=POOR))
    assert said.startswith("SASRec has the highest Hit@1")
    assert "Ours less SASRec is -0.4000" in said
    assert said.endswith("in favour of SASRec.")


def test_verdict_on_few_users_is_a_verdict_on_these() -> None:
    # On its ten users the newcomer is perfect, and so is the reference there: nothing is won.
    said = verdict(report(SASRec=POOR, Few=[1.0] * 10))
    assert said.startswith("Few has the highest Hit@1: 1.0000 [1.0000, 1.0000] over 10 users.")
    assert "On the 10 users that both ranked" in said
    assert "neither is shown" in said


def test_verdict_without_a_comparison_says_so() -> None:
    assert "SASRec was not measured" in verdict(report(A=GOOD, B=POOR))
    assert verdict(report(A=GOOD)).endswith("over 100 users.")
    systems = [
        summarise(name, users, np.ones(5), protocol_hash=HASH, seconds=1.0)
        for name, users in (("SASRec", np.arange(5)), ("Ours", np.arange(5, 10)))
    ]
    apart = replace(report(SASRec=POOR), systems=tuple(systems), differences=compare(systems, "SASRec", HASH))
    assert "share no user" in verdict(apart)


def test_tables_hold_every_system_and_the_verdict() -> None:
    found = report(SASRec=POOR, Ours=GOOD, Few=GOOD[:40])
    found = replace(found, systems=(*found.systems[:2], replace(found.systems[2], note="40 users: decodes titles")))
    console = Console(width=240, record=True, file=StringIO())
    console.print(render(found))
    text = console.export_text()
    parts = ("SASRec", "Ours", "Few", "40 users: decodes titles", "less SASRec")
    for table, figures in ((text, ("0.800", "+0.400 [")), (markdown(found), ("0.8000 [", "+0.4000 ["))):
        for part in (*parts, *figures):
            assert part in table
    assert verdict(found).split(".")[0] in markdown(found)
    rows = [line for line in markdown(found).splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert len({line.count("|") for line in rows}) == 1
    assert "Protocol abc, data def." in markdown(found)


def test_readable_json_changes_the_layout_and_nothing_else() -> None:
    value = {"a": [1, -2.5, None, 1e-9], "b": [[1, 2], [3]], "c": ["[\n 1,\n 2\n]", "x"], "d": [], "e": {"f": [True]}}
    text = readable_json(value)
    assert json.loads(text) == value
    assert '"a": [1, -2.5, null, 1e-09]' in text


def test_a_changed_figure_is_noticed(tmp_path: Path) -> None:
    text = report(SASRec=POOR).to_json()
    changed = text.replace('"seconds": 2.0', '"seconds": 2.5', 1)
    assert changed != text
    with pytest.raises(ArtifactError, match="hash does not fit"):
        read(changed, tmp_path)


def test_reports_of_the_first_format_had_no_hash_and_their_parts_are_still_checked(tmp_path: Path) -> None:
    made = report(SASRec=POOR)
    value = json.loads(made.to_json())
    del value["hash"]
    with pytest.raises(ArtifactError, match="hash does not fit"):
        read(json.dumps(value), tmp_path)
    assert read(json.dumps(value | {"format": 1}), tmp_path) == made
    assert value.pop("pairs") == []
    assert read(json.dumps(value | {"format": 1}), tmp_path) == made
    value["systems"][0]["ranks"] = [1]
    with pytest.raises(ArtifactError, match="damaged"):
        read(json.dumps(value | {"format": 1}), tmp_path)

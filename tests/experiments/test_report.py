"""The page: figures as text, titles as text, a size that a mail takes; looked at in a browser where there is one."""

from __future__ import annotations

import html.parser
import io
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.core.hashing import content_hash
from allmrec.data.catalogue import Catalogue
from allmrec.data.interactions import InteractionDataset
from allmrec.evaluation.rank_files import placed
from allmrec.experiments.answers import Ranks, Words, metric_names
from allmrec.experiments.cells import cells_of
from allmrec.experiments.claims import claim_rows, counted
from allmrec.experiments.comparing import compared, show_comparison
from allmrec.experiments.cuts import TrainedOn, cuts_of, fewer_epochs, stage_limits
from allmrec.experiments.failures import Failures
from allmrec.experiments.found import read_experiment, read_experiments
from allmrec.experiments.html import page
from allmrec.experiments.markdown import markdown, theirs_words
from allmrec.experiments.plan import PaperRows, Plan
from allmrec.experiments.record import Record
from allmrec.experiments.results import Results
from allmrec.experiments.scenario_config import CrossDomainConfig
from allmrec.experiments.scenarios import situation
from allmrec.experiments.tables import Row, sections_of
from allmrec.experiments.writing import write_report
from allmrec.testing.worlds import taste_world

EVIL = '<script>document.title="evil"</script> & "quoted" | a\\b'
# Sorted as text they stand so; as numbers, or by their first digits, they do not.
COMMITS = ("1000e1", "20ab", "3", "9f00")
SYSTEMS = ("popularity", "backbone", "allmrec", "allmrec-sbert")


def data() -> InteractionDataset:
    """A world in which every title is markup."""
    made = taste_world(users=60, tastes=3, items_per_taste=12, length=6)
    sequences = {name: [made.items.id(int(i)) for i in made.sequence(n)] for n, name in enumerate(made.users)}
    return InteractionDataset.from_sequences(sequences, titles={name: f"{EVIL} {name}" for name in made.items})


def write_experiment(folder: Path, shift: int = 0) -> Path:
    """An experiment whose ranks were drawn, and nothing trained: what stands behind the page is tested elsewhere."""
    made = data()
    made.save(folder / "data" / "shop")
    plan = Plan.model_validate(
        {
            "title": f"Cold {EVIL}",
            "systems": SYSTEMS,
            "seeds": [0, 1],
            "users": 50,
            "data": {"shop": {"path": str(folder / "data" / "shop")}},
            "scenarios": {"cold-items": {"kind": "cold-items"}},
            "paper": {"table": "table4", "rows": {"backbone": "SASRec", "allmrec": "A-LLMRec"}},
            "claims": [
                {"text": "better", "better": "allmrec", "than": "popularity"},
                {"text": "worse", "better": "popularity", "than": "allmrec"},
                {"text": "open", "better": "allmrec", "than": "allmrec-sbert", "group": "cold items"},
            ],
        }
    )
    cells, results = cells_of(plan), Results(folder)
    keys = {cell.id: content_hash(cell.id) for cell in cells}
    Record(plan, {"shop": folder / "data" / "shop"}, keys, "allmrec experiment", "abc").write(folder)
    names = {"popularity": "Popularity", "backbone": "SASRec", "allmrec": "A-LLMRec", "allmrec-sbert": f"A {EVIL}"}
    for number, cell in enumerate(cells[:-1]):
        asking = situation(plan.scenarios[cell.scenario], made, cell.seed, plan.users, plan.candidates).asking
        best = (20, 14, 5, 9)[SYSTEMS.index(cell.system)] - shift
        ranks = np.random.default_rng(cell.seed + shift).integers(1, best, len(asking.protocol))
        about: dict[str, Any] = {
            "name": names[cell.system], "note": EVIL, "users_per_second": 10.0 ** SYSTEMS.index(cell.system), "seconds": 60.0,
            "costs": {"train_seconds": 12.0, "trained_parameters": 5e6, "peak_memory": 2.0**30}, "config": {"seed": shift},
            "made_of": {"pretrain": f"key {cell.seed}"}, "users_there": 60, "limits": {"tune": {"samples_per_epoch": 4000}}, "device": "CPU",
            "date": f"2026-01-{20 - number:02}T00:00:00", "commit": COMMITS[number % len(COMMITS)],
            "command": "allmrec experiment", "curves": {"pretrain": {"step": [1, 2, 3], "loss": [3.0, 2.0, 1.5 + cell.seed]}},
        }  # fmt: skip
        results.write(
            cell,
            keys[cell.id],
            about,
            asking.protocol,
            asking.groups,
            Ranks(placed(asking.protocol, asking.protocol.users.tolist(), ranks.tolist())),
        )
    Failures(folder).write(cells[-1], {"message": f"Out of luck {EVIL}", "traceback": "Traceback: …", "date": ""})
    return folder


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def html_page(experiment: Path) -> str:
    return page([read_experiment(experiment)])


class Tags(html.parser.HTMLParser):
    """Counts tags, and looks whether each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_small_and_needs_no_network(html_page: str) -> None:
    tags = Tags()
    tags.feed(html_page)
    assert tags.open == []
    assert len(html_page.encode()) < 2_000_000
    assert tags.count["script"] == 1
    assert not {"link", "img", "iframe", "object"} & tags.count.keys()
    assert not re.search(r"(https?:)?//[a-z]", html_page.replace("doi.org", ""))


def test_titles_and_messages_are_text(html_page: str, experiment: Path) -> None:
    assert EVIL not in html_page
    assert html_page.count("&lt;script&gt;") > 10
    written = markdown([read_experiment(experiment)])
    assert "<script>" not in written
    # A stroke in a name ends no cell: each row of a table has as many as its head.
    for table in written.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) <= 1


def test_the_page_says_what_was_found(html_page: str, experiment: Path) -> None:
    found = read_experiment(experiment)
    (section,) = found.sections
    row = {row.row: row for row in section.rows}["allmrec"]
    figure = row.figure("Hit@1", "cold items")
    assert figure is not None
    assert f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]" in html_page
    assert {claim.claim.text: claim.verdict for claim in section.claims}["better"] == "holds"
    assert {claim.claim.text: claim.verdict for claim in section.claims}["worse"] == "does not hold"
    assert "0.1190" in html_page  # SASRec on cold items of Beauty, the paper's set that is nearest
    assert "theirs, other data and a model fifty times the size" in html_page
    assert "stands among 20 candidates, so Hit@1 of chance is 0.050" in html_page
    assert "Out of luck" in html_page
    assert "Traceback: …" in html_page


def test_every_cut_is_named(html_page: str, experiment: Path) -> None:
    """50 of 60 users were asked, and users with a cold item beside them count for nothing else."""
    for said in (html_page, markdown([read_experiment(experiment)])):
        assert "50 of 60 users were asked" in said
        assert "tune: 4,000 samples drawn anew each epoch (every row)." in said


def test_cuts_of_stages_are_read_from_the_cells_own_settings(experiment: Path) -> None:
    """Cells of before kept no cut of stage 1, whose settings lie beside those of texts, nor any of epochs."""
    found = read_experiment(experiment)
    plan, section = found.record.plan, found.sections[0]
    rows = {row.row: row for row in section.rows}
    kept = {"tune": {"samples_per_epoch": 20, "validation_users": 10}}
    settings = {
        "align": {"positions": "all", "samples_per_epoch": 30, "training": {"epochs": 3}},
        "systems": {"tallrec": {"training": {"epochs": 2}}},
    }

    def cuts(system: str, more: dict[str, Any]) -> list[str]:
        one = rows["allmrec"].cells[0]
        about = {**one.about, "config": settings, **more}
        cell = replace(one, cell=replace(one.cell, system=system), about=about)
        return cuts_of(plan, replace(section, rows=(Row("x", "X", [cell], rows["allmrec"].asked),)))

    align = "align: 30 samples drawn anew each epoch; 3 epochs in place of 10, the default (every row)."
    assert align in cuts("allmrec", {"limits": kept})
    exactly = {"limits": {}, "trained_on": {"users": 20, "interactions": 25}}
    assert "align: 3 epochs in place of 10, the default (every row)." in cuts("allmrec", exactly)
    assert "tallrec: 2 epochs in place of 5, the default (every row)." in cuts("tallrec", {"limits": {}})
    gone = cuts("tallrec", {"config": {"systems": {"tallrec": {"no_such": 1}}}, "limits": kept})
    assert "tune: 20 samples drawn anew each epoch; validated on 10 users at the most (every row)." in gone


def test_limits_and_epochs_are_found_wherever_they_stand_in_settings() -> None:
    on = TrainedOn(users=10, interactions=50)
    nested = {"encoder": {"tune": 2}, "pretrain": {"windows": "all", "samples_per_epoch": 40, "users": 10}}
    assert stage_limits(nested, on) == {"samples_per_epoch": 40}
    assert stage_limits({"positions": "last", "samples_per_epoch": 40, "validation_users": 9}, on) == {
        "validation_users": 9
    }
    two = {"first": {"epochs": 4}, "second": {"epochs": 4}}
    assert fewer_epochs(two, {"first": {"epochs": 4}, "second": {"epochs": 1}}, {"first": {"epochs": 6}}) == {
        "first": (4, 6)
    }


def test_fewer_seeds_are_a_cut_where_the_plan_says_so(experiment: Path) -> None:
    """And not where some are not measured yet: the last cell of the last row is not done."""
    found = read_experiment(experiment)
    plan, section = found.record.plan, found.sections[0]
    assert not [cut for cut in cuts_of(plan, section) if "seeds" in cut]
    fewer = plan.model_copy(update={"seeds_of": {"allmrec": 1, "popularity": 1}})
    assert "Popularity, A-LLMRec: 1 of 2 seeds." in cuts_of(fewer, section)


def test_rows_that_are_left_out_are_named_with_the_claims_about_them(experiment: Path) -> None:
    found = read_experiment(experiment)
    plan, section = found.record.plan, found.sections[0]
    assert not [cut for cut in cuts_of(plan, section) if "Not measured" in cut]
    without = plan.model_copy(update={"without": ("allmrec",)})
    texts = [claim.text for claim in plan.claims if "allmrec" in (claim.better, claim.than)]
    assert texts
    assert cuts_of(without, section)[0] == (
        f"Not measured, because of what they take: allmrec. So these claims stay open: {'; '.join(texts)}."
    )


def words_experiment(folder: Path) -> Path:
    """An experiment that asked for genres, whose words were made up, some of them markup."""
    made = data()
    catalogue = made.catalogue
    genres = tuple((f"Genre {EVIL}",) if n else () for n in range(made.n_items + 1))
    made = replace(made, catalogue=Catalogue(catalogue.titles, catalogue.descriptions, genres))
    made.save(folder / "data")
    plan = Plan.model_validate(
        {
            "title": "Words",
            "ask": "genres",
            "systems": ["allmrec", "llm-only"],
            "users": 30,
            "reference": "allmrec",
            "data": {"shop": {"path": str(folder / "data")}},
            "claims": [{"text": "names them", "better": "allmrec", "metric": "genres of the item, above base rate"}],
        }
    )
    cells = cells_of(plan)
    keys = {cell.id: content_hash(cell.id) for cell in cells}
    Record(plan, {"shop": folder / "data"}, keys, "allmrec experiment", None).write(folder)
    for number, cell in enumerate(cells):
        asking = situation(plan.scenarios[cell.scenario], made, 0, plan.users, plan.candidates).asking
        values = np.full(30, 0.75 - 0.5 * number)
        words = Words(
            dict.fromkeys(metric_names("genres", order_test=False), values),
            [f"Of an item {EVIL}"] * 30,
            [f"Of a user {EVIL}"] * 30,
        )
        about: dict[str, Any] = {
            "name": ("A-LLMRec", "LLM-Only")[number], "note": "", "users_per_second": 0.5, "seconds": 1.0, "costs": {}, "config": {},
            "made_of": {}, "device": "CPU", "date": "2026-01-01T00:00:00", "commit": None, "command": "x", "curves": {},
        }  # fmt: skip
        Results(folder).write(cell, keys[cell.id], about, asking.protocol, asking.groups, words)
    return folder


def test_words_are_shown_with_their_precision_and_titles(tmp_path: Path) -> None:
    found = read_experiment(words_experiment(tmp_path))
    (section,) = found.sections
    assert [claim.verdict for claim in section.claims] == ["holds"]
    shown = page([found])
    tags = Tags()
    tags.feed(shown)
    assert tags.open == []
    assert EVIL not in shown
    for text in (shown, markdown([found])):
        assert text.count("Of a user &lt;script") == 8  # two systems, four users
        assert "Genre &lt;script" in text
        assert "0.750 [0.750, 0.750]" in text
        assert "-0.500 [-0.500, -0.500]" in text  # less A-LLMRec
        assert "genres of the history" in text
    assert "Where the right item was ranked" not in shown


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words_experiment(tmp_path_factory.mktemp("words"))


PARTS = {"cells": "*.npz", "protocols": "*.npz", "groups": "*.npz", "configs": "*.json"}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("harm", ["lost", "cut", "other"])
@pytest.mark.parametrize("what", ["ranks", "words"])
def test_damaged_results_are_refused_and_measured_again(
    experiment: Path, worded: Path, tmp_path: Path, part: str, harm: str, what: str
) -> None:
    folder = shutil.copytree(experiment if what == "ranks" else worded, tmp_path / "copy")
    record, results = Record.read(folder), Results(folder)
    cells = [cell for cell in cells_of(record.plan) if results.has(record.keys[cell.id])]
    assert len(cells) > 1
    for path in (folder / part).glob(PARTS[part]):
        content = path.read_bytes()
        harmed = {"cut": content[: len(content) // 2], "other": b"[1]"}
        path.unlink() if harm == "lost" else path.write_bytes(harmed[harm])
    assert not any(results.has(record.keys[cell.id]) for cell in cells)
    if (part, harm) == ("cells", "lost"):
        assert not read_experiment(folder).done
    else:
        with pytest.raises(ArtifactError, match=r"measure again|does not exist|is damaged"):
            read_experiment(folder)


@pytest.mark.parametrize("what", ["ranks", "words"])
def test_a_changed_byte_of_a_cell_is_seen_or_changes_nothing(
    experiment: Path, worded: Path, tmp_path: Path, what: str
) -> None:
    folder = shutil.copytree(experiment if what == "ranks" else worded, tmp_path / "copy")
    (cell, *_), record, results = cells_of(Record.read(folder).plan), Record.read(folder), Results(folder)
    key = record.keys[cell.id]
    before = results.read(cell, key)
    path = folder / "cells" / f"{key[:24]}.npz"
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        if not results.has(key):
            refused += 1
            continue
        found = results.read(cell, key)
        assert before is not None
        assert found is not None
        assert found.about == before.about
        for metric in before.found.metrics:
            assert np.array_equal(found.found.values(metric), before.found.values(metric))
    assert refused > len(content) / 7 / 2


def test_cells_of_a_plan_of_before_are_left_out(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path)
    record = Record.read(folder)
    keys = {
        name: "other" if ".0.base.allmrec" in name and "sbert" not in name else key for name, key in record.keys.items()
    }
    Record(record.plan, record.data, keys, record.command, record.commit).write(folder)
    found = read_experiment(folder)
    assert [cell.id for cell in found.waiting] == ["shop.cold-items.0.base.allmrec"]
    assert len(found.done) == 6


def test_across_domains_a_section_says_what_was_trained_on_and_what_was_asked(experiment: Path) -> None:
    found = read_experiment(experiment)
    data = dict.fromkeys(("shop", "kiosk"), found.record.plan.data["shop"])
    across = {"data": data, "scenarios": {"across": CrossDomainConfig()}}
    plan = found.record.plan.model_copy(update=across)
    cells = [replace(one, cell=replace(one.cell, scenario="across")) for one in found.done]
    results = Results(experiment)
    summaries = {name: found.datasets["shop"].summary() for name in data}
    (section,) = sections_of(plan, [(one, results.asked(one)) for one in cells], summaries)
    assert section.title == "trained on shop, asked on kiosk"
    assert found.sections[0].title == "shop, cold-items"


def test_where_the_paper_has_one_set_that_is_no_choice(experiment: Path) -> None:
    found = read_experiment(experiment)
    plan, section = found.record.plan, found.sections[0]
    assert theirs_words(plan, section).endswith("the nearest in users, items and length")
    one = plan.model_copy(update={"paper": PaperRows(table="table7", rows={})})
    assert theirs_words(one, replace(section, theirs="Movies and TV")) == "the paper has figures of Movies and TV alone"


def test_what_plans_claim_of_the_same_cells_counts_once(tmp_path: Path) -> None:
    """By its cells and figure, whatever the words; the paper's claims and ours are counted apart."""
    for name, whose in (("one", "paper"), ("two", "paper"), ("three", "ours")):
        folder = write_experiment(tmp_path / name)
        record = Record.read(folder)
        claims = [
            claim.model_copy(update={"whose": whose, "text": f"{name} {claim.text}"}) for claim in record.plan.claims
        ]
        claims[2] = claims[2].model_copy(update={"whose": "ours"})
        plan = record.plan.model_copy(update={"claims": tuple(claims)})
        Record(plan, record.data, record.keys, record.command, record.commit).write(folder)
    found = sorted(read_experiments(tmp_path), key=lambda one: one.folder.name != "one")
    paper, ours = claim_rows(found, "paper"), claim_rows(found, "ours")
    assert counted(paper, "paper") == "1 of the paper's 2 claims hold, 1 do not, 0 are not shown."
    assert [[one.folder.name for one in row.experiments] for row in paper] == [["one", "two"]] * 2
    assert len(ours) == 3
    assert paper[0].result.claim.text == "one better"
    shown = page(found)
    for sentence in (counted(paper, "paper"), counted(ours, "ours")):
        assert shown.count(sentence.replace("'", "&#39;")) == 1


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two experiments, and of something else."""
    folder = tmp_path_factory.mktemp("many")
    write_experiment(folder / "table4")
    words_experiment(folder / "words")
    (folder / "notes").mkdir()
    return folder


def test_several_experiments_are_one_report(many: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    written = {path.name: path.read_text("utf-8") for path in write_report(many, console)}
    assert written.keys() == {"report.html", "report.md"}
    tags = Tags()
    tags.feed(written["report.html"])
    assert tags.open == []
    assert tags.count["article"] == 2
    assert tags.count["h1"] == 1
    names = re.findall(r'id="([^"]*)"', written["report.html"])
    assert len(set(names)) == len(names), "a place on the page has one name"
    assert set(re.findall(r'href="#([^"]*)"', written["report.html"])) <= set(names)
    single = {name: page([read_experiment(many / name)]) for name in ("table4", "words")}
    for name, one in single.items():
        assert (own := re.findall(r"-?[01]\.\d{3} \[[^]]*\]", one))
        assert set(own) <= set(re.findall(r"-?[01]\.\d{3} \[[^]]*\]", written["report.html"])), name
    levels = [len(marks) for marks in re.findall(r"^(#+) ", written["report.md"], re.MULTILINE)]
    assert levels[:3] == [1, 2, 3]
    assert levels.count(1) == 1
    assert levels.count(2) == 3  # two experiments, and what failed


def headings_of(written: str) -> dict[str, int]:
    """Headings of Markdown with their levels."""
    return {words: len(marks) for marks, words in re.findall(r"^(#+) (.*)$", written, re.MULTILINE)}


def test_what_is_undone_stands_in_one_place_for_all_experiments(tmp_path: Path) -> None:
    """Nothing is undone of the first experiment; one cell of the others failed, and one was not tried."""
    words_experiment(tmp_path / "figures4-5")
    failed, waiting = write_experiment(tmp_path / "ours-a"), write_experiment(tmp_path / "ours-b")
    for path in (waiting / "failed").glob("*.json"):
        path.unlink()
    found = [read_experiment(folder) for folder in (tmp_path / "figures4-5", failed, waiting)]
    (left,) = found[2].waiting
    shown, written = page(found), markdown(found)
    places = dict(re.findall(r'<a href="#(failed|waiting)" class="bad">([^<]*)</a>', shown))
    assert places == {"failed": "1 failed", "waiting": "1 not measured"}
    for place, words in (("failed", "Out of luck"), ("waiting", left.words)):
        (section,) = re.findall(rf'<section id="{place}">.*?</section>', shown, re.DOTALL)
        assert words in section
        assert section.count("<h3>") == 1
    assert shown.count("What failed</h2>") == 1
    (table,) = re.findall(r"^## What was not measured\n\n(.*?)(?:\n\n|\Z)", written, re.MULTILINE | re.DOTALL)
    assert left.words in table
    assert headings_of(written)["What failed"] == 2
    assert "What was not measured" not in markdown(found[:2])
    assert 'id="failed"' not in page(found[:1])


def test_headings_of_a_section_are_of_one_level(many: Path) -> None:
    """Of one experiment and of several: tables, costs and cuts stand side by side."""
    for found in ([read_experiment(many / "table4")], read_experiments(many)):
        levels = headings_of(markdown(found))
        level = levels["shop, cold-items"] + 1
        below = {words: own for words, own in levels.items() if words.startswith("shop, cold-items: ")}
        assert {"shop, cold-items: what it cost", "shop, cold-items: what was cut"} <= below.keys()
        assert set(below.values()) == {level}


def test_experiments_beside_the_paper_come_first_and_numbers_count(tmp_path: Path) -> None:
    words_experiment(tmp_path / "figures4-5")
    for name in ("table10", "table4"):
        write_experiment(tmp_path / name)
    assert [one.folder.name for one in read_experiments(tmp_path)] == ["table4", "table10", "figures4-5"]


def test_experiments_of_one_plan_are_told_apart(many: Path, tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        shutil.copytree(many / "table4", tmp_path / name)
    plan = Record.read(tmp_path / "third").plan.title
    assert [one.title for one in read_experiments(tmp_path)] == [
        f"{plan} (shop) ({name})" for name in ("first", "second", "third")
    ]
    shutil.rmtree(tmp_path / "first")
    about = (tmp_path / "third" / "experiment.json").read_text().replace('"shop"', '"kiosk"')
    (tmp_path / "third" / "experiment.json").write_text(about)
    assert [one.title for one in read_experiments(tmp_path)] == [f"{plan} (shop)", f"{plan} (kiosk)"]
    shown = page(read_experiments(tmp_path))
    assert shown.count(" (kiosk)</h2>") == 1
    shutil.rmtree(tmp_path / "third")
    assert [one.title for one in read_experiments(tmp_path)] == [plan]


def test_a_folder_without_experiments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is no experiment, and holds none"):
        write_report(tmp_path, Console(file=io.StringIO()))
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_moves_with_its_data(tmp_path: Path) -> None:
    before = write_experiment(tmp_path / "here" / "experiment")
    shown = page([read_experiment(before)])
    assert str(tmp_path) not in (before / "experiment.json").read_text("utf-8")
    (tmp_path / "here").rename(tmp_path / "there")
    after = tmp_path / "there" / "experiment"
    assert page([read_experiment(after)]) == shown
    assert Record.read(after).plan.data["shop"].path == str(after / "data" / "shop")


def test_two_experiments_are_compared_user_by_user(experiment: Path, tmp_path: Path) -> None:
    other = write_experiment(tmp_path, shift=3)
    found, settings = compared(experiment, other)
    first = next(one for one in found if one.name == "SASRec" and one.where.endswith("all users"))
    assert first.difference.value == pytest.approx(first.second.value - first.first.value)
    assert first.users == 50
    assert settings == {"seed": (0, 3)}
    same, nothing = compared(experiment, experiment)
    assert {one.difference.value for one in same} == {0.0}
    assert nothing == {}


def changed_plan(source: Path, folder: Path, seeds: int | None = None, **changes: Any) -> Path:
    """A copy of an experiment whose plan has other fields, with cells of the first so many seeds."""
    shutil.copytree(source, folder)
    record = Record.read(folder)
    keys = {name: key for name, key in record.keys.items() if seeds is None or int(name.split(".")[2]) < seeds}
    plan = Plan.model_validate(record.plan.model_dump(mode="json") | changes)
    Record(plan, record.data, keys, record.command, record.commit).write(folder)
    return folder


def test_experiments_are_compared_on_common_seeds_and_users(experiment: Path, tmp_path: Path) -> None:
    """Each side's figure is over what both have, so they differ by the difference; and plans are compared too."""
    one = changed_plan(experiment, tmp_path / "one", seeds=1, seeds_of={"allmrec": 1}, users_of={"allmrec": 20})
    key = Record.read(one).keys["shop.cold-items.0.base.allmrec"]
    path = one / "cells" / f"{key[:24]}.npz"
    path.unlink()
    (cell,) = (cell for cell in cells_of(Record.read(one).plan) if cell.id == "shop.cold-items.0.base.allmrec")
    asking = situation(Record.read(one).plan.scenarios["cold-items"], data(), 0, 50, 20).asking
    before = next(done for done in read_experiment(experiment).done if done.cell == cell)
    fewer = placed(asking.protocol, asking.protocol.users[:20].tolist(), np.ones(20, dtype=int).tolist())
    Results(one).write(cell, key, before.about, asking.protocol, asking.groups, Ranks(fewer))
    found, settings = compared(experiment, one)
    for each in found:
        assert each.second.value - each.first.value == pytest.approx(each.difference.value)
        assert each.seeds == (0,)
    assert {each.users for each in found if each.name == "A-LLMRec" and each.where.endswith("all users")} == {20}
    assert settings == {"plan.seeds_of.allmrec": (None, 1), "plan.users_of.allmrec": (None, 20)}
    scenario = {"cold-items": {"kind": "cold-items", "share": 0.3}}
    _, settings = compared(experiment, changed_plan(experiment, tmp_path / "two", seeds=1, scenarios=scenario))
    assert settings == {"plan.scenarios.cold-items.share": (0.35, 0.3)}
    console = Console(file=io.StringIO(), width=200)
    show_comparison(experiment, tmp_path / "two", "Hit@1", console)
    assert "plan.scenarios.cold-items.share: 0.35 -> 0.3" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "settings are the same" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_why_experiments_cannot_be_compared_is_said(experiment: Path, tmp_path: Path) -> None:
    nothing = changed_plan(experiment, tmp_path / "nothing", seeds=0)
    with pytest.raises(ConfigError, match=r"nothing has no cell that is done"):
        compared(experiment, nothing)
    for name, old, new in (
        ("data sets", r'(?<=")shop(?=[."])', "kiosk"),
        ("scenarios", r"cold-items(?=[.]|\": \{)", "others"),
    ):
        folder = shutil.copytree(experiment, tmp_path / name)
        about = (folder / "experiment.json").read_text()
        (folder / "experiment.json").write_text(re.sub(old, new, about))
        with pytest.raises(ConfigError, match=f"no {name} in common: "):
            compared(experiment, folder)
    record = Record.read(experiment)
    second = {name: key for name, key in record.keys.items() if ".1." in name}
    shutil.copytree(experiment, tmp_path / "second")
    Record(record.plan, record.data, second, "x", None).write(tmp_path / "second")
    with pytest.raises(ConfigError, match="no seed in common: 0, and 1"):
        compared(changed_plan(experiment, tmp_path / "first", seeds=1), tmp_path / "second")


def test_a_comparison_says_what_is_not_done_and_what_one_side_alone_has(experiment: Path, tmp_path: Path) -> None:
    fewer = changed_plan(experiment, tmp_path / "fewer", systems=["popularity", "backbone"], claims=[], paper=None)
    console = Console(file=io.StringIO(), width=200)
    show_comparison(experiment, fewer, "Hit@1", console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Not done of {experiment}'s plan: 1 cells." in said
    assert f"Not done of {fewer}" not in said
    assert f"Only in {experiment}: allmrec (shop, cold-items), allmrec-sbert (shop, cold-items)." in said
    assert f"Only in {fewer}" not in said


def test_ranks_in_the_catalogue_and_among_candidates_do_not_compare(experiment: Path, tmp_path: Path) -> None:
    """They are of the same users and targets, whom one protocol names."""
    catalogue = changed_plan(experiment, tmp_path / "catalogue", ask="catalogue")
    for pair in ((experiment, catalogue), (catalogue, experiment)):
        with pytest.raises(
            ConfigError, match=r"asks for (candidates|catalogue) and .* asks for (candidates|catalogue)"
        ):
            compared(*pair)
    assert compared(catalogue, catalogue)[0]


# --- in a browser ---

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        message = "there is no Chromium: install Debian's package `chromium` to see the page in a browser"
        pytest.skip(message)
    return found


def asked(browser: str, place: Path, *options: str) -> str:
    done = subprocess.run(
        [browser, *FLAGS, f"--user-data-dir={place.parent / 'profile'}", *options, place.as_uri()],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def pixels(path: Path) -> np.ndarray:
    """A PNG's rows of pixels; of the kinds that the browser writes."""
    content, at, body = path.read_bytes(), 8, b""
    width, height, depth, kind = struct.unpack(">IIBB", content[16:26])
    assert depth == 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] == b"IDAT":
            body += content[at + 8 : at + 8 + length]
        at += 12 + length
    channels = {2: 3, 6: 4}[kind]
    raw = np.frombuffer(zlib.decompress(body), dtype=np.uint8).reshape(height, 1 + width * channels)
    rows, above = np.zeros((height, width * channels), dtype=np.uint8), np.zeros(width * channels, dtype=np.int64)
    for number, (how, line) in enumerate(zip(raw[:, 0], raw[:, 1:].astype(np.int64), strict=True)):
        line = line.copy()
        if how == 2:
            line = line + above
        elif how in (1, 3, 4):
            for place in range(len(line)):
                left = line[place - channels] if place >= channels else 0
                corner = above[place - channels] if place >= channels else 0
                up = above[place]
                if how == 1:
                    line[place] += left
                elif how == 3:
                    line[place] += (left + up) // 2
                else:
                    estimate = left + up - corner
                    near = [abs(estimate - left), abs(estimate - up), abs(estimate - corner)]
                    line[place] += (left, up, corner)[near.index(min(near))]
                line[place] %= 256
        above = line % 256
        rows[number] = above
    return rows.reshape(height, width, channels)[:, :, :3]


@pytest.mark.parametrize("width", [500, 1200])
@pytest.mark.parametrize(("scheme", "paper"), [("light", (255, 255, 255)), ("dark", (20, 24, 31))])
def test_the_page_in_a_browser(
    browser: str, html_page: str, tmp_path: Path, width: int, scheme: str, paper: tuple[int, int, int]
) -> None:
    """It has its colours in light and dark, shows ink, and is no wider than the window."""
    place = tmp_path / "report.html"
    probe = (
        "<script>document.body.dataset.wide = document.documentElement.scrollWidth - window.innerWidth;"
        "document.body.dataset.svg = [...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width > 100).length;"
        "</script></body>"
    )
    place.write_text(html_page.replace("</body>", probe), encoding="utf-8")
    setting = f"--blink-settings=preferredColorScheme={'0' if scheme == 'dark' else '1'}"
    shot = tmp_path / "page.png"
    dumped = asked(browser, place, setting, f"--window-size={width},700", "--dump-dom")
    assert int(re.findall(r'data-wide="(-?\d+)"', dumped)[0]) <= 0
    assert int(re.findall(r'data-svg="(\d+)"', dumped)[0]) >= 5
    asked(browser, place, setting, f"--window-size={width},700", f"--screenshot={shot}")
    seen = pixels(shot)
    assert seen.shape[1] == width
    assert tuple(seen[2, 2]) == paper
    different = (np.abs(seen.astype(int) - np.array(paper)).sum(axis=2) > 90).mean()
    assert 0.01 < different < 0.5


@pytest.mark.parametrize("width", [500, 1200])
def test_a_report_of_several_fits_the_window(browser: str, many: Path, tmp_path: Path, width: int) -> None:
    """All of it: tables scroll inside their boxes, whose edges say so, and names in drawings stay inside and apart."""
    place = tmp_path / "report.html"
    probe = """<script>
      for (const closed of document.querySelectorAll("details")) closed.open = true;
      const said = (name, value) => document.body.setAttribute(`data-${name}`, value);
      const main = document.querySelector("main"), inner = main.clientWidth - 2 * parseFloat(getComputedStyle(main).paddingLeft);
      const all = (chosen) => [...main.querySelectorAll(chosen)];
      const wide = (one) => one.getBoundingClientRect().width > inner + 1;
      said("wide", document.documentElement.scrollWidth - window.innerWidth);
      said("boxes", all("table").filter(one => !one.closest(".scroll") || wide(one.closest(".scroll"))).length);
      said("drawings", all("svg").filter(one => wide(one) || one.parentElement.scrollWidth > inner + 1).length);
      const overflowing = all(".scroll").filter(one => one.scrollWidth > one.clientWidth + 1);
      said("overflowing", overflowing.length);
      said("shaded", overflowing.filter(one => getComputedStyle(one).backgroundImage.includes("gradient")).length);
      said("claim", Math.min(...all("#claims td.claim").map(one => one.getBoundingClientRect().width)));
      said("plan", getComputedStyle(all("#claims td")[0]).minWidth);
      let outside = 0, crossing = 0, letters = 99;
      for (const drawing of all("svg")) {
        const {width, height} = drawing.viewBox.baseVal;
        const boxes = [...drawing.querySelectorAll(".name")].map(name => name.getBBox());
        const scale = drawing.getBoundingClientRect().width / width;
        for (const name of drawing.querySelectorAll(".name")) letters = Math.min(letters, scale * parseFloat(getComputedStyle(name).fontSize));
        boxes.forEach((one, n) => {
          outside += one.x < 0 || one.y < 0 || one.x + one.width > width || one.y + one.height > height;
          // A font's box has air above and below its letters.
          crossing += boxes.slice(n + 1).some(other => one.x < other.x + other.width && other.x < one.x + one.width
            && one.y + 2 < other.y + other.height && other.y + 2 < one.y + one.height);
        });
      }
      said("outside", outside); said("crossing", crossing); said("letters", letters);
    </script></body>"""
    shown = page([read_experiment(many / name) for name in ("table4", "words")])
    place.write_text(shown.replace("</body>", probe), encoding="utf-8")
    dumped = asked(browser, place, f"--window-size={width},700", "--dump-dom")
    said = dict(re.findall(r' data-(\w+)="([^"]*)"', dumped))
    assert float(said["wide"]) <= 0
    assert said["boxes"] == said["drawings"] == said["outside"] == said["crossing"] == "0"
    assert said["shaded"] == said["overflowing"]
    assert (width > 1000) or int(said["overflowing"]) > 0
    assert float(said["letters"]) > 10
    assert float(said["claim"]) >= 220
    assert said["plan"] in ("auto", "0px")


def test_tables_sort_and_titles_run_nothing(browser: str, html_page: str, tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    probe = """<script>
      const table = document.querySelectorAll("table.sortable")[1];
      const column = () => [...table.tBodies[0].rows].map(row => parseFloat(row.children[3].textContent));
      const head = table.querySelectorAll("th")[3];
      head.click(); document.body.dataset.down = column().join(" ");
      head.click(); document.body.dataset.up = column().join(" ");
    </script></body>"""
    place.write_text(html_page.replace("</body>", probe), encoding="utf-8")
    dumped = asked(browser, place, "--dump-dom")
    down, up = ([float(v) for v in re.findall(rf'data-{name}="([^"]*)"', dumped)[0].split()] for name in ("down", "up"))
    assert len(down) == 4
    assert len(set(down)) > 2
    assert down == sorted(down, reverse=True)
    assert up == sorted(down)
    assert "<title>evil</title>" not in dumped


def test_columns_of_dates_and_commits_sort_as_text(browser: str, html_page: str, tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    probe = """<script>
      const heads = [...document.querySelectorAll("th")].filter(head => ["date", "commit"].includes(head.textContent));
      for (const head of heads) {
        const rows = () => [...head.closest("table").tBodies[0].rows];
        const column = () => rows().map(row => row.children[head.cellIndex].textContent).join(" ");
        head.click(); document.body.dataset[head.textContent + "down"] = column();
        head.click(); document.body.dataset[head.textContent + "up"] = column();
      }
    </script></body>"""
    place.write_text(html_page.replace("</body>", probe), encoding="utf-8")
    dumped = asked(browser, place, "--dump-dom")
    for head, kinds in (("date", 7), ("commit", len(COMMITS))):
        down, up = (re.findall(rf'data-{head}{way}="([^"]*)"', dumped)[0].split() for way in ("down", "up"))
        assert len(set(up)) == kinds
        assert up == sorted(up)
        assert down == sorted(up, reverse=True)

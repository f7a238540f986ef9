"""Why cold targets are not won by titles: `python -m benchmarks.titles_cold RUN [RUN ...]`, runs of several seeds with a trained stage 2.

Cold targets are those of `scenario_masks` (the 35 % of items with the fewest training interactions). Every candidate of the
users with a cold target, and of the first `--users` of all, is scored by A-LLMRec by titles with the item slots as they were trained, with
text vectors in place of CF vectors for all items and for cold items alone, by the CF model, by similarity of titles, and by
popularity. Three things are told apart: whether a cold item can come first at all against warm ones, whether the right one
is found among the cold ones, and what is left of it once popularity is taken out of the scores. A user's value is the mean over the runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.table import Table

from allmrec.baselines.text_similarity import TextSimilarity
from allmrec.core.seeding import numpy_generator
from allmrec.evaluation import EvaluationProtocol, draw_protocol
from allmrec.evaluation.intervals import bootstrap_mean, paired_difference
from allmrec.evaluation.scenarios import cold_and_warm_items, scenario_masks
from allmrec.library import Run
from allmrec.prompting.tokenising import PromptBuilder
from allmrec.recommend.samples import training_positions
from allmrec.text.bank import TextBank
from allmrec.text.encoder import load_encoder
from allmrec.text.similarity import TitleSimilarity
from benchmarks.about import measured_by
from benchmarks.figures import Figure, figure, shown
from benchmarks.rank_files import Asked, as_ranks
from benchmarks.tables import RESULTS, cells_of, read_table, table_ranks, write_result
from benchmarks.titles_why import cf_scores, title_scores

__all__ = ["Lists", "cold_figures", "places", "within"]

TITLES, TEXT, COLD_TEXT, CF, WORDS, POPULAR = (
    "A-LLMRec", "A-LLMRec, text vectors", "A-LLMRec, text vectors of cold items", "CF model", "Text similarity", "Popularity",
)  # fmt: skip
_TAKEN_OUT = (0.0, 0.5, 1.0)

Scores = Float[np.ndarray, "users candidates"]
Values = Float[np.ndarray, " users"]


@dataclass(frozen=True)
class Lists:
    """What is the same for every system.

    Attributes:
        at: the target's place in each list.
        counts: training interactions of each candidate.
        cold: whether a candidate is cold.
        first: users of the sample of all; the others were added because their target is cold.
    """

    at: Int[np.ndarray, " users"]
    counts: Int[np.ndarray, "users candidates"]
    cold: Bool[np.ndarray, "users candidates"]
    first: Bool[np.ndarray, " users"]

    @property
    def of_cold(self) -> Bool[np.ndarray, " users"]:
        """Users whose target is cold."""
        found: Bool[np.ndarray, " users"] = self.cold[np.arange(len(self.at)), self.at]
        return found

    @classmethod
    def of(cls, run: Run, protocol: EvaluationProtocol, users: int) -> tuple[Lists, Int[np.ndarray, " asked"]]:
        """The lists that are asked, and their rows in the protocol."""
        first = np.arange(len(protocol)) < users
        rows = np.flatnonzero(first | scenario_masks(protocol, run.split)["cold items"])
        shown = protocol.candidates[rows]
        at = np.argmax(shown == protocol.targets[rows, None], axis=1)
        cold, _ = cold_and_warm_items(run.split)
        return cls(at, run.split.train_counts()[shown], cold[shown], first[rows]), rows


def places(
    scores: Scores, at: Int[np.ndarray, " users"], among: Bool[np.ndarray, "users candidates"] | None = None
) -> Values:
    """The target's rank, from 1; of equal scores the one that stands first in the list comes first, as in every table.

    Args:
        scores: of all candidates.
        at: the target's place in each list.
        among: which candidates it competes with; none: all.
    """
    own = scores[np.arange(len(at)), at][:, None]
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < at[:, None]))
    if among is not None:
        ahead &= among
    return (1 + ahead.sum(axis=1)).astype(np.float64)


def within(scores: Scores, other: Scores, among: Bool[np.ndarray, "users candidates"]) -> Values:
    """Each user's rank correlation (Spearman) of two scores over some of the candidates; nan where one does not vary."""
    found = np.full(len(scores), np.nan)
    for n, mask in enumerate(among):
        if mask.sum() > 2:
            one, two = _ranked(scores[n, mask]), _ranked(other[n, mask])
            if one.std() > 0 and two.std() > 0:
                found[n] = np.corrcoef(one, two)[0, 1]
    return found


def _ranked(values: Float[np.ndarray, " candidates"]) -> Float[np.ndarray, " candidates"]:
    """Ranks, those of equal values averaged."""
    below = (values[:, None] > values[None, :]).sum(axis=1)
    alike = (values[:, None] == values[None, :]).sum(axis=1)
    found: Float[np.ndarray, " candidates"] = below + alike / 2
    return found


def cold_figures(lists: Lists, scores: Sequence[Mapping[str, Scores]]) -> dict[str, Any]:
    """All figures.

    Args:
        lists: what was asked.
        scores: of each run by system; nan for users whom a system was not asked about.
    """
    cold, warm = lists.of_cold, ~lists.of_cold & lists.first
    log_counts = np.log1p(lists.counts).astype(np.float64)

    def mean(of: Callable[[Scores], Values], name: str) -> Values:
        found: Values = np.mean([of(one[name]) for one in scores], axis=0)
        return np.where(np.isnan(scores[0][name]).any(axis=1), np.nan, found)

    def hit(name: str, weight: float = 0.0, among: Bool[np.ndarray, "users candidates"] | None = None) -> Values:
        return mean(lambda s: (places(s - weight * log_counts, lists.at, among) == 1).astype(np.float64), name)

    rows = {}
    for name in scores[0]:
        first_cold = mean(lambda s: lists.cold[np.arange(len(s)), s.argmax(axis=1)].astype(np.float64), name)
        against = {kind: mean(lambda s, of=of: _above(s, lists.at, of), name)
                   for kind, of in (("warm", ~lists.cold), ("cold", lists.cold))}  # fmt: skip
        by_count = {
            kind: mean(lambda s, of=of: within(s, log_counts, of), name)
            for kind, of in (("all", np.ones_like(lists.cold)), ("cold", lists.cold), ("warm", ~lists.cold))
        }
        everybody = lists.first if not np.isnan(scores[0][name]).any() else np.zeros_like(lists.first)
        rows[name] = {
            "Hit@1": _figure(hit(name)[cold]),
            "less CF": _less(hit(name)[cold], hit(CF)[cold]),
            "Hit@1 among cold candidates": _figure(hit(name, among=lists.cold)[cold]),
            "among cold less CF": _less(hit(name, among=lists.cold)[cold], hit(CF, among=lists.cold)[cold]),
            "first choice is cold": {"cold": _figure(first_cold[cold]), "warm": _figure(first_cold[warm & everybody])},
            "ahead of": {kind: _figure(values[cold]) for kind, values in against.items()},
            "correlation with log popularity": {kind: _figure(v[everybody]) for kind, v in by_count.items()},
            "popularity taken out": [
                {"weight": weight, "cold": _figure(hit(name, weight)[cold]), "all": _figure(hit(name, weight)[everybody]),
                 "cold less CF": _less(hit(name, weight)[cold], hit(CF, weight)[cold])}
                for weight in _TAKEN_OUT
            ],
        }  # fmt: skip
    return {
        "users": {"cold": int(cold.sum()), "first": int(lists.first.sum())},
        "cold candidates": float(lists.cold[cold].sum(axis=1).mean()),
        "chance among cold": float((1 / lists.cold[cold].sum(axis=1)).mean()),
        "systems": rows,
        "by rank": _by_rank(lists, scores),
        "either": {
            f"{CF} or {WORDS}": _figure(mean_of_best(lists, scores, (CF, WORDS))),
            f"{CF} or {TITLES}": _figure(mean_of_best(lists, scores, (CF, TITLES))),
        },
    }


def mean_of_best(lists: Lists, scores: Sequence[Mapping[str, Scores]], names: Sequence[str]) -> Values:
    """Of users with a cold target: whether any of the systems has it first."""
    cold = lists.of_cold
    found: Values = np.mean(
        [np.max([places(one[name], lists.at)[cold] == 1 for name in names], axis=0) for one in scores], axis=0
    )
    return found


def _by_rank(lists: Lists, scores: Sequence[Mapping[str, Scores]]) -> list[dict[str, Any]]:
    """A-LLMRec's Hit@1 on cold targets by where the CF model and the similarity of titles have them; users of all runs together."""
    cold = lists.of_cold
    ranks = {
        name: np.concatenate([places(one[name], lists.at)[cold] for one in scores]) for name in (TITLES, CF, WORDS)
    }
    rows = []
    for name in (CF, WORDS):
        for low, high in ((1, 1), (2, 5), (6, 20)):
            of = (ranks[name] >= low) & (ranks[name] <= high)
            if of.any():
                rows.append({"system": name, "from": low, "to": high, "share": float(of.mean()),
                             "Hit@1": _figure((ranks[TITLES][of] == 1).astype(np.float64)),
                             "Hit@5": _figure((ranks[TITLES][of] <= 5).astype(np.float64))})  # fmt: skip
    return rows


def _above(scores: Scores, at: Int[np.ndarray, " users"], among: Bool[np.ndarray, "users candidates"]) -> Values:
    """Share of some of the other candidates that the target is ahead of; nan where there are none."""
    others = among.copy()
    others[np.arange(len(at)), at] = False
    count = others.sum(axis=1)
    share: Values = np.where(count > 0, 1 - (places(scores, at, others) - 1) / np.maximum(count, 1), np.nan)
    return share


def _figure(values: Values) -> Figure | None:
    """Of those who have a value; none of nobody."""
    having = values[~np.isnan(values)]
    return figure(bootstrap_mean(having, numpy_generator(0, "titles cold"))) if len(having) else None


def _less(values: Values, reference: Values) -> Figure:
    return figure(paired_difference(values, reference, numpy_generator(0, "titles cold")))


def scores_of(run: Run, protocol: EvaluationProtocol, rows: Int[np.ndarray, " asked"]) -> dict[str, Scores]:
    """Each system's scores."""
    queries = protocol.queries(run.split)
    asked, shown = [queries[n] for n in rows], protocol.candidates[rows]
    of_cold = cold_and_warm_items(run.split)[0][protocol.targets[rows]]
    ranker = run.ranker()
    ranker.eval()
    ranker.keeps_items = True
    cold = torch.from_numpy(cold_and_warm_items(run.split)[0])
    tables = {
        TITLES: ranker.joint,
        TEXT: ranker.joint.with_source("text"),
        COLD_TEXT: ranker.joint.with_source(cold),
    }
    found: dict[str, Scores] = {}
    for name, joint in tables.items():
        # Everybody is asked as it was trained; with other vectors those with a cold target.
        of = np.flatnonzero(of_cold | (name == TITLES))
        found[name] = np.full(shown.shape, np.nan)
        found[name][of] = title_scores(ranker.with_joint(joint), [asked[n] for n in of], shown[of], name)
    found[CF] = cf_scores(ranker.backbone, asked, shown).astype(np.float64)
    texts = TextBank(
        load_encoder(run.config.encoder.model_copy(update={"tune": "frozen"})), run.dataset.catalogue.titles
    )
    words = TextSimilarity(TitleSimilarity.of(texts, run.config.systems.text_history))
    found[WORDS] = _in_order(words.rank(asked, list(shown)), shown)
    found[POPULAR] = run.split.train_counts()[shown].astype(np.float64)
    return found


def _in_order(rankings: Sequence[Any], shown: Int[np.ndarray, "users candidates"]) -> Scores:
    """Scores of rankings in the lists' own order."""
    found = np.empty(shown.shape)
    for row, (ranking, items) in enumerate(zip(rankings, shown, strict=True)):
        by_item = dict(zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True))
        found[row] = [by_item[int(item)] for item in items]
    return found


def learned_from(run: Run) -> dict[str, float]:
    """How many of stage 2's training targets, and of the test targets, are cold."""
    cold, _ = cold_and_warm_items(run.split)
    owners, at = training_positions(run.split, run.config.tune.positions)
    targets = run.dataset.item_numbers[run.dataset.offsets[owners] + at]
    counts = run.split.train_counts()
    return {
        "training targets that are cold": float(cold[targets].mean()),
        "test targets that are cold": float(cold[run.split.test].mean()),
        "most interactions of a cold item": int(counts[cold].max()),
    }


def stored(run: Run, protocol: EvaluationProtocol, table: Path) -> dict[str, Any]:
    """What the ranks of a table say: Hit@1 by the length of the target's title, and every way to fill slots on cold targets.

    Args:
        run: whose titles and split the table was measured with.
        protocol: the table's.
        table: its JSON.
    """
    ranks = table_ranks(table, Asked.of(protocol))
    cells = sorted(name for name in cells_of(read_table(table)) if name.startswith("seed-"))
    hits = {
        kind: np.mean([as_ranks(ranks[f"{cell}/{kind}"]) == 1 for cell in cells], axis=0)
        for kind in ("allmrec", "backbone")
    }
    builder = PromptBuilder(
        run.config.tune.prompt.template, run.config.tune.prompt.budget, run.lm, run.dataset.catalogue.titles
    )
    lengths = np.array([len(builder.titles[int(item)]) for item in protocol.targets])
    cold = scenario_masks(protocol, run.split)["cold items"]
    by_length = []
    for low, high in ((1, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8)):
        of = (lengths >= low) & (lengths <= high)
        by_length.append({"from": low, "to": high, "users": int(of.sum()), "cold": int((of & cold).sum()),
                          "A-LLMRec": _figure(hits["allmrec"][of]), "less CF": _less(hits["allmrec"][of], hits["backbone"][of])})  # fmt: skip
    against = as_ranks(ranks["seed-0/backbone"][cold])
    slots = {}
    for key in (
        "slots-e/allmrec",
        "slots-e/allmrec-sbert",
        "slots-e/allmrec-cold",
        "seed-0/allmrec",
        "seed-0/backbone",
    ):
        own = as_ranks(ranks[key][cold])
        slots[key] = {"Hit@1": _figure((own == 1).astype(np.float64)), "mean rank": _figure(own),
                      "less CF": _less((own == 1).astype(np.float64), (against == 1).astype(np.float64))}  # fmt: skip
    return {"by length": by_length, "slots": slots}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--users", type=int, default=1000, help="of all, beside everybody with a cold target")
    parser.add_argument(
        "--table", type=Path, default=RESULTS / "titles" / "movietweetings.json", help="whose ranks are read"
    )
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "titles-cold.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = measured_by("titles_cold")
    scores = []
    for place in arguments.runs:
        run = Run.open(place, "cpu")
        protocol = draw_protocol(run.split, "test", None, 20, 0)
        lists, rows = Lists.of(run, protocol, arguments.users)
        scores.append(scores_of(run, protocol, rows))
    found = cold_figures(lists, scores)
    found |= {"stored": stored(run, protocol, arguments.table)}
    write_result(arguments.output, about | {"runs": len(scores), "learned_from": learned_from(run)} | found)
    table = Table("system", "cold Hit@1", "less CF", "among cold", "first is cold", "ahead of warm", "ahead of cold")
    for name, row in found["systems"].items():
        table.add_row(name, shown(row["Hit@1"]), shown(row["less CF"], "+"), shown(row["Hit@1 among cold candidates"]),
                      shown(row["first choice is cold"]["cold"]), *(shown(row["ahead of"][k]) for k in ("warm", "cold")))  # fmt: skip
    Console(width=200).print(table)


if __name__ == "__main__":
    main()

"""Why cold targets are not won by titles: `python -m benchmarks.titles_cold RUN`, of a run with a trained stage 2.

Cold targets are those of `scenario_masks` (the 35 % of items with the fewest training interactions). Two things are read. The ranks that
a table of `benchmarks.titles` keeps say, for everybody with a cold target and of all seeds, where each system has it. And for the first
`--users` of them every candidate is scored anew by the run, which tells apart whether a cold item can come first at all against
warm ones, whether the right one is found among the cold ones, and what is left once popularity is taken out of the scores.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
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
from allmrec.systems.baselines import TextSimilarityConfig
from allmrec.systems.kinds import Settings
from allmrec.text.bank import TextBank
from allmrec.text.encoder import load_encoder
from allmrec.text.similarity import TitleSimilarity
from benchmarks.about import measured_by
from benchmarks.figures import Figure, figure, shown
from benchmarks.rank_files import Asked, Kept, as_ranks
from benchmarks.tables import RESULTS, cells_of, read_table, table_ranks, write_result
from benchmarks.titles_why import cf_scores, title_scores

__all__ = ["Lists", "cold_figures", "places", "stored_figures", "within"]

TITLES, CF, WORDS, POPULAR = "A-LLMRec", "CF model", "Text similarity", "Popularity"
_TAKEN_OUT = (0.0, 0.5, 1.0)
# What fills slots: cell and system of the table.
_SLOTS = {
    "e": "slots-e/allmrec", "q in their place": "slots-e/allmrec-sbert", "the cold rule's": "slots-e/allmrec-cold",
    "e and q": "seed-0/allmrec", "none: the CF model itself": "seed-0/backbone",
}  # fmt: skip
# Ranks that are told apart, and lengths of titles in tokens.
_PLACES = ((1, 1), (2, 5), (6, 20))
_LENGTHS = ((1, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8))

Scores = Float[np.ndarray, "users candidates"]
Values = Float[np.ndarray, " users"]


@dataclass(frozen=True)
class Lists:
    """Lists with a cold target.

    Attributes:
        at: the target's place in each list.
        counts: training interactions of each candidate.
        cold: whether a candidate is cold.
    """

    at: Int[np.ndarray, " users"]
    counts: Int[np.ndarray, "users candidates"]
    cold: Bool[np.ndarray, "users candidates"]

    @classmethod
    def of(cls, run: Run, protocol: EvaluationProtocol, rows: Int[np.ndarray, " asked"]) -> Lists:
        """These rows of the protocol."""
        shown_items = protocol.candidates[rows]
        at = np.argmax(shown_items == protocol.targets[rows, None], axis=1)
        cold, _ = cold_and_warm_items(run.split)
        return cls(at, run.split.train_counts()[shown_items], cold[shown_items])


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


def cold_figures(lists: Lists, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Figures of each system's scores of lists with a cold target."""
    log_counts = np.log1p(lists.counts).astype(np.float64)

    def hit(name: str, weight: float = 0.0, among: Bool[np.ndarray, "users candidates"] | None = None) -> Values:
        return (places(scores[name] - weight * log_counts, lists.at, among) == 1).astype(np.float64)

    systems = {}
    for name, own in scores.items():
        first = lists.cold[np.arange(len(own)), own.argmax(axis=1)].astype(np.float64)
        systems[name] = {
            "Hit@1": _figure(hit(name)),
            "Hit@1 among cold candidates": _figure(hit(name, among=lists.cold)),
            "among cold less CF": _less(hit(name, among=lists.cold), hit(CF, among=lists.cold)),
            "first choice is cold": _figure(first),
            "ahead of": {"warm": _figure(_ahead(own, lists.at, ~lists.cold)), "cold": _figure(_ahead(own, lists.at, lists.cold))},
            "correlation with log popularity": {
                "all": _figure(within(own, log_counts, np.ones_like(lists.cold))),
                "cold": _figure(within(own, log_counts, lists.cold)),
                "warm": _figure(within(own, log_counts, ~lists.cold)),
            },
            "popularity taken out": [
                {"weight": weight, "Hit@1": _figure(hit(name, weight)), "less CF": _less(hit(name, weight), hit(CF, weight))}
                for weight in _TAKEN_OUT
            ],
        }  # fmt: skip
    return {
        "users": len(lists.at),
        "cold candidates": float(lists.cold.sum(axis=1).mean()),
        "chance among cold": float((1 / lists.cold.sum(axis=1)).mean()),
        "systems": systems,
    }


def _ahead(scores: Scores, at: Int[np.ndarray, " users"], among: Bool[np.ndarray, "users candidates"]) -> Values:
    """Share of some of the other candidates that the target is ahead of; nan where there are none."""
    others = among.copy()
    others[np.arange(len(at)), at] = False
    count = others.sum(axis=1)
    share: Values = np.where(count > 0, 1 - (places(scores, at, others) - 1) / np.maximum(count, 1), np.nan)
    return share


def stored_figures(
    ranks: Mapping[str, Kept],
    cells: Sequence[str],
    cold: Bool[np.ndarray, " users"],
    words: Values,
    lengths: Int[np.ndarray, " users"],
) -> dict[str, Any]:
    """What stored ranks say.

    Args:
        ranks: of a table of `benchmarks.titles`, by cell and system.
        cells: its seeds; a user's value is the mean over them.
        cold: users with a cold target.
        words: the target's rank by similarity of titles.
        lengths: tokens of the target's title as prompts show it.
    """
    own, cf = ([as_ranks(ranks[f"{cell}/{system}"]) for cell in cells] for system in ("allmrec", "backbone"))
    by_system = {TITLES: own, CF: cf, WORDS: [words], POPULAR: [as_ranks(ranks["seed-0/popularity"])]}
    systems = {}
    for name, found in by_system.items():
        mean, hits = np.mean(found, axis=0), np.mean([one == 1 for one in found], axis=0)
        popular = by_system[POPULAR][0]
        systems[name] = {
            "cold Hit@1": _figure(hits[cold]),
            "less CF": _less(hits[cold], np.mean([one == 1 for one in cf], axis=0)[cold]),
            "cold Hit@5": _figure(np.mean([one <= 5 for one in found], axis=0)[cold]),
            "cold mean rank": _figure(mean[cold]),
            "other mean rank": _figure(mean[~cold]),
            "follows popularity": _correlation(mean, popular),
        }
    slots = {}
    against = (as_ranks(ranks["seed-0/backbone"][cold]) == 1).astype(np.float64)
    for name, key in _SLOTS.items():
        if key in ranks:
            found_ranks = as_ranks(ranks[key][cold])
            hits = (found_ranks == 1).astype(np.float64)
            slots[name] = {"run": key.split("/")[0], "Hit@1": _figure(hits), "less CF": _less(hits, against),
                           "mean rank": _figure(found_ranks)}  # fmt: skip
    either = np.mean([(one == 1) | (words == 1) for one in cf], axis=0)
    return {
        "cold users": int(cold.sum()), "seeds": len(cells), "systems": systems, "slots": slots,
        "CF or words first": _figure(either[cold]),
        "by rank": _by_rank(own, cf, words, cold),
        "by length": _by_length(own, cf, lengths, cold),
    }  # fmt: skip


def _by_rank(
    own: Sequence[Values], cf: Sequence[Values], words: Values, cold: Bool[np.ndarray, " users"]
) -> list[dict[str, Any]]:
    """A-LLMRec on cold targets by where the CF model and the similarity of titles have them; the seeds' users together."""
    ours = np.concatenate([one[cold] for one in own])
    rows = []
    for name, found in ((CF, cf), (WORDS, [words] * len(own))):
        theirs = np.concatenate([one[cold] for one in found])
        for low, high in _PLACES:
            of = (theirs >= low) & (theirs <= high)
            rows.append({"system": name, "from": low, "to": high, "share": float(of.mean()),
                         "Hit@1": _figure((ours[of] == 1).astype(np.float64)), "Hit@5": _figure((ours[of] <= 5).astype(np.float64)),
                         "mean rank": _figure(ours[of])})  # fmt: skip
    return rows


def _by_length(
    own: Sequence[Values], cf: Sequence[Values], lengths: Int[np.ndarray, " users"], cold: Bool[np.ndarray, " users"]
) -> list[dict[str, Any]]:
    """Hit@1 of all users by tokens of the target's title; lengths that nobody has are left out."""
    ours, theirs = (np.mean([one == 1 for one in found], axis=0) for found in (own, cf))
    rows = []
    for low, high in _LENGTHS:
        of = (lengths >= low) & (lengths <= high)
        if of.any():
            rows.append({"from": low, "to": high, "users": int(of.sum()), "cold": int((of & cold).sum()), TITLES: _figure(ours[of]),
                         "less CF": _less(ours[of], theirs[of])})  # fmt: skip
    return rows


def _correlation(one: Values, other: Values, resamples: int = 1000) -> Figure:
    """Over users, with its interval; 0 where one does not vary."""
    rng, n = numpy_generator(0, "titles cold", "correlation"), len(one)
    if one.std() == 0 or other.std() == 0:
        return [0.0, 0.0, 0.0]
    # Of few users some resamples do not vary.
    with np.errstate(invalid="ignore"):
        drawn = [
            np.corrcoef(one[rows], other[rows])[0, 1] for rows in (rng.integers(0, n, n) for _ in range(resamples))
        ]
    ends = np.nanquantile(drawn, [0.025, 0.975])
    return [round(float(v), 8) for v in (np.corrcoef(one, other)[0, 1], *ends)]


def _figure(values: Values) -> Figure | None:
    """Of those who have a value; none of nobody."""
    having = values[~np.isnan(values)]
    return figure(bootstrap_mean(having, numpy_generator(0, "titles cold"))) if len(having) else None


def _less(values: Values, reference: Values) -> Figure:
    return figure(paired_difference(values, reference, numpy_generator(0, "titles cold")))


def words_of(run: Run) -> TextSimilarity:
    """Similarity of titles by the encoder as it comes."""
    encoder = load_encoder(run.config.encoder.model_copy(update={"tune": "frozen"}))
    settings = Settings("text-similarity", TextSimilarityConfig).of(run.config)
    return TextSimilarity(TitleSimilarity.of(TextBank(encoder, run.dataset.catalogue.titles), settings.max_history))


def scores_of(
    run: Run, words: TextSimilarity, protocol: EvaluationProtocol, rows: Int[np.ndarray, " asked"]
) -> dict[str, Scores]:
    """Each system's scores of these rows of the protocol."""
    queries = protocol.queries(run.split)
    asked, shown_items = [queries[n] for n in rows], protocol.candidates[rows]
    ranker = run.ranker()
    ranker.eval()
    with ranker.keeping_items():
        by_titles = title_scores(ranker, asked, shown_items, TITLES)
    return {
        TITLES: by_titles.astype(np.float64),
        CF: cf_scores(ranker.backbone, asked, shown_items).astype(np.float64),
        WORDS: _in_order(words.rank(asked, list(shown_items)), shown_items),
        POPULAR: run.split.train_counts()[shown_items].astype(np.float64),
    }


def _in_order(rankings: Sequence[Any], items: Int[np.ndarray, "users candidates"]) -> Scores:
    """Scores of rankings in the lists' own order."""
    found = np.empty(items.shape)
    for row, (ranking, own) in enumerate(zip(rankings, items, strict=True)):
        by_item = dict(zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True))
        found[row] = [by_item[int(item)] for item in own]
    return found


def learned_from(run: Run) -> dict[str, float]:
    """How many of stage 2's training targets, and of the test targets, are cold."""
    cold, _ = cold_and_warm_items(run.split)
    owners, at = training_positions(run.split, run.config.tune.positions)
    targets = run.dataset.item_numbers[run.dataset.offsets[owners] + at]
    return {
        "training_cold": float(cold[targets].mean()),
        "test_cold": float(cold[run.split.test[run.split.test > 0]].mean()),
        "most_interactions": int(run.split.train_counts()[cold].max()),
    }


def stored(run: Run, words: TextSimilarity, protocol: EvaluationProtocol, table: Path) -> dict[str, Any]:
    """`stored_figures` of a table that was measured on this run's data."""
    ranks = table_ranks(table, Asked.of(protocol))
    cells = sorted(name for name in cells_of(read_table(table)) if name.startswith("seed-"))
    prompt = run.config.tune.prompt
    builder = PromptBuilder(prompt.template, prompt.budget, run.lm, run.dataset.catalogue.titles)
    lengths = np.array([len(builder.titles[int(item)]) for item in protocol.targets])
    by_words = _in_order(words.rank(protocol.queries(run.split), list(protocol.candidates)), protocol.candidates)
    at = np.argmax(protocol.candidates == protocol.targets[:, None], axis=1)
    cold = scenario_masks(protocol, run.split)["cold items"]
    return stored_figures(ranks, cells, cold, places(by_words, at), lengths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--users", type=int, default=120, help="with a cold target, whose candidates are scored anew; 0: none"
    )
    parser.add_argument(
        "--table", type=Path, default=RESULTS / "titles" / "movietweetings.json", help="whose ranks are read"
    )
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "titles-cold.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = measured_by("titles_cold")
    run = Run.open(arguments.run, "cpu")
    protocol = draw_protocol(run.split, "test", None, 20, 0)
    words = words_of(run)
    found = about | {"learned_from": learned_from(run), "stored": stored(run, words, protocol, arguments.table)}
    # What is there is kept, whatever becomes of the rest.
    write_result(arguments.output, found)
    rows = np.flatnonzero(scenario_masks(protocol, run.split)["cold items"])[: arguments.users]
    if not len(rows):
        return
    scored = cold_figures(Lists.of(run, protocol, rows), scores_of(run, words, protocol, rows))
    write_result(arguments.output, found | {"scored": scored})
    table = Table("system", "cold Hit@1", "among cold", "first is cold", "ahead of warm", "ahead of cold")
    for name, row in scored["systems"].items():
        table.add_row(name, *(shown(row[key]) for key in ("Hit@1", "Hit@1 among cold candidates", "first choice is cold")),
                      *(shown(row["ahead of"][kind]) for kind in ("warm", "cold")))  # fmt: skip
    Console(width=160).print(table)


if __name__ == "__main__":
    main()

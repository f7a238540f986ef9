"""Systems asked in words which genres an item has and which a user likes (A-LLMRec, Figures 4 and 5)."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

from allmrec.baselines.tallrec import TALLRec
from allmrec.core.errors import ConfigError, DataError
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.evaluation.genres import genre_scores, item_genres, majority_genres
from allmrec.experiments.answers import GENRE_QUESTIONS, Words, genre_metrics
from allmrec.experiments.scenarios import Asking, renumbered
from allmrec.pipeline.run import Run
from allmrec.prompting.questions import Question
from allmrec.recommend.explain import Explainer, PromptReader
from allmrec.stages.tune import allmrec_stages
from allmrec.systems.kinds import System
from allmrec.systems.registry import system_kind

__all__ = ["ask_genres", "check_genres", "check_speaks", "genre_users"]

_WORDS_ALONE = ("llm-only", "tallrec")


def check_speaks(system: str, exchanged: bool) -> None:
    """Refuse a system that cannot say anything, or has no vectors to exchange.

    Raises:
        ConfigError: names the systems that can be asked.
    """
    own = system_kind(system).stages is allmrec_stages
    if exchanged and not own:
        raise ConfigError(f"{system} has no vectors that could be exchanged; only systems of A-LLMRec have.")
    if not own and system not in _WORDS_ALONE:
        raise ConfigError(
            f"{system} speaks no words, so it cannot be asked for genres. Systems that can: those of A-LLMRec (allmrec, "
            f"allmrec-sbert, …), {', '.join(_WORDS_ALONE)}."
        )


def genre_users(split: Split) -> Bool[np.ndarray, " users"]:
    """Users of whom genres are known: of their test item, and of something in their history."""
    known = np.array([any(row) for row in split.dataset.catalogue.categories], dtype=bool)
    histories = [known[split.test_history(user)].any() for user in range(split.dataset.n_users)]
    found: Bool[np.ndarray, " users"] = (split.test != 0) & known[split.test] & np.array(histories, dtype=bool)
    return found


def check_genres(name: str, dataset: InteractionDataset) -> None:
    """Refuse data of which no genres are known.

    Raises:
        DataError: fewer than two users could be asked about.
    """
    if genre_users(leave_one_out(dataset)).sum() < 2:
        raise DataError(
            f"The data {name} know no genres: no two users have categories both for their test item and in their history, so "
            "nothing that is said could be right. Prepare the data with a column of categories (docs/data.md)."
        )


def ask_genres(
    run: Run, system: System, asking: Asking, known: Int64[np.ndarray, " users"], exchanged: bool
) -> tuple[Words, float]:
    """Let a system say the genres of each test item, and those that each user likes.

    Args:
        run: trained.
        system: of that run; one that `check_speaks` lets pass.
        asking: users of whom genres are known, see `genre_users`.
        known: the users' numbers in the run's data, as of `Situation`.
        exchanged: whether every slot carries what belongs to another user or item.

    Returns:
        What it said, and the seconds that it took.

    Raises:
        ConfigError: a prompt does not fit, or the system does not speak.
    """
    catalogue, config = asking.split.dataset.catalogue, run.config.answer.explain
    queries = renumbered(asking.protocol.queries(asking.split), known)
    items = [int(item) for item in asking.protocol.targets]
    reader, name = _reader(system), system.ranker.name

    def said(question: Question, asked: Sequence[int] | None, what: str) -> list[str]:
        rng = numpy_generator(0, "genres", "exchange") if exchanged else None
        return Explainer(reader, question, config).texts(queries, asked, shuffle=rng, description=f"{name} {what}")

    begun = time.perf_counter()
    of_items, of_users = said(config.genres, items, "of items"), said(config.profile, None, "of users")
    seconds = time.perf_counter() - begun
    of_targets, of_histories = item_genres(items, catalogue), majority_genres([q.history for q in queries], catalogue)
    pairs = (of_items, of_targets), (of_users, of_targets), (of_users, of_histories)
    scores: dict[str, Float64[np.ndarray, " users"]] = {}
    for metric, (texts, right) in zip(GENRE_QUESTIONS, pairs, strict=True):
        found = genre_scores(texts, right, catalogue)
        values = (found.precision, found.precision - found.base_rate, found.named)
        scores |= dict(zip(genre_metrics(metric), values, strict=True))
    return Words(scores, of_items, of_users), seconds


def _reader(system: System) -> PromptReader:
    """What reads a system's prompts."""
    if system.answers is not None:
        return system.answers.prompted
    ranker: object = system.ranker
    if isinstance(ranker, TALLRec):
        return ranker.reader
    if isinstance(ranker, PromptReader):
        return ranker
    raise ConfigError(f"{system.ranker.name} speaks no words, so it cannot be asked for genres.")

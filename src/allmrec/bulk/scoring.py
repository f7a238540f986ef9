"""Scoring in bulk: one row a user, written block by block; a call that was cut off goes on where it stood."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from allmrec.bulk.block import Block, BlockScorer
from allmrec.bulk.folder import BulkFolder
from allmrec.bulk.job import BulkJob, usual_block
from allmrec.core.errors import ConfigError, UnknownIdError
from allmrec.core.interrupts import interrupts_postponed
from allmrec.core.locking import held
from allmrec.core.log import logger
from allmrec.core.progress import progress_bar
from allmrec.data.ids import Id, id_texts
from allmrec.data.interactions import InteractionDataset
from allmrec.pipeline.run import Log, Run
from allmrec.recommend.request import Request, resolve_users
from allmrec.systems.recommending import chosen_system, known_items

__all__ = ["BulkResult", "Engine", "in_this_process", "recommend_users"]


@runtime_checkable
class Engine(Protocol):
    """Answers blocks of a job, in any order."""

    def __call__(
        self, job: BulkJob, blocks: Sequence[int], advance: Callable[[int], None], log: Log
    ) -> Iterator[Block]:
        """Each of these blocks once.

        Args:
            job: what is asked.
            blocks: their numbers.
            advance: takes how many more users are answered.
            log: takes a line about what is not as might be expected.
        """
        ...


@dataclass(frozen=True)
class BulkResult:
    """What was written.

    Attributes:
        path: the folder.
        users: rows, one a user.
        blocks: files.
        found: blocks that an earlier call had written.
        answered_by: how many users each system answered, most first.
        skipped: unknown ids that were left out, of users and of lists.
        repeated: how many users were named more than once; each has one row.
        seconds: that this call took.
    """

    path: Path
    users: int
    blocks: int
    found: int
    answered_by: dict[str, int]
    skipped: tuple[str, ...]
    repeated: int
    seconds: float


def in_this_process(job: BulkJob, blocks: Sequence[int], advance: Callable[[int], None], log: Log) -> Iterator[Block]:
    """The engine that needs nothing: one block after the other, here."""
    scorer = BlockScorer(job, log)
    for number in blocks:
        yield scorer.block(number, advance)


def recommend_users(
    run: Run,
    output: Path | str,
    users: Iterable[Id] | None = None,
    *,
    k: int = 10,
    candidates: int | None = None,
    allow: Iterable[Id] | None = None,
    deny: Iterable[Id] = (),
    exclude_seen: bool = True,
    unknown: Literal["fail", "skip"] = "fail",
    system: str | None = None,
    titles: bool = False,
    block: int | None = None,
    engine: Engine = in_this_process,
    anew: bool = False,
    log: Log = logger.info,
) -> BulkResult:
    """Recommend for many users, and write one row a user as Parquet.

    A block of users is a file, which has its name only when it is whole. The same call goes on behind the blocks that stand there.

    Args:
        run: a trained run.
        output: the folder to write to.
        users: ids of the data set; None: all its users, in the order of their numbers. Whoever is named twice has one row.
        k, candidates, allow, deny, exclude_seen: as of a `Request`.
        unknown: what to do with unknown ids, of users as well: fail, or leave them out and name them in the result.
        system: of SYSTEMS; None: A-LLMRec where it is trained, else the one that is.
        titles: whether titles are written beside ids.
        block: users of a block; None: 512 where the language model is asked, else 16,384.
        engine: answers blocks.
        anew: whether to remove an earlier call's blocks first.
        log: takes a line about what is not as might be expected.

    Raises:
        ConfigError: an unknown system, nobody to recommend for, or a folder that holds something else or recommendations that were
            made otherwise.
        UnknownIdError: ids that the data set does not hold, unless they are to be skipped.
        ArtifactError: a stage is missing, of other inputs, or damaged.
        RunInUseError: another process writes to the folder.
        NoSpaceError: the disk is full; blocks that are finished stay.
    """
    began, output = time.monotonic(), Path(output)
    request = Request((), None, k, candidates, allow, deny, exclude_seen, unknown)
    numbers, skipped, repeated = _numbers(run.dataset, users, unknown)
    name = chosen_system(run, system, log)
    job = BulkJob(run, name, request, numbers, usual_block(name) if block is None else _positive(block), titles)
    # Ids of the lists are looked up before anything is loaded or written.
    skipped += resolve_users(known_items(run), request, ())[1]
    if not len(numbers):
        raise ConfigError(
            f"There is nobody to recommend for: {run.path} holds {run.dataset.n_users:,} users, and none of them is asked for. A "
            "saved recommender holds none."
        )
    folder = BulkFolder(output, job)
    # Before anything is written there, the lock too.
    folder.check_ours()
    with held(output, "being written"):
        done = folder.begin(anew)
        found, missing = len(done), [number for number in range(job.n_blocks) if number not in done]
        if missing:
            behind = sum(one.users for one in done.values())
            with progress_bar("Recommending", len(numbers), behind) as bar:
                for one in engine(job, missing, lambda count: bar.advance(count), log):
                    with interrupts_postponed():
                        done[one.number] = folder.write(one)
        about = folder.finish(done, time.monotonic() - began)
    return BulkResult(
        output, about["rows"], job.n_blocks, found, about["answered_by"], skipped, repeated, time.monotonic() - began
    )


def _numbers(
    data: InteractionDataset, users: Iterable[Id] | None, unknown: str
) -> tuple[Int64[np.ndarray, " users"], tuple[str, ...], int]:
    """User numbers, each once; unknown ids that are left out; how many were named again."""
    if users is None:
        return np.arange(data.n_users, dtype=np.int64), (), 0
    names = id_texts(users, "users", "user")
    skipped: tuple[str, ...] = ()
    if unknown == "skip":
        skipped = tuple(dict.fromkeys(name for name in names if name not in data.users))
        names = [name for name in names if name in data.users]
    once = list(dict.fromkeys(names))
    try:
        numbers = data.users.numbers(once)
    except UnknownIdError as error:
        raise UnknownIdError(
            f"{error} Correct the list, or leave out whom the data does not hold: unknown='skip' (--skip-unknown)."
        ) from None
    return np.array(numbers, dtype=np.int64), skipped, len(names) - len(once)


def _positive(block: int) -> int:
    if block < 1:
        raise ConfigError(f"A block of {block} users was asked for; expected at least 1.")
    return block

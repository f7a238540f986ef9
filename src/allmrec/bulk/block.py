"""One block: its users' answers as a Parquet file in memory, and reading such a file back with all its checks."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from allmrec.bulk.job import BulkJob
from allmrec.core.log import logger
from allmrec.pipeline.run import Log
from allmrec.recommend.recommender import Recommender
from allmrec.recommend.request import Recommendations, resolve_users
from allmrec.systems.recommending import recommender

__all__ = ["NOBODY", "Block", "BlockScorer", "read_block"]

# Users who are answered together: as many as one matrix product holds.
_AT_A_TIME = 256

# How the manifest counts rows without an item.
NOBODY = "nobody"

# In the file's own metadata.
_KEY, _NUMBER = b"allmrec.key", b"allmrec.block"


@dataclass(frozen=True)
class Block:
    """A block that was answered.

    Attributes:
        number: from 0.
        content: the Parquet file.
        users: how many rows it has.
        answered_by: how many users each system answered; NOBODY for those to whom nothing is left to recommend.
    """

    number: int
    content: bytes
    users: int
    answered_by: Mapping[str, int]


class BlockScorer:
    """Answers blocks with one recommender, which is loaded once.

    Args:
        job: what is asked.
        log: takes a line where another system retrieves than might be expected.

    Raises:
        ConfigError: the run cannot have the system.
        ArtifactError: a stage that it needs is missing, of other inputs, or damaged.
    """

    def __init__(self, job: BulkJob, log: Log = logger.info) -> None:
        self._job = job
        self._recommender: Recommender = recommender(job.run, job.system, log)

    def block(self, number: int, advance: Callable[[int], None] = lambda users: None) -> Block:
        """Answer a block.

        Args:
            number: from 0.
            advance: takes how many more users are answered.
        """
        job, found = self._job, list[Recommendations]()
        users = job.users_of(number)
        requests, _ = resolve_users(self._recommender.dataset, job.request, users.tolist())
        for start in range(0, len(requests), _AT_A_TIME):
            answers = self._recommender.answer(requests[start : start + _AT_A_TIME])
            found += answers
            advance(len(answers))
        ids = [job.run.dataset.users.id(user) for user in users.tolist()]
        table = _table(ids, found, job.titles).replace_schema_metadata({_KEY: job.key, _NUMBER: str(number)})
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        return Block(number, file.getvalue(), len(ids), _counted(table))


def _table(users: Sequence[str], answers: Sequence[Recommendations], titles: bool) -> pa.Table:
    """One row a user."""
    columns = {
        "user_id": pa.array(users, pa.string()),
        "item_ids": pa.array([[item.item_id for item in answer] for answer in answers], pa.list_(pa.string())),
        "scores": pa.array([[item.score for item in answer] for answer in answers], pa.list_(pa.float32())),
    }
    if titles:
        columns["titles"] = pa.array([[item.title for item in answer] for answer in answers], pa.list_(pa.string()))
    columns["answered_by"] = pa.array([answer.answered_by for answer in answers], pa.string())
    columns["note"] = pa.array([answer.note for answer in answers], pa.string())
    return pa.table(columns)


def _counted(table: pa.Table) -> dict[str, int]:
    return dict(Counter(name or NOBODY for name in table.column("answered_by").to_pylist()))


def read_block(path: Path, job: BulkJob, number: int) -> Block | None:
    """A block that stands on disk; None where it is damaged, of another job, or of other users than it should be.

    Args:
        path: of the file.
        job: what is asked.
        number: of the block.
    """
    try:
        content = path.read_bytes()
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True, partitioning=None)
        about = table.schema.metadata or {}
        if about.get(_KEY) != job.key.encode() or about.get(_NUMBER) != str(number).encode():
            return None
        wanted = pa.array([job.run.dataset.users.id(user) for user in job.users_of(number).tolist()], pa.string())
        if not pc.all(pc.equal(table.column("user_id").combine_chunks(), wanted)).as_py():
            return None
        return Block(number, content, table.num_rows, _counted(table))
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None

"""The folder that recommendations are written to: a Parquet file a block, and a manifest that says what they were made of."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from allmrec.bulk.block import Block, read_block
from allmrec.bulk.job import FORMAT_VERSION, BulkJob
from allmrec.core.artifacts import atomic_write, read_json, sweep, write_json
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.core.places import check_folder
from allmrec.core.progress import track

__all__ = ["MANIFEST", "BulkFolder", "Written"]

# Programs that read a folder of Parquet files leave out names that begin so.
MANIFEST = "_manifest.json"

_KIND = "allmrec recommendations"

# Differences that a message names, and the groups of `BulkJob.made_of` that a command says itself.
_NAMED = 5
_ASKED = ("system", "request", "users", "block")


@dataclass(frozen=True)
class Written:
    """A block that stands on disk.

    Attributes:
        file: its name.
        users: how many rows it has.
        sha256: of the file.
        answered_by: how many users each system answered.
    """

    file: str
    users: int
    sha256: str
    answered_by: Mapping[str, int]


class BulkFolder:
    """Blocks of one job in a folder. The caller holds it (`core.locking`).

    Args:
        path: the folder.
        job: what is written there.
    """

    def __init__(self, path: Path, job: BulkJob) -> None:
        self.path, self._job = path, job
        self._manifest = path / MANIFEST

    def begin(self, anew: bool = False) -> dict[int, Written]:
        """Make the folder ready, and say which blocks stand there already, whole.

        Args:
            anew: remove what an earlier job left.

        Raises:
            ConfigError: the folder holds something else, or recommendations made otherwise.
            ArtifactError: the manifest is damaged, or of another format.
        """
        self.check_ours()
        sweep(self.path)
        if anew:
            for path in (self._manifest, *self._blocks()):
                path.unlink(missing_ok=True)
        if self._manifest.is_file():
            self._check_same(read_json(self._manifest))
        elif self._blocks():
            raise ConfigError(
                f"{self.path} holds blocks of recommendations without {MANIFEST}, which says what they were made of. Give another "
                "folder with -o, or start anew with --anew."
            )
        else:
            write_json(self._manifest, self._about())
        done = {}
        there = [number for number in range(self._job.n_blocks) if self._path(number).is_file()]
        for number in track(there, "Checking blocks that are there"):
            if (block := read_block(self._path(number), self._job, number)) is not None:
                done[number] = _written(self._path(number).name, block)
        return done

    def write(self, block: Block) -> Written:
        """Write a block, whole or not at all.

        Raises:
            NoSpaceError: the disk is full.
        """
        path = self._path(block.number)
        atomic_write(path, block.content)
        return _written(path.name, block)

    def finish(self, written: Mapping[int, Written], seconds: float) -> dict[str, Any]:
        """Write the manifest of a job that is done.

        Args:
            written: every block.
            seconds: that this call took.

        Returns:
            What stands in it.

        Raises:
            ArtifactError: a block is missing, or has other rows than one a user.
        """
        job = self._job
        blocks = [written.get(number) for number in range(job.n_blocks)]
        whole = [block for block in blocks if block is not None]
        users = sum(block.users for block in whole)
        if len(whole) < job.n_blocks or users != len(job.users):
            raise ArtifactError(
                f"{self.path} has {len(whole)} of {job.n_blocks} blocks with {users:,} of {len(job.users):,} users; run the same "
                "command again."
            )
        counts: Counter[str] = Counter()
        for block in whole:
            counts.update(block.answered_by)
        about = self._about() | {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds_of_the_last_call": round(seconds, 1),
            "rows": users,
            "answered_by": dict(counts.most_common()),
            "blocks": [{"file": block.file, "users": block.users, "sha256": block.sha256} for block in whole],
        }
        write_json(self._manifest, about)
        return about

    def _about(self) -> dict[str, Any]:
        job = self._job
        return {
            "kind": _KIND,
            "format": FORMAT_VERSION,
            "key": job.key,
            "run": str(job.run.path),
            "made_of": job.made_of,
            "n_blocks": job.n_blocks,
            "finished": None,
        }

    def _path(self, number: int) -> Path:
        return self.path / f"block-{number:07d}.parquet"

    def _blocks(self) -> list[Path]:
        return sorted(self.path.glob("block-*.parquet"))

    def check_ours(self) -> None:
        """Make sure that recommendations may be written here; nothing is written.

        Raises:
            ConfigError: the folder holds something else, or is none.
        """
        check_folder(self.path)
        if not self.path.exists():
            return
        ours = {MANIFEST, *(path.name for path in self._blocks())}
        for entry in self.path.iterdir():
            if entry.name not in ours and not entry.name.startswith("."):
                raise ConfigError(
                    f"{self.path} holds {entry.name}, which is no block of recommendations. Give another folder with -o."
                )

    def _check_same(self, about: Mapping[str, Any]) -> None:
        if about.get("kind") != _KIND or about.get("format") != FORMAT_VERSION:
            raise ArtifactError(
                f"{self._manifest} has kind {about.get('kind')!r} and format {about.get('format')!r}; expected {_KIND!r} and "
                f"{FORMAT_VERSION}. Give another folder with -o, or start anew with --anew."
            )
        if about.get("key") == self._job.key:
            return
        found = about.get("made_of")
        there, now = dict(_flat(found if isinstance(found, Mapping) else {})), dict(_flat(self._job.made_of))
        names = [name for name in {**there, **now} if there.get(name) != now.get(name)]
        # What was asked for comes first: other stages and settings follow from another system.
        names.sort(key=lambda name: name.partition(".")[0] not in _ASKED)
        shown = "; ".join(f"{name} is {there.get(name)!r} there and {now.get(name)!r} now" for name in names[:_NAMED])
        more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise ConfigError(
            f"{self.path} holds recommendations that were made otherwise: {shown or 'its manifest was changed'}{more}. Give what "
            "was given there, or another folder with -o, or start anew with --anew."
        )


def _written(name: str, block: Block) -> Written:
    return Written(name, block.users, hashlib.sha256(block.content).hexdigest(), block.answered_by)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of nested mappings by their dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

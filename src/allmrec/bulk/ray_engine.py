"""The engine `ray`: actors of a Ray cluster that hold the model, get blocks, and are replaced where they die.

An actor opens the run's folder by its path, so every node must see it there, with the same versions installed. This process alone
writes: a block stands on disk once, however often it was begun.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from allmrec.bulk.block import Block, BlockScorer
from allmrec.bulk.cluster import connect, deaths, imported
from allmrec.bulk.job import BulkJob
from allmrec.core.config import parse_config
from allmrec.core.errors import AllmrecError, ConfigError
from allmrec.core.progress import progress_shown
from allmrec.pipeline.run import Log, Run
from allmrec.recipes.config import RunConfig
from allmrec.recommend.request import Request

__all__ = ["BlockActor", "RayEngine"]

# Seconds without an answer after which actors are asked whether they are there, and in which they must say so.
_PATIENCE = 30.0


@dataclass(frozen=True)
class JobParts:
    """A job as it is sent to an actor: what is small, and where the run lies.

    Attributes:
        path: of the run.
        device: kind of device.
        config: the run's configuration as plain values.
        system, request, block, titles: as of a `BulkJob`.
        key: that the job must have on the other side too.
    """

    path: str
    device: str
    config: Mapping[str, Any]
    system: str
    request: Request
    block: int
    titles: bool
    key: str

    @classmethod
    def of(cls, job: BulkJob) -> JobParts:
        """The parts of a job."""
        path, device = str(job.run.path.resolve()), job.run.device.partition(":")[0]
        config = job.run.config.model_dump(mode="json")
        return cls(path, device, config, job.system, job.request, job.block, job.titles, job.key)

    def job(self, users: Int64[np.ndarray, " users"]) -> BulkJob:
        """The job again, for these users.

        Raises:
            ArtifactError: the run cannot be opened here.
            ConfigError: it is another one than the sender's, or versions differ.
        """
        run = Run.open(Path(self.path), self.device)
        run = run.with_config(parse_config(RunConfig, self.config, "the job"))
        made = BulkJob(run, self.system, self.request, users, self.block, self.titles)
        if made.key != self.key:
            raise ConfigError(
                f"{self.path} is not the same run here, or not with the same versions ({made.made_of['versions']}); every node needs "
                "the run's folder at this path and the same environment."
            )
        return made


@dataclass(frozen=True)
class Answer:
    """What an actor gives back: a block, or why there is none; and what it had to say."""

    block: Block | None
    error: str = ""
    lines: tuple[str, ...] = ()


class BlockActor:
    """Runs in a process of the cluster and holds the model.

    Args:
        parts: of the job.
        users: all of its user numbers.
    """

    def __init__(self, parts: JobParts, users: Int64[np.ndarray, " users"]) -> None:
        self._parts, self._users = parts, users
        self._scorer: BlockScorer | None = None
        self._doing: int | None = None

    def ready(self) -> None:
        """Answers when the actor has a place and has started."""

    def doing(self) -> int | None:
        """The block that is being answered, if one is; said beside that work."""
        return self._doing

    def answer(self, number: int) -> Answer:
        """Answer a block; the first call loads the model."""
        self._doing = number
        try:
            return self._answer(number)
        finally:
            self._doing = None

    def _answer(self, number: int) -> Answer:
        lines: list[str] = []
        try:
            with progress_shown(False):
                if self._scorer is None:
                    self._scorer = BlockScorer(self._parts.job(self._users), lines.append)
                return Answer(self._scorer.block(number), lines=tuple(lines))
        except AllmrecError as error:
            # As words: not every error of ours can be made again of what it says.
            return Answer(None, str(error))


@dataclass(frozen=True)
class RayEngine:
    """See `Engine`.

    Attributes:
        actors: how many, each with the model in memory; None: one for each GPU of the cluster, or each CPU where the run is on CPUs.
        address: of a cluster; None: the one that Ray finds (RAY_ADDRESS, or one on this machine), else one is started here.
        retries: how often a block is given to another actor when one died over it.
    """

    actors: int | None = None
    address: str | None = None
    retries: int = 3

    def __call__(
        self, job: BulkJob, blocks: Sequence[int], advance: Callable[[int], None], log: Log
    ) -> Iterator[Block]:
        """Each block once.

        Raises:
            MissingExtraError: Ray is not installed.
            ServerError: no cluster at the address.
            ConfigError: the cluster is too small for so many actors.
            AllmrecError: a block ended too many actors, or an actor could not answer; the message says why.
        """
        ray = _ray()
        ours = connect(ray, self.address)
        pool: _Pool | None = None
        try:
            pool = _Pool(ray, job, self._count(ray, job.run.device), self.retries, log)
            yield from pool.blocks(blocks, advance)
        finally:
            if pool is not None:
                pool.end()
            if ours:
                ray.shutdown()

    def _count(self, ray: Any, device: str) -> int:
        kind = "GPU" if device.startswith("cuda") else "CPU"
        there = int(ray.cluster_resources().get(kind, 0))
        wanted = there if self.actors is None else self.actors
        if not 1 <= wanted <= there:
            raise ConfigError(
                f"{wanted} actors were asked for, each on a {kind}, and the cluster has {there}. Give --actors 1 to {there}, or "
                "another cluster."
            )
        return wanted


class _Pool:
    """Actors, what each is doing, and blocks that wait."""

    def __init__(self, ray: Any, job: BulkJob, count: int, retries: int, log: Log) -> None:
        self._ray, self._job, self._count, self._retries, self._log = ray, job, count, retries, log
        needs = {"num_gpus": 1} if job.run.device.startswith("cuda") else {}
        # The second call that an actor takes at a time is `doing`.
        options = {"num_cpus": 1, "max_restarts": 0, "max_concurrency": 2, "scheduling_strategy": "SPREAD", **needs}
        self._kind = ray.remote(**options)(BlockActor)
        self._parts, self._users = JobParts.of(job), ray.put(job.users)
        self._doing: dict[Any, tuple[Any, int | None]] = {}
        self._idle: list[Any] = []
        self._waiting: deque[int] = deque()
        self._lost: Counter[int | None] = Counter()
        self._said: set[str] = set()
        # What actors without a place were asked already, and those that were found away from their block once.
        self._asked: dict[Any, Any] = {}
        self._doubted: set[Any] = set()

    def blocks(self, numbers: Sequence[int], advance: Callable[[int], None]) -> Iterator[Block]:
        """See `Engine`."""
        self._waiting.extend(numbers)
        for _ in range(min(self._count, len(numbers))):
            self._start()
        done = 0
        while done < len(numbers):
            block = self._next()
            if block is not None:
                done += 1
                advance(block.users)
                yield block

    def end(self) -> None:
        """Let go of every actor."""
        for actor in [actor for actor, _ in self._doing.values()] + self._idle:
            self._ray.kill(actor)
        self._doing.clear()
        self._idle.clear()

    def _start(self) -> None:
        actor = self._kind.remote(self._parts, self._users)
        self._doing[actor.ready.remote()] = (actor, None)

    def _give(self, actor: Any) -> None:
        if not self._waiting:
            self._idle.append(actor)
            return
        number = self._waiting.popleft()
        self._doing[actor.answer.remote(number)] = (actor, number)

    def _next(self) -> Block | None:
        """What is done next, if that is a block; the actor has its next one then."""
        ready, _ = self._ray.wait(list(self._doing), num_returns=1, timeout=_PATIENCE)
        if not ready:
            if all(number is None for _, number in self._doing.values()):
                self._say(f"Waiting for a place for {len(self._doing)} actors: the cluster has none that is free.")
            self._look()
            return None
        # What is not taken out of here is let go of at the end, whatever comes.
        actor, number = self._doing[ready[0]]
        try:
            answer: Answer | None = self._ray.get(ready[0])
        except deaths(self._ray) as error:
            del self._doing[ready[0]]
            self._replace(actor, number, error)
            return None
        if answer is not None and answer.block is None:
            raise AllmrecError(f"An actor of the cluster cannot answer: {answer.error}")
        del self._doing[ready[0]]
        self._give(actor)
        for line in () if answer is None else answer.lines:
            self._say(line)
        return None if answer is None else answer.block

    def _look(self) -> None:
        """Ask each actor what it is doing. One that does not answer is replaced, or says twice that it is not at its block.

        Where a cable was cut for a while, Ray may hold an actor for alive whose answer was lost, and an answer is sent once.
        """
        asked = {ref: self._asked.get(ref) or actor.doing.remote() for ref, (actor, _) in self._doing.items()}
        placed = [asked[ref] for ref, (_, number) in self._doing.items() if number is not None]
        if placed:
            self._wait(placed, _PATIENCE)
        said = self._wait(list(asked.values()), 1.0)
        # What has come meanwhile is taken up at the next call.
        came = self._wait(list(asked), 1.0)
        self._asked = {ref: question for ref, question in asked.items() if question not in said}
        doubted = set[Any]()
        for ref in [ref for ref in asked if ref not in came]:
            actor, number = self._doing[ref]
            heard = asked[ref] in said
            if number is None:
                if heard:
                    del self._doing[ref]
                    self._give(actor)
            elif heard and self._at(asked[ref]) == number:
                continue
            elif heard and ref not in self._doubted:
                doubted.add(ref)
            else:
                del self._doing[ref]
                self._replace(actor, number, TimeoutError(f"no word from it for {_PATIENCE:g} s"))
        self._doubted = doubted

    def _wait(self, refs: list[Any], seconds: float) -> list[Any]:
        """Which of them have come, wherever their content is."""
        found: list[Any] = self._ray.wait(refs, num_returns=len(refs), timeout=seconds, fetch_local=False)[0]
        return found

    def _at(self, said: Any) -> int | None:
        """What an actor said that it is doing; none where it died."""
        try:
            number: int | None = self._ray.get(said)
        except deaths(self._ray):
            return None
        return number

    def _replace(self, actor: Any, number: int | None, error: Exception) -> None:
        """Another actor for one that died; its block goes first."""
        self._ray.kill(actor)
        self._lost[number] += 1
        reason = str(error).strip().splitlines()[0]
        what = "before its first block" if number is None else f"over block {number}"
        if self._lost[number] > self._retries:
            raise AllmrecError(
                f"{self._lost[number]} actors died {what}, the last with: {reason} Blocks that are finished are kept. An actor needs "
                "memory for the model; smaller blocks (--block) need less."
            )
        self._log(f"An actor died {what} ({reason}); another takes its place.")
        if number is not None:
            self._waiting.appendleft(number)
            if self._idle:
                self._give(self._idle.pop())
                return
        self._start()

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._log(line)


def _ray() -> Any:
    return imported("ray", "Recommending with --engine ray")

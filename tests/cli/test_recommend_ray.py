"""`--engine ray` on a real cluster of two nodes here: the files of the single process, whatever dies on the way."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.conftest import fails
from tests.cli.test_recommend_bulk import files

import allmrec
from allmrec.bulk import cluster as ray_cluster
from allmrec.bulk import ray_engine
from allmrec.bulk.block import BlockScorer
from allmrec.bulk.job import BulkJob
from allmrec.bulk.ray_engine import Answer, BlockActor, JobParts, RayEngine
from allmrec.bulk.scoring import recommend_users
from allmrec.core.errors import AllmrecError, ConfigError, ServerError
from allmrec.library import Run
from allmrec.testing.actors import DeadlyActor, SlowActor

SRC = str(Path(allmrec.__file__).parents[1])
BLOCK = 2  # twelve blocks of 24 users

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra ray)")


@pytest.fixture(scope="module")
def run(workplace: Path) -> Run:
    return allmrec.open_run(workplace / "run", "cpu")


@pytest.fixture(scope="module")
def expected(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process writes by the CF model."""
    folder = tmp_path_factory.mktemp("one process")
    recommend_users(run, folder, system="backbone", block=BLOCK)
    return files(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, beside a head that has none."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        # Of themselves Ray's workers come behind every other test of this machine.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([SRC, *filter(None, sys.path)]))
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **ports()})
        nodes = [made.add_node(num_cpus=1, **ports()) for _ in range(2)]
        ray.init(address=made.address, log_to_driver=False, include_dashboard=False)
        try:
            yield made, nodes
        finally:
            ray.shutdown()
            made.shutdown()


def ports() -> dict[str, int]:
    """Ports of a node's agents. With ports of its own choice an agent must say within seconds which they are, which a busy machine
    may not manage.
    """
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    sockets = [socket.socket() for _ in names]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = {name: int(one.getsockname()[1]) for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    return found


def test_without_ray_the_extra_is_named(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
    message = fails("recommend", workplace / "run", "--users", "all", "-o", tmp_path / "out", "--engine", "ray")
    assert "pip install 'allmrec[ray]'" in message


def test_options_of_the_engine_need_it(workplace: Path, tmp_path: Path) -> None:
    for option in (("--actors", "2"), ("--ray-address", "10.0.0.1:6379")):
        message = fails("recommend", workplace / "run", "--users", "all", "-o", tmp_path / "out", *option)
        assert "go with --engine ray" in message


def test_an_actor_is_sent_what_makes_the_same_job(run: Run, tmp_path: Path) -> None:
    recommend_users(run, tmp_path / "out", system="backbone", block=BLOCK)
    job = BulkJob(run, "backbone", allmrec.Request(history=()), _all(run), BLOCK)
    actor = BlockActor(JobParts.of(job), job.users)
    answer = actor.answer(3)
    assert answer.block is not None
    assert answer.block.content == (tmp_path / "out" / "block-0000003.parquet").read_bytes()
    assert answer.block.content == BlockScorer(job).block(3).content
    # Elsewhere the folder may hold another run.
    other = JobParts(**{**vars(JobParts.of(job)), "key": "0" * 64})
    assert "not the same run here" in BlockActor(other, job.users).answer(0).error
    gone = JobParts(**{**vars(JobParts.of(job)), "path": str(tmp_path / "gone")})
    assert "does not exist" in BlockActor(gone, job.users).answer(0).error


class DeadError(Exception):
    """What stands in for Ray's own word for an actor that died."""


class Stand:
    """Stands in for Ray: actors work when they are asked what came of it, and die, or are not heard, where a test says so.

    Args:
        deaths: how many actors die over each block.
        unplaced: how many of the first actors never get a place.
        unheard: what is wrong with each block's first answer: it is `lost` on its way, its actor is `gone` without a word, or it is
            `late`: it comes once the actor was asked what it is doing; or `under way`: the actor is done, and its answer comes then.
    """

    def __init__(
        self, deaths: dict[int, int] | None = None, unplaced: int = 0, unheard: dict[int, str] | None = None
    ) -> None:
        self.deaths, self.unplaced, self.made, self.killed = dict(deaths or {}), unplaced, 0, 0
        self.unheard = dict(unheard or {})
        names = dict.fromkeys(ray_cluster.DEATHS, DeadError)
        self.exceptions = SimpleNamespace(**names)

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Callable[[type], Any]:
        assert options["max_restarts"] == 0, "the engine itself replaces what died"
        assert options["max_concurrency"] == 2, "an actor says what it is doing while it does it"

        def made(kind: type) -> Any:
            def actor(*arguments: Any) -> Any:
                self.made += 1
                self.unplaced -= 1
                return StandActor(self, kind(*arguments), self.unplaced < 0)

            return SimpleNamespace(remote=actor)

        return made

    def wait(
        self, refs: list[Any], num_returns: int, timeout: float, fetch_local: bool = True
    ) -> tuple[list[Any], list[Any]]:
        assert len(set(map(id, refs))) == len(refs) >= num_returns
        return [ref for ref in refs if ref.ready][-num_returns:], []

    def get(self, ref: Any) -> Any:
        for number in ref.arguments:
            if self.deaths.get(number, 0):
                self.deaths[number] -= 1
                raise DeadError("The actor died.\nIts node was ended.")
        return ref.method(*ref.arguments)

    def kill(self, actor: Any) -> None:
        self.killed += 1


class StandActor:
    """An actor as a handle of it is used."""

    def __init__(self, stand: Stand, one: BlockActor, placed: bool) -> None:
        self._stand, self._one, self._placed = stand, one, placed
        self._at: Ref | None = None
        self._wrong = ""
        self.ready = SimpleNamespace(remote=lambda: Ref(placed, one.ready, ()))
        self.answer = SimpleNamespace(remote=self._answer)
        self.doing = SimpleNamespace(remote=self._doing)

    def _answer(self, number: int) -> Ref:
        self._wrong = self._stand.unheard.pop(number, "")
        self._at = Ref(not self._wrong, self._one.answer, (number,))
        return self._at

    def _doing(self) -> Ref:
        assert self._at is not None or not self._placed
        at = self._at
        number = at.arguments[0] if at is not None and self._wrong == "late" else None

        def said() -> int | None:
            if at is not None and self._wrong in ("late", "under way"):
                at.ready = True
            return number

        return Ref(self._placed and self._wrong != "gone", said, ())


class Ref:
    """What comes of a call, later."""

    def __init__(self, ready: bool, method: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.ready, self.method, self.arguments = ready, method, arguments


@pytest.mark.parametrize(
    ("deaths", "unplaced"), [({}, 0), ({0: 1}, 0), ({0: 3, 5: 2, 11: 1}, 0), ({}, 1), ({1: 1, 11: 3}, 1)]
)
def test_whatever_dies_each_block_comes_once(
    run: Run,
    expected: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deaths: dict[int, int],
    unplaced: int,
) -> None:
    stand, lines = Stand(deaths, unplaced), list[str]()
    monkeypatch.setattr(ray_engine, "_ray", lambda: stand)
    found = recommend_users(
        run, tmp_path / "out", system="backbone", block=BLOCK, engine=RayEngine(2), log=lines.append
    )
    assert files(tmp_path / "out") == expected
    assert found.users == run.dataset.n_users
    assert len([line for line in lines if "The actor died." in line]) == sum(deaths.values())
    assert stand.killed == stand.made, "every actor is let go of once"


@pytest.mark.parametrize(
    ("unheard", "replaced"),
    [
        ({11: "lost"}, 1),
        ({11: "gone"}, 1),
        ({0: "gone", 1: "lost"}, 2),
        ({11: "late"}, 0),
        ({0: "late", 1: "late"}, 0),
        ({0: "under way", 1: "late", 11: "under way"}, 0),
    ],
)
def test_an_actor_that_is_not_heard_is_replaced_and_one_that_is_slow_is_not(
    run: Run,
    expected: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unheard: dict[int, str],
    replaced: int,
) -> None:
    stand, lines = Stand(unheard=unheard), list[str]()
    monkeypatch.setattr(ray_engine, "_ray", lambda: stand)
    recommend_users(run, tmp_path / "out", system="backbone", block=BLOCK, engine=RayEngine(2), log=lines.append)
    assert files(tmp_path / "out") == expected
    assert len([line for line in lines if "no word from it" in line]) == replaced
    assert stand.killed == stand.made, "every actor is let go of once"


def test_whoever_is_not_heard_is_let_go_of_where_the_command_ends(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(unheard={3: "gone"})
    monkeypatch.setattr(ray_engine, "_ray", lambda: stand)
    with pytest.raises(AllmrecError, match="1 actors died over block 3, the last with: no word from it for 30 s"):
        recommend_users(run, tmp_path / "out", system="backbone", block=BLOCK, engine=RayEngine(2, retries=0))
    assert stand.killed == stand.made


def test_a_block_that_ends_actor_after_actor_is_given_up(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand({3: 4})
    monkeypatch.setattr(ray_engine, "_ray", lambda: stand)
    with pytest.raises(AllmrecError, match="4 actors died over block 3"):
        recommend_users(run, tmp_path / "out", system="backbone", block=BLOCK, engine=RayEngine(1))
    there = files(tmp_path / "out")
    assert list(there) == [f"block-000000{n}.parquet" for n in range(3)]
    # The same command goes on behind them.
    recommend_users(run, tmp_path / "out", system="backbone", block=BLOCK)
    assert files(tmp_path / "out").items() >= there.items()


def test_what_an_actor_cannot_do_ends_the_command_with_its_words(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(BlockActor):
        def answer(self, number: int) -> Answer:
            return Answer(None, "no such run here")

    monkeypatch.setattr(ray_engine, "_ray", lambda: Stand({}))
    monkeypatch.setattr(ray_engine, "BlockActor", Elsewhere)
    with pytest.raises(AllmrecError, match="no such run here"):
        recommend_users(run, tmp_path / "out", system="backbone", block=BLOCK, engine=RayEngine())
    with pytest.raises(ConfigError, match="cluster has 2"):
        recommend_users(run, tmp_path / "other", system="backbone", block=BLOCK, engine=RayEngine(3))


class RefusedError(Exception):
    """What stands in for Ray's own word for a missing token, which is no ConnectionError."""


@pytest.mark.parametrize("error", [ConnectionError, RuntimeError, RefusedError])
def test_a_cluster_that_lets_nobody_in_is_named(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*arguments: Any, **options: Any) -> None:
        raise error("the token is missing\nand much more")

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    there = SimpleNamespace(is_initialized=lambda: False, init=init, exceptions=SimpleNamespace(RayError=RefusedError))
    with pytest.raises(ServerError, match=r"no Ray cluster to be had at 10\.0\.0\.1:6379: the token is missing$"):
        ray_cluster.connect(there, "10.0.0.1:6379")


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("system", ["backbone", None])
def test_two_actors_write_the_files_of_the_single_process(
    run: Run, cluster: Any, tmp_path: Path, system: str | None
) -> None:
    recommend_users(run, tmp_path / "alone", system=system, block=BLOCK)
    found = recommend_users(run, tmp_path / "out", system=system, block=BLOCK, engine=RayEngine(2))
    assert found.users == run.dataset.n_users
    assert files(tmp_path / "out") == files(tmp_path / "alone")


@needs_ray
@pytest.mark.slow
def test_a_killed_actor_is_replaced_and_the_files_are_the_same(
    run: Run, expected: dict[str, str], cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "BlockActor", SlowActor)
    lines = watched(run, tmp_path / "out", lambda pids: os.kill(pids[0], signal.SIGKILL), run.path.parent / "pids")
    assert any("An actor died over block" in line for line in lines), lines
    assert files(tmp_path / "out") == expected


@needs_ray
@pytest.mark.slow
def test_a_block_that_ends_every_actor_is_given_up_and_the_others_stay(
    run: Run, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "BlockActor", DeadlyActor)
    with pytest.raises(AllmrecError, match="2 actors died over block 1"):
        recommend_users(run, tmp_path / "out", system="backbone", block=BLOCK, engine=RayEngine(1, retries=1))
    assert list(files(tmp_path / "out")) == ["block-0000000.parquet"]


@needs_ray
@pytest.mark.slow
def test_more_actors_than_places(run: Run, cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 actors were asked for, each on a CPU, and the cluster has 2"):
        recommend_users(run, tmp_path / "out", system="backbone", block=BLOCK, engine=RayEngine(3))


@needs_ray
@pytest.mark.slow
def test_a_killed_node_takes_nothing_with_it(
    run: Run, expected: dict[str, str], cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two nodes is ended in the middle, and the other does the rest."""
    made, nodes = cluster
    monkeypatch.setattr(ray_engine, "BlockActor", SlowActor)
    try:
        lines = watched(
            run,
            tmp_path / "out",
            lambda pids: made.remove_node(nodes.pop(), allow_graceful=False),
            run.path.parent / "pids",
        )
    finally:
        nodes.append(made.add_node(num_cpus=1, **ports()))
    assert any("An actor died" in line for line in lines), lines
    assert files(tmp_path / "out") == expected


def watched(run: Run, out: Path, harm: Callable[[list[int]], None], place: Path) -> list[str]:
    """Recommend with two slow actors, and do harm as soon as two blocks stand."""
    lines: list[str] = []
    for path in place.glob("*"):
        path.unlink()
    harmed = False
    engine = RayEngine(2)

    def harming(*arguments: Any) -> Iterator[Any]:
        nonlocal harmed
        for count, block in enumerate(engine(*arguments)):
            yield block
            if count == 1 and not harmed:
                harmed = True
                harm([int(path.name) for path in sorted(place.iterdir())])

    recommend_users(run, out, system="backbone", block=BLOCK, engine=harming, log=lines.append)
    assert harmed
    return lines


def _all(run: Run) -> Any:
    import numpy as np

    return np.arange(run.dataset.n_users, dtype=np.int64)

"""`allmrec serve --engine ray` with a real cluster of this machine: replicas that die, are reloaded, come and go with the load."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from ports import free_port
from ray_hosts import waited

from allmrec.library import Run
from allmrec.serve.keys import add_key
from allmrec.serve.loading import version_of
from tests.serve.conftest import Process, train_tiny
from tests.serve.test_ray import WRONG

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None or importlib.util.find_spec("grpc") is None,
        reason="Ray Serve is not installed (extra ray)",
    ),
]


class Cluster:
    """`allmrec serve --engine ray` in a process of its own, with a cluster that it starts.

    Args:
        run: what is served.
        folder: of its state, its keys and its log.
        options: of the engine.
    """

    def __init__(self, run: Path, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url, self.database, keys = f"http://127.0.0.1:{self.port}", folder / "state.sqlite3", folder / "keys.json"
        self.headers = {"Authorization": f"Bearer {add_key(keys, 'all', ['read', 'write', 'admin'])}"}
        always = ["--engine", "ray", "--port", str(self.port), "--keys", str(keys)]
        always += ["--database", f"sqlite:///{self.database}", "--device", "cpu"]
        self.process = Process(run, *always, *options, log=folder / "log")

    def replicas(self) -> list[int]:
        """Numbers of the processes."""
        name = f"ray::ServeReplica:allmrec-{socket.gethostname()}-{self.port}"
        return [
            one.pid for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [""])[0].startswith(name)
        ]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=60)

    def kept(self) -> Counter[str]:
        """Users of the events that are stored, and how many each has."""
        with sqlite3.connect(self.database) as database:
            found = Counter(row[0] for row in database.execute("SELECT user_id FROM allmrec_events"))
        database.close()
        return found


class Load:
    """Clients that ask and write, each as soon as it has its answer, for the length of a block.

    Args:
        cluster: whom they ask.
        clients: how many.
        name: begins the names of the users whose events they write.

    Attributes:
        seen: how many answers had each status.
        stored: users of the events that were acknowledged.
    """

    def __init__(self, cluster: Cluster, clients: int, name: str = "w") -> None:
        self._cluster, self._name, self._stop, self._lock = cluster, name, threading.Event(), threading.Lock()
        self.seen, self.stored = Counter[int](), list[str]()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with self._cluster.client() as client:
            for count in range(100_000):
                if self._stop.is_set():
                    return
                user = f"{self._name}{number}-{count}"
                # Without keys of their own: a second try must not store them twice.
                calls: dict[str, Any] = {
                    "/v1/events": {"events": [{"user_id": user, "item_id": "i1"}]},
                    "/v1/recommend": {"user": user, "k": 2, "system": "allmrec-select"},
                }
                for path, body in calls.items():
                    answer = client.post(path, json=body)
                    with self._lock:
                        self.seen[answer.status_code] += 1
                        if path == "/v1/events" and answer.status_code == 200:
                            self.stored.append(user)


@pytest.fixture
def own_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's cluster, and one that listens to this machine alone."""
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Of themselves Ray's workers come behind every other test of this machine.
    monkeypatch.setenv("RAY_worker_niceness", "0")


@pytest.mark.usefixtures("own_ray")
def test_two_replicas_of_a_real_cluster(run: Run, tmp_path: Path) -> None:
    """One cluster for all of it, because to start one takes longest."""
    cluster = Cluster(run.path, tmp_path, "--replicas", "2")
    try:
        cluster.process.ready(cluster.url, 240)
        _comes_through_as_it_is(cluster)
        _a_killed_replica_loses_nothing_that_was_accepted(cluster)
        _a_reload_reaches_every_replica(cluster, run)
        _the_end_waits_for_requests_in_hand(cluster)
    finally:
        cluster.process.end()
    assert cluster.replicas() == []


@pytest.mark.usefixtures("own_ray")
def test_replicas_come_and_go_with_the_load(run: Run, tmp_path: Path) -> None:
    """One, with eight clients two, with two clients one again; neither costs a request that was accepted."""
    scaling = ["--replicas", "1", "--max-replicas", "2", "--target-requests", "3"]
    cluster = Cluster(run.path, tmp_path, *scaling, "--upscale-delay", "2", "--downscale-delay", "5")
    try:
        cluster.process.ready(cluster.url, 240)
        with cluster.client() as client:
            assert len(_replicas_of(client)) == 1
            with Load(cluster, 8, "many") as many:
                waited(lambda: len(_replicas_of(client)) == 2, cluster.process.log.read_text, pause=0.2)
                waited(lambda: len(_answering(client)) == 2, cluster.process.log.read_text, pause=0.2)
            assert len(cluster.replicas()) == 2
            # Ray Serve looks at the mean of the last 12 seconds, as the delays are short.
            with Load(cluster, 2, "few") as few:
                waited(lambda: len(cluster.replicas()) == 1, cluster.process.log.read_text, pause=0.2)
                waited(lambda: len(_replicas_of(client)) == 1, cluster.process.log.read_text, pause=0.2)
                time.sleep(2)
    finally:
        cluster.process.end()
    assert set(many.seen) == {200}, many.seen
    assert set(few.seen) == {200}, few.seen
    assert '"replica died"' not in cluster.process.log.read_text()
    assert cluster.kept() == Counter(many.stored + few.stored), "every acknowledged write is there, once"


def _answering(client: httpx.Client) -> set[str]:
    """Replicas that have answered a request for recommendations."""
    return set(re.findall(r'requests_total{replica="(\w+)",route="/v1/recommend"', client.get("/metrics").text))


def _replicas_of(client: httpx.Client) -> set[str]:
    return set(re.findall(r'replica="(\w+)"', client.get("/metrics").text))


def _a_killed_replica_loses_nothing_that_was_accepted(cluster: Cluster) -> None:
    with Load(cluster, 8) as load:
        time.sleep(2)
        before = cluster.replicas()
        assert len(before) == 2
        killed = before[:1]
        os.kill(killed[0], signal.SIGKILL)
        # One that died between two requests says nothing; then what took its place is killed.
        until = time.monotonic() + 120
        while '"replica died"' not in cluster.process.log.read_text() and time.monotonic() < until:
            time.sleep(3)
            if len(now := [one for one in cluster.replicas() if one not in killed]) == 2:
                killed.append(now[0])
                os.kill(now[0], signal.SIGKILL)
    assert set(load.seen) == {200}, load.seen
    # It died over requests, and these were answered by the other one.
    assert '"replica died"' in cluster.process.log.read_text()
    assert load.stored
    assert cluster.kept() == Counter(load.stored), "every acknowledged write is there, once"
    # Another replica takes its place.
    until = time.monotonic() + 60
    with cluster.client() as client:
        while len(_replicas_of(client)) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        assert len(_replicas_of(client)) == 2
    assert not set(killed) & set(cluster.replicas())


def _a_reload_reaches_every_replica(cluster: Cluster, run: Run) -> None:
    other = train_tiny(run.path.parent, "other for ray", epochs=3)
    with cluster.client() as client:
        answer = client.post("/admin/reload", json={"run": str(other.path)})
        assert answer.status_code == 200, answer.text
        line = f'version="{version_of(other.path)}"}} 1.0'
        until = time.monotonic() + 60
        while client.get("/metrics").text.count(line) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        assert client.get("/metrics").text.count(line) == 2
        assert {client.post("/v1/recommend", json={"user": "u3"}).json()["version"] for _ in range(8)} == {
            version_of(other.path)
        }


def _comes_through_as_it_is(cluster: Cluster) -> None:
    assert httpx.get(f"{cluster.url}/v1/model").status_code == 401
    with cluster.client() as client:
        answer = client.post("/v1/recommend", content="{", headers=WRONG)
        assert (answer.status_code, answer.headers["x-request-id"]) == (400, "mine")
        assert answer.headers["content-type"] == "application/problem+json"
        assert client.post("/v1/recommend", content=b"x" * 2_000_000).status_code == 413
        with client.stream("POST", "/v1/explain", json={"user": "u3", "item_id": "i3"}) as streamed:
            pieces = list(streamed.iter_text())
        assert len(pieces) > 2, "it comes piece by piece"
        assert "event: end" in pieces[-1]


def _the_end_waits_for_requests_in_hand(cluster: Cluster) -> None:
    with cluster.client() as client:
        with client.stream("POST", "/v1/explain", json={"user": "u3", "item_id": "i3"}) as answer:
            pieces = answer.iter_text()
            said = next(pieces)
            cluster.process.process.terminate()
            said += "".join(pieces)
        assert answer.status_code == 200
        assert "event: end" in said
    assert cluster.process.process.wait(60) == 0

"""The app as replicas behind a front: what the front does when a replica dies, and what Ray Serve is given."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from allmrec.cli.main import app
from allmrec.core.errors import AllmrecError, ConfigError
from allmrec.library import Run
from allmrec.serve import front as front_module
from allmrec.serve import on_ray
from allmrec.serve import replica as replica_module
from allmrec.serve.config import RayConfig, ServeConfig
from allmrec.serve.front import Errors, Front
from allmrec.serve.metrics import Metrics
from allmrec.serve.replica import REFUSED, Replica
from allmrec.serve.state import State
from tests.serve.conftest import Served

# Of a request with an id and a body that is no JSON.
WRONG = {"X-Request-ID": "mine", "Content-Type": "application/json"}


class DeadError(Exception):
    """What stands in for Ray's word for a replica that died."""


class FullError(Exception):
    """And for a queue that is full."""


class CancelledAnswerError(Exception):
    """And for an answer that was cancelled."""


class Asked:
    """What stands in for the answer of a replica as a handle gives it."""

    def __init__(self, messages: AsyncIterator[Any]) -> None:
        self._messages, self.cancelled = messages, False
        self._failed: Exception | None = None

    def __aiter__(self) -> Asked:
        return self

    async def __anext__(self) -> Any:
        if self.cancelled:
            raise CancelledAnswerError
        try:
            return await anext(self._messages)
        except asyncio.CancelledError:
            if self.cancelled:
                raise CancelledAnswerError from None
            raise
        except (DeadError, FullError) as error:
            self._failed = error
            raise

    def cancel(self) -> None:
        self.cancelled = True
        if self._failed is not None:
            raise self._failed


@asynccontextmanager
async def _nothing(app: Any) -> AsyncIterator[None]:
    yield


def front_of(run: Path, replicas: list[Callable[[Any, bytes], AsyncIterator[Any]]], **settings: Any) -> Front:
    """A front whose n-th try goes to the n-th replica."""
    config = ServeConfig(run=run, **settings)
    front = Front(config, Errors((DeadError,), (FullError,), (CancelledAnswerError,)), _nothing)
    waiting = iter(replicas)
    front.ask = lambda scope, body: Asked(next(waiting)(scope, body))
    return front


def asked(front: Front, method: str = "POST", path: str = "/v1/events", **named: Any) -> httpx.Response:
    """What a client of the front sees; nothing is left that nobody looked at."""

    async def ask() -> httpx.Response:
        left: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context))
        transport = httpx.ASGITransport(front)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=20) as client:
            answer = await client.request(method, path, **named)
        await asyncio.sleep(0.01)
        gc.collect()
        await asyncio.sleep(0.01)
        assert not left
        return answer

    return asyncio.run(ask())


class Fake:
    """Replicas of a few kinds; each writes down what came to it."""

    def __init__(self) -> None:
        self.came: list[tuple[dict[bytes, bytes], bytes]] = []

    async def good(self, scope: Any, body: bytes) -> AsyncIterator[Any]:
        self.came.append((dict(scope["headers"]), body))
        yield []
        yield [
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]},
            {"type": "http.response.body", "body": b"ok", "more_body": False},
        ]

    async def dies(self, scope: Any, body: bytes) -> AsyncIterator[Any]:
        self.came.append((dict(scope["headers"]), body))
        yield []
        raise DeadError

    async def dies_late(self, scope: Any, body: bytes) -> AsyncIterator[Any]:
        yield []
        yield [
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "http.response.body", "body": b"half", "more_body": True},
        ]
        raise DeadError

    async def full(self, scope: Any, body: bytes) -> AsyncIterator[Any]:
        raise FullError
        yield

    async def busy(self, scope: Any, body: bytes) -> AsyncIterator[Any]:
        await asyncio.sleep(60)
        yield

    async def cut_off(self, scope: Any, body: bytes) -> AsyncIterator[Any]:
        yield []
        await asyncio.sleep(60)

    async def cut_off_late(self, scope: Any, body: bytes) -> AsyncIterator[Any]:
        yield []
        yield [{"type": "http.response.start", "status": 200, "headers": []}]
        await asyncio.sleep(60)

    async def late(self, scope: Any, body: bytes) -> AsyncIterator[Any]:
        await asyncio.sleep(0.7)
        yield []
        raise DeadError

    async def slow(self, scope: Any, body: bytes) -> AsyncIterator[Any]:
        for _ in range(5):
            yield []
            await asyncio.sleep(0.1)
        async for messages in self.good(scope, body):
            yield messages


def test_where_a_replica_dies_another_gets_the_same_request(tmp_path: Path) -> None:
    fake = Fake()
    answer = asked(front_of(tmp_path, [fake.dies, fake.dies, fake.good]), content=b"{}")
    assert (answer.status_code, answer.text) == (200, "ok")
    assert len(fake.came) == 3
    assert fake.came[0] == fake.came[1] == fake.came[2], "the same id, the same key, the same body"
    headers, body = fake.came[0]
    assert body == b"{}"
    assert headers[b"idempotency-key"]
    assert headers[b"x-request-id"]
    # What the client names is kept.
    front = front_of(tmp_path, [fake.good])
    asked(front, content=b"{}", headers={"Idempotency-Key": "order-7", "X-Request-ID": "mine"})
    assert fake.came[-1][0][b"idempotency-key"] == b"order-7"
    assert fake.came[-1][0][b"x-request-id"] == b"mine"


@pytest.mark.parametrize(
    ("kinds", "status", "words"),
    [
        (["dies"] * 3, 503, "3 replicas died"),
        (["full"], 429, "Too many requests wait"),
        (["busy"] * 3, 503, "No replica was free"),
    ],
)
def test_what_the_front_says_where_nobody_answers(tmp_path: Path, kinds: list[str], status: int, words: str) -> None:
    fake = Fake()
    answer = asked(front_of(tmp_path, [getattr(fake, kind) for kind in kinds], deadline_ms=200), content=b"{}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    "kinds",
    [
        ["busy", "good"],
        ["busy", "busy", "good"],
        ["cut_off", "good"],
        ["busy", "cut_off", "good"],
        ["dies", "busy", "good"],
        ["busy", "full", "good"],
        ["busy", "full", "full", "good"],
        # Who is let go of, being slow, has not been ended by the request.
        ["late", "busy", "busy", "good"],
        ["busy", "busy", "cut_off", "good"],
        ["dies", "late", "busy", "good"],
        ["slow"],
    ],
)
def test_who_is_not_heard_does_not_keep_another_from_answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: list[str]
) -> None:
    monkeypatch.setattr(front_module, "_SILENT", 0.3)
    fake = Fake()
    front = front_of(tmp_path, [getattr(fake, kind) for kind in kinds], deadline_ms=1000)
    answer = asked(front, content=b"{}")
    assert (answer.status_code, answer.text) == (200, "ok")
    assert len({headers[b"idempotency-key"] for headers, _ in fake.came}) == 1, "a write is done once"


@pytest.mark.parametrize("second", ["dies", "full"])
def test_what_fails_as_another_takes_the_request_spoils_nothing(tmp_path: Path, second: str) -> None:
    """Both in the same turn of the loop."""
    fake, both = Fake(), asyncio.Event()

    async def together(kind: str, scope: Any, body: bytes) -> AsyncIterator[Any]:
        if kind == "last":
            both.set()
        await both.wait()
        if kind == "last":
            raise DeadError if second == "dies" else FullError
        async for messages in fake.good(scope, body):
            yield messages

    front = front_of(tmp_path, [partial(together, "first"), partial(together, "last")], deadline_ms=1000)
    assert asked(front, content=b"{}").text == "ok"


def test_a_hedge_takes_no_others_place(tmp_path: Path) -> None:
    """Many requests are limited, and not how many replicas are asked for them."""
    fake, statuses = Fake(), []
    front = front_of(tmp_path, [fake.busy] * 12, deadline_ms=500, max_queue=4)

    async def ask() -> None:
        transport = httpx.ASGITransport(front)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=20) as client:
            answers = await asyncio.gather(*(client.post("/v1/events", content=b"{}") for _ in range(6)))
        statuses.extend(answer.status_code for answer in answers)

    asyncio.run(ask())
    assert sorted(statuses) == [429, 429, 503, 503, 503, 503]


@pytest.mark.parametrize("after", [0.05, 0.4])
def test_a_write_is_done_though_its_client_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: float) -> None:
    written: list[bytes] = []

    async def write(scope: Any, body: bytes) -> AsyncIterator[Any]:
        for _ in range(6):
            yield []
            await asyncio.sleep(0.1)
        written.append(body)
        yield [{"type": "http.response.start", "status": 200, "headers": []}]
        yield [{"type": "http.response.body", "body": b"", "more_body": False}]

    async def ask() -> None:
        messages = iter([{"type": "http.request", "body": b"{}", "more_body": False}, {"type": "http.disconnect"}])

        async def receive() -> Any:
            message = next(messages)
            await asyncio.sleep(after if message["type"] == "http.disconnect" else 0.0)
            return message

        async def send(message: Any) -> None:
            return

        scope = {"type": "http", "method": "PUT", "path": "/v1/items", "headers": [], "query_string": b""}
        await front_of(tmp_path, [write])(scope, receive, send)

    asyncio.run(ask())
    assert written == [b"{}"]


def test_who_is_silent_in_the_middle_of_an_answer_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "_SILENT", 0.3)
    fake = Fake()
    with pytest.raises(AllmrecError, match="while its answer was sent"):
        asked(front_of(tmp_path, [fake.cut_off_late, fake.good]), content=b"{}")


def test_a_replica_that_has_nothing_to_say_yet_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "BEAT", 0.05)

    async def later(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def said() -> list[list[Any]]:
        replica = Replica.__new__(Replica)
        replica._app = later
        return [messages async for messages in replica.answer({}, b"")]

    *silent, last = asyncio.run(said())
    assert len(silent) >= 3
    assert not any(silent)
    assert last[0]["status"] == 200


def test_half_an_answer_is_not_made_whole_by_another(tmp_path: Path) -> None:
    fake = Fake()
    with pytest.raises(AllmrecError, match="while its answer was sent"):
        asked(front_of(tmp_path, [fake.dies_late, fake.good]), content=b"{}")
    assert fake.came == []


def test_the_front_lives_while_nothing_is_loaded_and_limits_bodies(tmp_path: Path) -> None:
    front = front_of(tmp_path, [], max_body=1024)
    front.ask = None
    assert asked(front, "GET", "/health/live").json() == {"status": "live"}
    assert asked(front, "GET", "/health/ready").status_code == 503

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 500

    for content in (b"x" * 2000, pieces()):
        answer = asked(front, content=content)
        assert answer.status_code == 413, answer.text


def test_replicas_answer_through_the_front_as_the_server_does(run: Run, server: Served, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/state.sqlite3"
    config = ServeConfig(run=run.path, device="cpu", database=database, ray=RayConfig(replicas=2))

    async def ask() -> None:
        replicas = [Replica.__new__(Replica) for _ in range(2)]
        for replica in replicas:
            await replica.__init__(config.model_dump_json())  # type: ignore[misc]  # as Ray Serve makes it
            await replica.check_health()
        front = front_of(run.path, [])
        turn = iter(range(1000))
        front.ask = lambda scope, body: Asked(replicas[next(turn) % 2].answer(scope, body))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(front), base_url="http://localhost", timeout=60
        ) as client:
            body = {"user": "u3", "k": 3, "system": "backbone"}
            for _ in range(2):
                answer = await client.post("/v1/recommend", json=body)
                assert answer.json()["items"] == server.ask("/v1/recommend", body)["items"]
            wrong = await client.post("/v1/recommend", content="{", headers=WRONG)
            assert (wrong.status_code, wrong.headers["x-request-id"]) == (400, "mine")
            assert wrong.json()["request_id"] == "mine"
            streamed = await client.post("/v1/explain", json={"user": "u3", "item_id": "i3"})
            assert streamed.headers["content-type"].startswith("text/event-stream")
            assert streamed.text.startswith("event: start")
            assert "event: end" in streamed.text
            # The same call again, to another replica, stores nothing twice; another call does.
            event = {"events": [{"user_id": "zoe", "item_id": "i1"}] * 2}
            told = [
                (await client.post("/v1/events", json=event, headers={"Idempotency-Key": key})).json()
                for key in ("a", "a", "b")
            ]
            assert [(one["stored"], one["repeated"]) for one in told] == [(2, 0), (0, 2), (2, 0)]
            refused = await client.post("/v1/events", json=event, headers={"Idempotency-Key": "a b"})
            assert refused.status_code == 422
        for replica in replicas:
            await replica._exits.aclose()
        with pytest.raises(RuntimeError, match="not loaded"):
            await replicas[0].check_health()
        lost = Replica.__new__(Replica)
        with pytest.raises(RuntimeError, match=f"{REFUSED}.*magic"):
            await lost.__init__(  # type: ignore[misc]  # likewise
                config.model_copy(update={"default_system": "magic"}).model_dump_json()
            )

    asyncio.run(ask())


def test_metrics_name_the_replica() -> None:
    metrics = [Metrics(), Metrics()]
    for count, one in enumerate(metrics, 1):
        one.requests.labels("/v1/recommend", "200").inc(count)
        one.seconds.labels("/v1/recommend").observe(0.2)
    metrics[0].replicas = lambda: {f"r{place}": one.own() for place, one in enumerate(metrics)}
    text = metrics[0].text().decode()
    assert 'allmrec_requests_total{replica="r0",route="/v1/recommend",status="200"} 1.0' in text
    assert 'allmrec_requests_total{replica="r1",route="/v1/recommend",status="200"} 2.0' in text
    assert 'allmrec_request_seconds_bucket{le="0.25",replica="r1",route="/v1/recommend"} 1.0' in text
    assert text.count("# TYPE allmrec_requests_total counter") == 1


def test_what_cannot_work_on_a_cluster_is_refused(tmp_path: Path) -> None:
    file, server = State(f"sqlite:///{tmp_path}/s.sqlite3"), State("postgresql://nobody@127.0.0.1:1/none")
    one = RayConfig(replicas=1)
    on_ray.check_cluster(one, file, "CPU", 2, 1, ours=True)
    on_ray.check_cluster(one, server, "CPU", 2, 3, ours=False)
    with pytest.raises(ConfigError, match="SQLite file, and the cluster has 2 nodes"):
        on_ray.check_cluster(one, file, "CPU", 2, 2, ours=False)
    for most in (RayConfig(replicas=3), RayConfig(replicas=1, max_replicas=3)):
        with pytest.raises(ConfigError, match="3 replicas were asked for, each on a CPU, and this machine has 2"):
            on_ray.check_cluster(most, file, "CPU", 2, 1, ours=True)
        # A cluster of others may grow.
        on_ray.check_cluster(most, file, "CPU", 2, 1, ours=False)
    for state in (file, server):
        state.close()


@pytest.mark.parametrize(("down", "look_back"), [(70.0, 30.0), (20.0, 20.0), (5.0, 12.0)])
def test_autoscaling_is_asked_for_by_requests_in_hand(run: Run, tmp_path: Path, down: float, look_back: float) -> None:
    given: dict[str, Any] = {}

    def deployment(**options: Any) -> Any:
        given.update(options)
        return lambda kind: SimpleNamespace(bind=lambda settings: json.loads(settings))

    serve = SimpleNamespace(
        start=given.update,
        deployment=deployment,
        run=lambda application, **options: given.update(application=application, run=options),
        exceptions=SimpleNamespace(BackPressureError=FullError),
    )
    names = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "ObjectLostError", "OutOfMemoryError")
    ray = SimpleNamespace(exceptions=SimpleNamespace(**dict.fromkeys(names, DeadError), TaskCancelledError=DeadError))
    serve.start = lambda **options: given.update(options)
    state = State(f"sqlite:///{tmp_path}/s.sqlite3")
    settings = RayConfig(
        replicas=2, max_replicas=5, target_ongoing_requests=3, upscale_delay_seconds=7, downscale_delay_seconds=down
    )
    config = ServeConfig(run=run.path, device="cpu", ray=settings)
    on_ray._Deployment(ray, serve, config, state, "allmrec", [].append)._deployed()
    state.close()
    scaling = given["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling["target_ongoing_requests"]) == (2, 5, 3)
    assert (scaling["upscale_delay_s"], scaling["downscale_delay_s"]) == (7, down)
    assert scaling["look_back_period_s"] == look_back
    assert "num_replicas" not in given
    assert given["proxy_location"] == "Disabled"
    assert given["run"]["route_prefix"] is None
    assert ServeConfig.model_validate(given["application"]) == config


def test_options_of_the_engine(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(*options: str) -> str:
        done = CliRunner().invoke(app, ["serve", str(run.path), "--port", "0", *options], env={"COLUMNS": "200"})
        assert done.exit_code == 1, done.output
        return done.output

    for option in (("--replicas", "2"), ("--max-replicas", "2"), ("--ray-address", "10.0.0.1:6379")):
        assert "go with --engine ray" in message(*option)
    for option in ("--target-requests", "--upscale-delay", "--downscale-delay"):
        assert "go with --max-replicas" in message("--engine", "ray", option, "3")
    assert "at least replicas" in message("--engine", "ray", "--replicas", "3", "--max-replicas", "2")
    assert "a Ray cluster has replicas" in message("--engine", "ray", "--workers", "2")
    monkeypatch.setitem(sys.modules, "ray.serve", None)  # as if it were not there
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    assert "pip install 'allmrec[ray]'" in message("--engine", "ray")

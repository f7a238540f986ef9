"""What whoever runs a server relies on: keys, limits, hostile input, reloading, metrics, logs, a graceful end."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_port
from typer.testing import CliRunner

from allmrec.cli.main import app
from allmrec.core.errors import ConfigError
from allmrec.data.interactions import InteractionDataset
from allmrec.library import Run
from allmrec.serve import answers, status
from allmrec.serve.config import ServeConfig
from allmrec.serve.keys import Keys, add_key
from allmrec.serve.loading import version_of
from allmrec.serve.state import State, StoredItem
from tests.serve.conftest import Process, Served, train_tiny


@pytest.fixture(scope="session")
def other(run: Run) -> Run:
    """The same data, trained for longer: another version."""
    return train_tiny(run.path.parent, "other", epochs=3)


@pytest.fixture(scope="session")
def plain(run: Run) -> Run:
    """The same data and nothing that reads texts."""
    folder, words = run.path.parent, ["--system", "backbone", "--set", "pretrain.training.epochs=3", "--device", "cpu"]
    train = ["train", str(run.path / "data"), "-o", str(folder / "plain"), "--recipe", str(folder / "tiny.toml")]
    done = CliRunner().invoke(app, [*train, *words])
    assert done.exit_code == 0, done.output
    return Run.open(folder / "plain")


def test_health_model_and_metrics(server: Served, run: Run) -> None:
    assert server.ask("/health/live", None, "GET") == {"status": "live"}
    assert server.ask("/health/ready", None, "GET")["versions"] == {"main": version_of(run.path)}
    found = server.ask("/v1/model", None, "GET")["versions"][0]
    assert [one["name"] for one in found["systems"]] == ["allmrec-select", "late-fusion", "backbone", "popularity"]
    assert found["fallbacks"] == ["allmrec-select", "backbone", "popularity"]
    server.ask("/v1/recommend", {"user": "nobody"})
    text = server.http.get("/metrics").text
    for line in (
        'allmrec_requests_total{route="/v1/recommend",status="200"}',
        'allmrec_request_seconds_bucket{le="0.01",route="/v1/recommend"}',
        'allmrec_fallbacks_total{reason="unknown_user",system="allmrec-select"}',
        'allmrec_batch_size_bucket{lane="language model",le="1.0"}',
        'allmrec_answer_seconds_count{part="popularity"}',
        'allmrec_queue_waiting{lane="cheap systems"} 0.0',
        f'allmrec_model_loaded{{label="main",version="{version_of(run.path)}"}} 1.0',
    ):
        assert line in text
    server.refused("/v1/report", None, 404, "GET")


def test_metrics_say_what_the_language_model_read_and_what_it_had_kept(
    fresh: Callable[..., Any], run: Run, tmp_path: Path
) -> None:
    changes = {"tune.select_weight": 0.0, "tune.prompt.template.form": "copy"}
    titles = train_tiny(run.path.parent, "titles", **changes)

    def read(server: Served) -> dict[str, float]:
        lines = server.http.get("/metrics").text.splitlines()
        found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("allmrec_llm_"))
        return {name.removeprefix("allmrec_llm_"): float(value) for name, value in found.items()}

    with fresh(run=titles.path) as server:
        before = read(server)
        asked = {"user": "u3", "k": 5, "fallback": False, "deadline_ms": 60_000}
        answer = server.ask("/v1/recommend", asked)
        assert answer["part"] == "llm"
        first = read(server)
        assert first['items_total{how="read"}'] > before['items_total{how="read"}'] == 0
        assert first['kept_bytes{label="main"}'] > 0
        server.ask("/v1/recommend", asked)
        second = read(server)
        assert second['items_total{how="read"}'] == first['items_total{how="read"}']
        assert second['items_total{how="kept"}'] >= first['items_total{how="kept"}'] + 5
        # A new item costs its own reading, not everyone's.
        server.ask("/v1/items", {"items": [{"item_id": "new", "title": "Item 99"}]}, "PUT")
        server.ask("/v1/recommend", {**asked, "allow": [item["item_id"] for item in answer["items"]] + ["new"], "k": 6})
        third = read(server)
        assert third['items_total{how="read"}'] == second['items_total{how="read"}'] + 1


def test_answers_have_examples_that_fit_them(server: Served) -> None:
    schemas = server.ask("/openapi.json", None, "GET")["components"]["schemas"]
    for kind in (
        *(answers.Answer, answers.Reranked, answers.Similar, answers.Events, answers.History, answers.Item),
        *(answers.OneItem, answers.ItemsChanged, status.ServedModel, status.Reported, status.Readiness),
    ):
        example = schemas[kind.__name__]["example"]
        assert kind.model_validate(example, strict=True).model_dump(exclude_unset=True) == example


def test_what_is_served_has_the_shape_that_the_documents_say(server: Served) -> None:
    paths = server.ask("/openapi.json", None, "GET")["paths"]
    for path, kind in (
        ("/v1/model", status.ServedModel),
        ("/v1/report", status.Reported),
        ("/health/ready", status.Readiness),
    ):
        schema = paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{kind.__name__}"}
    for path, found in (("/v1/model", status.ServedModel), ("/health/ready", status.Readiness)):
        found.model_validate(server.ask(path, None, "GET"), strict=True)
    server.service.draining = True
    try:
        answer = server.http.get("/health/ready")
        assert answer.status_code == 503
        assert status.Readiness.model_validate(answer.json()).status == "stopping"
    finally:
        server.service.draining = False


def test_health_is_asked_by_head_too(server: Served) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = server.http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert server.http.head("/v1/model").status_code == 405


def test_the_description_says_how_keys_are_sent(fresh: Callable[..., Any], server: Served, tmp_path: Path) -> None:
    ways: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]
    path = tmp_path / "keys.json"
    add_key(path, "read", ["read"])
    with fresh(keys=path) as keyed:
        for one, security in ((server, [{}, *ways]), (keyed, ways)):
            described = one.ask("/openapi.json", None, "GET")
            assert described["security"] == security
            found = described["components"]["securitySchemes"]
            assert (found["bearer"]["scheme"], found["key"]["name"]) == ("bearer", "X-API-Key")
            assert described["paths"]["/health/ready"]["get"]["security"] == []
            assert "security" not in described["paths"]["/v1/recommend"]["post"]
            assert {"405", "415", "500", "507"} <= {*described["paths"]["/v1/recommend"]["post"]["responses"]}


def test_keys_open_what_they_are_for(fresh: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = {role: add_key(path, role, [role]) for role in ("read", "write", "admin")}
    assert not any(key in path.read_text() for key in keys.values())
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="already"):
        add_key(path, "read", ["read"])
    event = {"events": [{"user_id": "zoe", "item_id": "i1"}]}
    with fresh(keys=path) as server:
        for role, key in [*keys.items(), ("none", "guess"), ("nothing", None)]:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            found = {
                "read": server.http.get("/v1/model", headers=headers).status_code,
                "write": server.http.post("/v1/events", json=event, headers=headers).status_code,
                "admin": server.http.post("/admin/reload", json={"run": "/nowhere"}, headers=headers).status_code,
            }
            if key in keys.values():
                passed = {"read": 200, "write": 200, "admin": 409}
                assert found == {one: passed[one] if one == role else 403 for one in found}
            else:
                assert set(found.values()) == {401}
        assert server.http.get("/", headers={}).status_code == 200
        assert server.http.get("/v1/model", headers={"X-API-Key": keys["read"]}).status_code == 200
        # A key that is taken out of the file opens nothing any more; a file that is damaged changes nothing.
        whole = json.loads(path.read_text())
        path.write_text(json.dumps({"keys": [key for key in whole["keys"] if key["name"] != "read"]}))
        assert server.http.get("/v1/model", headers={"X-API-Key": keys["read"]}).status_code == 401
        path.write_text("{")
        assert server.http.post("/v1/events", json=event, headers={"X-API-Key": keys["write"]}).status_code == 200
        assert server.http.get("/v1/model", headers={"X-API-Key": keys["read"]}).status_code == 401
    assert not Keys(None).may(None, "admin")


def test_a_page_of_another_origin_reads_why_it_was_refused(fresh: Callable[..., Any], tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "x", ["read"])
    with fresh(keys=tmp_path / "keys.json", cors=("https://shop.example",)) as server:
        answer = server.http.get("/v1/model", headers={"Origin": "https://shop.example"})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert (
            "access-control-allow-origin" not in server.http.get("/v1/model", headers={"Origin": "https://x"}).headers
        )


def test_without_keys_nobody_reloads_and_nobody_else_listens(server: Served) -> None:
    assert "--keys" in server.refused("/admin/reload", {}, 403)["detail"]
    with pytest.raises(ValueError, match="anybody may ask"):
        ServeConfig(run=Path("run"), host="0.0.0.0")  # noqa: S104  # what is refused
    answer = server.http.get("/v1/model", headers={"Host": "evil.example"})
    assert answer.status_code == 421
    answer = server.http.options(
        "/v1/recommend", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert "access-control-allow-origin" not in answer.headers


def test_hostile_input_is_refused(server: Served) -> None:
    post = server.http.post
    headers = {"Content-Type": "application/json"}
    deep = "[" * 100_000 + "]" * 100_000
    cases: list[Any] = [
        deep,
        '{"user": ' + deep + "}",
        '{"user": "\\ud800"}',
        '{"user": "a\\u0000b"}',
        '{"user": NaN}',
        '{"user": 1e400}',
        '{"user": ' + "9" * 5000 + "}",
        '{"user": true}',
        '{"user": "' + "a" * 100_000 + '"}',
        '{"user": "u3", "diversity": Infinity}',
        '{"user": "u3", "k": 99999999999999999999}',
        '{"user": "u3", "surprise": 1}',
        '{"history": [{}]}',
        '{"history": "i1"}',
        "null",
        "",
        "{",
        b"\xff\xfe\x00",
    ]
    for case in cases:
        for path in ("/v1/recommend", "/v1/events", "/v1/rerank", "/v1/explain", "/v1/similar"):
            answer = post(path, content=case, headers=headers)
            assert 400 <= answer.status_code < 500, (path, case[:60], answer.text[:300])
            assert answer.headers["content-type"] == "application/problem+json"
            assert json.loads(answer.text)["detail"]
    for path in ("/v1/items/%00", "/v1/users/%00/history", "/v1/items/" + "a" * 600):
        assert server.http.get(path).status_code in (404, 422), path
    server.refused("/nowhere", None, 404, "GET")
    server.refused("/v1/recommend", None, 405, "DELETE")
    # A header of a client's choice does not become a line of the log.
    assert server.http.get("/health/live", headers={"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


def test_a_body_of_another_kind_is_refused_with_what_to_send(server: Served) -> None:
    def sent(kind: str | None, method: str = "POST", path: str = "/v1/recommend") -> httpx.Response:
        headers = {} if kind is None else {"Content-Type": kind}
        return server.http.request(method, path, content='{"user": "u3", "k": 1}', headers=headers)

    # What curl -d says of a body unless it is told.
    for kind in ("application/x-www-form-urlencoded", "text/plain; charset=utf-8", "multipart/form-data", "json"):
        for method, path in (("POST", "/v1/recommend"), ("PUT", "/v1/items"), ("PATCH", "/v1/items/i1")):
            answer = sent(kind, method, path)
            assert answer.status_code == 415, (kind, answer.text)
            assert "Content-Type: application/json" in answer.json()["detail"]
            assert kind.partition(";")[0] in answer.json()["detail"]
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/vnd.shop+json"):
        assert sent(kind).status_code == 200
    assert sent(None).status_code == 415
    assert server.http.post("/v1/recommend").status_code == 422
    assert server.http.get("/v1/model", headers={"Content-Type": "text/plain"}).status_code == 200


def test_a_wrong_method_is_answered_with_those_that_are_right(server: Served) -> None:
    assert server.http.delete("/v1/recommend").headers["allow"] == "POST"
    answer = server.http.post("/v1/items", json={})
    assert answer.status_code == 405
    assert {*answer.headers["allow"].split(", ")} == {"GET", "PUT"}


def test_a_body_that_is_no_json_is_said_to_be_none(server: Served) -> None:
    answer = server.http.post("/v1/recommend", content='{"user": }', headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == ""
    assert "at character 9: Expecting value" in answer.json()["detail"]


def test_large_bodies_are_refused_before_they_are_read(server: Served) -> None:
    headers = {"Content-Type": "application/json"}

    def pieces() -> Iterator[bytes]:
        # Without a stated length.
        for _ in range(100):
            yield b" " * 1_000_000

    for content in (b"x" * 2_000_000, pieces()):
        # The connection may be closed while the rest is still being sent.
        with contextlib.suppress(httpx.TransportError):
            assert server.http.post("/v1/recommend", content=content, headers=headers).status_code == 413
    refused = 'allmrec_requests_total{route="/v1/recommend",status="413"} 1.0'
    assert refused in server.http.get("/metrics").text
    assert 'allmrec_requests_total{route="other",status="413"} 1.0' in server.http.get("/metrics").text


def test_slow_clients_are_not_waited_for(fresh: Callable[..., Any]) -> None:
    with fresh(read_seconds=0.5) as server:
        port = int(server.url.rpartition(":")[2])
        for sent in (
            b"POST /v1/rec",
            b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
        ):
            with socket.create_connection(("127.0.0.1", port), 10) as slow:
                slow.sendall(sent)
                start = time.monotonic()
                assert b" 408 " in slow.recv(200)
                assert time.monotonic() - start < 8
        assert server.ask("/v1/recommend", {"user": "u3", "k": 1})["items"]


def test_reload_takes_the_new_version_without_a_dropped_request(
    fresh: Callable[..., Any], run: Run, other: Run, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    headers = {"Authorization": f"Bearer {add_key(path, 'all', ['read', 'write', 'admin'])}"}
    with fresh(keys=path) as server:
        server.ask("/v1/items", {"items": [{"item_id": "new", "title": "Item 9"}]}, "PUT", headers=headers)
        stop, failures, seen = threading.Event(), [], set()

        def ask() -> None:
            with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
                while not stop.is_set():
                    answer = client.post("/v1/recommend", json={"user": "u3", "k": 2, "system": "backbone"})
                    if answer.status_code != 200:
                        failures.append(answer.text)
                    else:
                        seen.add(answer.json()["version"])

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for target in (other, run):
                found = server.ask("/admin/reload", {"run": str(target.path)}, headers=headers)
                assert found["version"] == version_of(target.path)
            assert (
                "was refused" in server.refused("/admin/reload", {"run": str(tmp_path)}, 409, headers=headers)["detail"]
            )
        finally:
            time.sleep(0.3)
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert seen == {version_of(run.path), version_of(other.path)}
        # Items came along.
        answer = server.ask("/v1/recommend", {"history": ["i1"], "allow": ["new"], "k": 1}, headers=headers)
        assert [item["item_id"] for item in answer["items"]] == ["new"]


def test_what_a_version_held_is_given_up_once_its_last_request_is_answered(
    fresh: Callable[..., Any], run: Run, other: Run, tmp_path: Path
) -> None:
    """Else every reload would cost the memory of one more language model until the next."""
    path = tmp_path / "keys.json"
    headers = {"Authorization": f"Bearer {add_key(path, 'all', ['read', 'admin'])}"}
    with fresh(keys=path) as server:
        server.ask("/v1/recommend", {"user": "u3", "k": 2}, headers=headers)
        in_hand = server.service.holder.versions["main"]
        held = [
            weakref.ref(in_hand),
            weakref.ref(in_hand.speaker),
            *map(weakref.ref, in_hand.speaker.ranker.modules()),
            *map(weakref.ref, in_hand.speaker.ranker.lm.frozen.module.modules()),
        ]
        server.ask("/admin/reload", {"run": str(other.path)}, headers=headers)
        assert all(one() is not None for one in held)
        del in_hand
        until = time.monotonic() + 30
        while time.monotonic() < until and any(one() is not None for one in held):
            time.sleep(0.1)
        assert [one() for one in held if one() is not None] == []


def test_a_damaged_version_is_refused_and_the_old_one_stays(
    fresh: Callable[..., Any], run: Run, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run.path, broken, ignore=shutil.ignore_patterns("serve"))
    weights = broken / "tune" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 0xFF
    weights.write_bytes(content)
    path = tmp_path / "keys.json"
    headers = {"Authorization": f"Bearer {add_key(path, 'all', ['read', 'admin'])}"}
    with fresh(keys=path) as server:
        before = server.ask("/v1/recommend", {"user": "u3"}, headers=headers)
        refused = server.refused("/admin/reload", {"run": str(broken)}, 409, headers=headers)
        assert "weights.safetensors" in refused["detail"]
        after = server.ask("/v1/recommend", {"user": "u3"}, headers=headers)
        assert (after["version"], after["items"]) == (before["version"], before["items"])
        assert 'allmrec_reloads_total{result="refused"} 1.0' in server.http.get("/metrics", headers=headers).text


def test_two_versions_side_by_side(fresh: Callable[..., Any], run: Run, other: Run) -> None:
    with fresh(beside=other.path, share=0.5) as server:
        found = {
            f"u{n}": server.ask("/v1/recommend", {"user": f"u{n}", "k": 1, "system": "backbone"})["label"]
            for n in range(24)
        }
        assert set(found.values()) == {"main", "beside"}
        again = {
            user: server.ask("/v1/recommend", {"user": user, "k": 1, "system": "backbone"})["label"] for user in found
        }
        assert again == found
        for label, path in (("main", run.path), ("beside", other.path)):
            for wanted in (label, version_of(path)):
                answer = server.http.post("/v1/recommend", json={"user": "u3"}, headers={"X-Allmrec-Version": wanted})
                assert answer.json()["version"] == answer.headers["x-allmrec-version"] == version_of(path)
        answer = server.http.post("/v1/recommend", json={"user": "u3"}, headers={"X-Allmrec-Version": "nope"})
        assert answer.status_code == 422
        # Users are shared out; what is about none of them is the main version's.
        main = version_of(run.path)
        for n in range(1, 13):
            assert server.ask(f"/v1/items/i{n}", None, "GET")["version"] == main
            assert server.ask("/v1/similar", {"item_id": f"i{n}"})["version"] == main
            assert server.ask(f"/v1/items?query=item+{n}", None, "GET")["version"] == main


def test_one_of_two_versions_may_know_less_and_take_no_new_items(
    fresh: Callable[..., Any], run: Run, plain: Run
) -> None:
    with fresh(beside=plain.path, share=0.5) as server:
        server.ask("/v1/items/new", {"title": "Item 3"}, "PUT")
        for label, known in (("main", ["new"]), ("beside", [])):
            answer = server.ask(
                "/v1/recommend", {"history": ["i1"], "allow": ["new"]}, headers={"X-Allmrec-Version": label}
            )
            assert [item["item_id"] for item in answer["items"]] == known


def test_an_idle_connection_is_left_to_its_client(server: Served) -> None:
    """Clients let go of theirs after 5 seconds or so; a server that is sooner meets requests that are on their way."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.connect()
    own = connection.sock
    for idle in (0, 6):
        time.sleep(idle)
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"status":"live"}')
        assert connection.sock is own, "the server asked to close it"
    connection.close()


def test_warnings_of_one_kind_come_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    from allmrec.serve.logs import logging_as_json

    cluster = logging.getLogger("some.cluster")

    def warn(when: float, name: str) -> None:
        record = cluster.makeRecord(cluster.name, logging.WARNING, __file__, 1, "no answer from %s", (name,), None)
        record.created = when
        cluster.handle(record)

    with logging_as_json("some.cluster"):
        for second in range(121):
            warn(1_000.0 + second, f"replica {second}")
        cluster.warning("something else")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line.get("held_back")) for line in lines] == [
        ("no answer from replica 0", None),
        ("no answer from replica 60", 59),
        ("no answer from replica 120", 59),
        ("something else", None),
    ]


def test_logs_name_no_user(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    from allmrec.serve.logs import _Json

    with caplog.at_level(logging.INFO, "allmrec.serve"):
        answer = server.http.get("/v1/users/u3/history")
        # The line is written behind the answer.
        until = time.monotonic() + 10
        while not any(record.name == "allmrec.serve" for record in caplog.records) and time.monotonic() < until:
            time.sleep(0.02)
    lines = [_Json().format(record) for record in caplog.records if record.name == "allmrec.serve"]
    (line,) = [json.loads(line) for line in lines if '"request"' in line]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["route"] == "/v1/users/{user_id:path}/history"
    assert "u3" not in " ".join(lines)


def test_the_command_serves_drains_and_ends(run: Run, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    database = f"sqlite:///{tmp_path}/state.sqlite3"
    server = Process(
        run.path, "--port", str(port), "--workers", "2", "--database", database, "--device", "cpu", log=tmp_path / "log"
    )
    try:
        server.ready(url)
        with httpx.Client(base_url=url, timeout=60) as client:
            # Another process may take the next connection, and knows.
            for n in range(4):
                body = {"items": [{"item_id": f"new{n}", "title": f"Item {n}"}]}
                answer = httpx.put(f"{url}/v1/items", json=body, timeout=60)
                assert answer.status_code == 200, answer.text
                found = httpx.post(
                    f"{url}/v1/recommend", json={"history": ["i1"], "allow": [f"new{n}"]}, timeout=60
                ).json()
                assert [item["item_id"] for item in found["items"]] == [f"new{n}"]
            assert "allmrec_requests_total" in client.get("/metrics").text
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 60
        while server.log.read_text().count('"version taken"') < 4 and time.monotonic() < until:
            assert httpx.post(f"{url}/v1/recommend", json={"user": "u3"}, timeout=60).status_code == 200
        assert server.log.read_text().count('"version taken"') == 4
        results: list[int] = []
        asking = threading.Thread(
            target=lambda: results.append(
                httpx.post(f"{url}/v1/recommend", json={"user": "u3"}, timeout=60).status_code
            )
        )
        asking.start()
        time.sleep(0.3)
        server.process.terminate()
        asking.join()
        assert server.process.wait(30) == 0
        assert results == [200]
    finally:
        server.end()
    assert not [line for line in server.log.read_text().splitlines() if line.startswith("{") and "traceback" in line]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("holder.load", "cannot start: TypeError: broken"),
        ("state.State.read", "cannot start: TypeError: broken"),
        ("state.State._prepare", None),
    ],
)
def test_a_server_that_cannot_start_ends_and_says_why(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, words: str | None
) -> None:
    """Whatever the reason is: one that nobody thought of must not leave it loading for ever."""

    def fails(*arguments: object, **named: object) -> None:
        raise TypeError("broken") if words else ConfigError("not this database")

    monkeypatch.setattr(f"allmrec.serve.{broken}", fails)
    made = Served(ServeConfig(run=run.path, port=0, device="cpu", database=f"sqlite:///{tmp_path}/s.sqlite3"))
    try:
        with pytest.raises(AssertionError, match=words or "not this database"):
            made.start()
    finally:
        made.stop()


def test_the_command_makes_keys_exports_and_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    def call(*options: str) -> Any:
        return CliRunner().invoke(app, ["serve", *options], env={"COLUMNS": "200"})

    keys = tmp_path / "keys.json"
    made = call(str(run.path), "--keys", str(keys), "--new-key", "shop", "--role", "write")
    assert made.exit_code == 0
    assert Keys(keys).may(made.output.split()[0], "write")
    url = f"sqlite:///{tmp_path}/s.sqlite3"
    missing = call(str(run.path), "--export", str(tmp_path / "out"), "--database", url)
    assert missing.exit_code == 1
    assert "no server has written there" in missing.output
    assert not (tmp_path / "s.sqlite3").exists()
    state = State(url)
    state.write_items([StoredItem("new", "Item 3", None, ())])
    state.close()
    done = call(str(run.path), "--export", str(tmp_path / "out"), "--database", url)
    assert done.exit_code == 0, done.output
    # An item that nobody interacted with is left out otherwise.
    assert "--keep-items" in done.output
    words = shlex.split(done.output[done.output.index("allmrec prepare table") :])[1:-1]
    again = CliRunner().invoke(app, [*words, str(tmp_path / "data")])
    assert again.exit_code == 0, again.output
    assert "new" in InteractionDataset.load(tmp_path / "data").items
    for options, words in (
        ((str(tmp_path / "none"),), "none"),
        ((str(run.path), "--host", "0.0.0.0"), "--open"),  # noqa: S104  # what is refused
        ((str(run.path), "--database", "mysql://x/y"), "mysql"),
        ((str(run.path), "--new-key", "x"), "--keys"),
        ((str(run.path), "--keys", str(tmp_path / "none")), "does not exist"),
        ((str(run.path), "--default-system", "magic"), "magic"),
        ((str(run.path), "--set", "port=1"), "max_k"),
        ((str(run.path), "--set", "max_k=0"), "max_k"),
    ):
        refused = call(*options, "--port", "0")
        assert refused.exit_code == 1, refused.output
        assert words in refused.output, refused.output


def test_a_curl_script_gets_on(server: Served, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "examples" / "serve.sh"
    done = subprocess.run(["sh", str(script), server.url], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Item" in done.stdout

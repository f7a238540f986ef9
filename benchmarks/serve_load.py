"""A server under load, on this machine's loopback only: `python -m benchmarks.serve_load RUN`.

Starts `allmrec serve RUN` and measures: latency of the CF model alone at a steady pace; the language model's throughput with many clients
against one; ten times as many requests as are answered, for a while; reloading again and again while clients ask.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from allmrec.serve.keys import add_key
from benchmarks.about import measured_by
from benchmarks.tables import RESULTS, write_result

PARTS = ("cf", "throughput", "saturation", "refusal", "reload")


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds; none of nothing."""
    if not seconds:
        return {}
    found = np.percentile(np.asarray(seconds) * 1000, [50, 95, 99, 100])
    return {name: round(float(value), 2) for name, value in zip(("p50", "p95", "p99", "max"), found, strict=True)}


async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[int, float, str]:
    """Status, seconds, and the part that answered."""
    start = time.perf_counter()
    try:
        answer = await client.post("/v1/recommend", json=body)
    except httpx.TransportError as error:
        return 0, time.perf_counter() - start, type(error).__name__
    part = answer.json().get("part", "") if answer.status_code == 200 else ""
    return answer.status_code, time.perf_counter() - start, part


async def latencies(
    url: str, key: str, users: list[str], rate: float, seconds: float, **fields: Any
) -> tuple[Counter[str], list[float]]:
    """Statuses, and seconds from a request's first byte to its answer's last, at a steady pace over connections that stay open.

    By bare sockets: a client library takes a quarter of a cheap answer's time for itself.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    statuses: Counter[str] = Counter()
    took: list[float] = []

    async def one(user: str) -> None:
        body = json.dumps({"user": user, "k": 10, **fields}).encode()
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        start = time.perf_counter()
        reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next(line for line in lines if line.startswith("content-length:"))
        await reader.readexactly(int(length.partition(":")[2]))
        took.append(time.perf_counter() - start)
        statuses[lines[0].split()[1]] += 1
        idle.append((reader, writer))

    start = time.perf_counter()
    tasks = []
    for n in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + n / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(users[n % len(users)])))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return statuses, took


async def paced(client: httpx.AsyncClient, users: list[str], rate: float, seconds: float, **fields: Any) -> list[Any]:
    """Ask at a steady pace, whether earlier requests are answered or not."""
    tasks = []
    start = time.perf_counter()
    for n in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + n / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(client, {"user": users[n % len(users)], "k": 10, **fields})))
    return list(await asyncio.gather(*tasks))


async def clients(
    client: httpx.AsyncClient, users: list[str], count: int, total: int, **fields: Any
) -> tuple[float, list[Any]]:
    """`count` clients, each with one request in hand, until `total` are asked; answers (status 200) a second, and what came."""
    numbers = iter(range(total))
    found: list[Any] = []

    async def one() -> None:
        found.extend([await ask(client, {"user": users[n % len(users)], "k": 10, **fields}) for n in numbers])

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return sum(one[0] == 200 for one in found) / (time.perf_counter() - start), found


async def saturated(
    client: httpx.AsyncClient, users: list[str], server: psutil.Process, rate: float, seconds: float, **fields: Any
) -> dict[str, Any]:
    """What becomes of requests at a pace that the server cannot keep, and of its memory."""
    before, memory = server.memory_info().rss, []

    async def watch() -> None:
        while True:
            memory.append(server.memory_info().rss)
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    found = await paced(client, users, rate, seconds, **fields)
    watching.cancel()
    half = len(memory) // 2
    return {
        "sent_a_second": round(rate, 2),
        "sent": len(found),
        "answers": Counter(str(one[0]) for one in found),
        "parts": Counter(one[2] for one in found if one[0] == 200),
        "not_answered": sum(one[0] == 0 for one in found),
        "errors": Counter(one[2] for one in found if one[0] == 0),
        "ms_of_answered": percentiles([one[1] for one in found if one[0] == 200]),
        "ms_of_429": percentiles([one[1] for one in found if one[0] == 429]),
        "memory_mb": {
            "before": before >> 20,
            "first_half": max(memory[:half]) >> 20,
            "second_half": max(memory[half:]) >> 20,
        },
    }


async def measured(
    url: str, key: str, server: psutil.Process, run: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=None)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=120) as client:
        users = (await client.get("/v1/users?limit=100")).json()["users"]
        result: dict[str, Any] = {}
        if "cf" in arguments.parts:
            await clients(client, users, 2, 50, system="backbone")
            statuses, took = await latencies(url, key, users, 100, arguments.seconds, system="backbone")
            result["cf_at_100_a_second"] = {"answers": statuses, "ms": percentiles(took)}
        if "throughput" in arguments.parts:
            slow = {"fallback": False, "deadline_ms": 120_000}
            await clients(client, users, 1, 2, **slow)
            alone, _ = await clients(client, users, 1, arguments.requests // 4, **slow)
            together, found = await clients(client, users, 32, arguments.requests, **slow)
            result["language_model"] = {
                "one_client_a_second": round(alone, 3),
                "clients_32_a_second": round(together, 3),
                "times": round(together / alone, 2),
                "answers": Counter(str(one[0]) for one in found),
            }
        if "saturation" in arguments.parts:
            rate, _ = await clients(client, users, 32, arguments.requests)
            pace = min(10 * rate, arguments.most)
            result["saturation"] = {
                "answered_a_second": round(rate, 2),
                **await saturated(client, users, server, pace, arguments.seconds),
            }
        if "refusal" in arguments.parts:
            # Of the language model alone, which cannot answer so many.
            rate, _ = await clients(client, users, 32, arguments.requests, fallback=False)
            pace = min(10 * rate, arguments.most)
            result["refusal"] = {
                "answered_a_second": round(rate, 2),
                **await saturated(client, users, server, pace, arguments.seconds, fallback=False),
            }
        if "reload" in arguments.parts:
            stop = asyncio.Event()
            found = []

            async def steadily() -> None:
                n = 0
                while not stop.is_set():
                    n += 1
                    found.append(await ask(client, {"user": users[n % len(users)], "k": 10, "system": "backbone"}))

            asking = [asyncio.create_task(steadily()) for _ in range(4)]
            statuses, memory = Counter(), []
            for _ in range(arguments.reloads):
                memory.append(server.memory_info().rss)
                answer = await client.post("/admin/reload", json={"run": str(run)})
                statuses[str(answer.status_code)] += 1
            stop.set()
            await asyncio.gather(*asking)
            # The version that was replaced last goes with its last request.
            await asyncio.sleep(3)
            memory.append(server.memory_info().rss)
            result["reload"] = {
                "reloads": statuses,
                "requests": len(found),
                "failed": sum(one[0] != 200 for one in found),
                "failures": Counter(f"{one[0]} {one[2]}".strip() for one in found if one[0] != 200),
                "ms": percentiles([one[1] for one in found]),
                "memory_mb_before_each_and_after": [one >> 20 for one in memory],
            }
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--deadline-ms", type=float, default=10_000, help="of the server; throughput wants a long one")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server; memory is that of the first")
    parser.add_argument("--most", type=float, default=300, help="requests a second at the most")
    parser.add_argument("--output", type=Path, default=RESULTS / "serve_load.json")
    arguments = parser.parse_args()
    about = measured_by("serve_load")
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        keys = Path(folder) / "keys.json"
        key = add_key(keys, "bench", ["read", "write", "admin"])
        options = [
            "--port",
            str(port),
            "--deadline-ms",
            str(arguments.deadline_ms),
            "--workers",
            str(arguments.workers),
            "--keys",
            str(keys),
            "--database",
            f"sqlite:///{folder}/state.sqlite3",
        ]
        command = [sys.executable, "-c", "from allmrec.cli import main; main()", "serve", str(arguments.run), *options]
        with (Path(folder) / "log").open("w") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, server)
            load = [round(value, 1) for value in psutil.getloadavg()]
            found = asyncio.run(measured(url, key, psutil.Process(server.pid), arguments.run, arguments))
        finally:
            server.terminate()
            server.wait(60)
    write_result(
        arguments.output,
        {**about, "load_of_the_machine_before": load, "run": arguments.run.name, "workers": arguments.workers, **found},
    )
    print(f"{found}\nWritten: {arguments.output}")
    lost = sum(found.get(part, {}).get("not_answered", 0) for part in ("saturation", "refusal"))
    lost += found.get("reload", {}).get("failed", 0)
    if lost:
        raise SystemExit(f"{lost} requests were not answered.")


def wait_until_ready(url: str, server: subprocess.Popen[Any], seconds: float = 300) -> None:
    """Until the server has answered a first request.

    Raises:
        SystemExit: it ended, or took too long.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"{url}/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit("The server did not become ready.")


if __name__ == "__main__":
    main()

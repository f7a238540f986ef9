"""A server that is killed at random moments while it stores, and what of that is lost."""

from __future__ import annotations

import random
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.serve.conftest import Process

from allmrec.serve.state import State

__all__ = ["Kept", "killed_while_writing"]


@dataclass(frozen=True)
class Kept:
    """How many writes a server acknowledged, and which of them it lost."""

    events: int
    items: int
    lost_events: set[str]
    lost_items: set[str]


def killed_while_writing(run: Path, folder: Path, port: int, kills: int, seed: int) -> Kept:
    """Kill a server at random moments under writes, and look for what it acknowledged; at the end it starts by itself."""
    url, rng = f"http://127.0.0.1:{port}", random.Random(seed)  # noqa: S311  # moments, no secrets
    database = f"sqlite:///{folder}/state.sqlite3"
    options = ["--port", str(port), "--database", database, "--device", "cpu"]
    events: set[str] = set()
    items: set[str] = set()
    for round_ in range(kills):
        server = Process(run, *options, log=folder / "log", forked=True)
        server.ready(url, times=1)
        stop = threading.Event()

        def write(name: str, stop: threading.Event = stop) -> None:
            n = 0
            with httpx.Client(base_url=url, timeout=10) as client:
                while not stop.is_set():
                    key = f"{name}-{n}"
                    n += 1
                    try:
                        if name.startswith("items"):
                            body = {"items": [{"item_id": key, "title": f"Item {n}"}]}
                            if client.put("/v1/items", json=body).status_code == 200:
                                items.add(key)
                        else:
                            body = {"events": [{"user_id": "zoe", "item_id": "i1", "key": key}]}
                            if client.post("/v1/events", json=body).status_code == 200:
                                events.add(key)
                    except httpx.TransportError:
                        return

        threads = [threading.Thread(target=write, args=(f"{kind}-{round_}",)) for kind in ("a", "b", "items")]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.05, 1.5))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        stop.set()
        for thread in threads:
            thread.join()
        server.end()
    state = State(database)
    kept, known = {event.key for event in state.all_events()}, {item.item_id for item in state.items()[0]}
    state.close()
    # And it starts by itself.
    server = Process(run, *options, log=folder / "log", forked=True)
    server.ready(url, times=1)
    server.end()
    return Kept(len(events), len(items), events - kept, items - known)

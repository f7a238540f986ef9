"""Whatever is sent, no answer is a fault of the server."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from allmrec.library import Run

pytest.importorskip("schemathesis")

from ports import free_port
from serve_fuzz import fuzzed

from tests.serve.conftest import Process


def test_no_request_is_answered_with_5xx(run: Run, tmp_path: Path) -> None:
    # In a process of its own: hypothesis refuses strategies beside which somebody draws from the global generator, and a server's
    # threads do, for the numbers of its traces.
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--port", str(port), "--database", f"sqlite:///{tmp_path}/state.sqlite3", "--device", "cpu"]
    server = Process(run.path, *options, log=tmp_path / "log", forked=True)
    try:
        server.ready(url, times=1)
        statuses, failed = fuzzed(url, examples=8)
        assert failed == []
        assert statuses.total() > 200
        # Both kinds came through: what is answered, and what is refused.
        assert statuses[200]
        assert statuses[422]
        assert httpx.get(f"{url}/health/ready", timeout=60).status_code == 200
    finally:
        server.end()

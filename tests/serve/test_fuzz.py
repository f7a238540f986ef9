"""Whatever is sent, no answer is a fault of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("schemathesis")

from serve_fuzz import fuzzed


def test_no_request_is_answered_with_5xx(fresh: Callable[..., Any]) -> None:
    with fresh() as server:
        statuses, failed = fuzzed(server.url, examples=8)
        assert failed == []
        assert statuses.total() > 200
        # Both kinds came through: what is answered, and what is refused.
        assert statuses[200]
        assert statuses[422]
        assert server.ask("/health/ready", None, "GET")

"""Requests that nobody would write, drawn from a server's own description of itself."""

from __future__ import annotations

from collections import Counter

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

__all__ = ["fuzzed"]


def fuzzed(url: str, examples: int, start: int = 0) -> tuple[Counter[int], list[str]]:
    """Ask every route with values that fit its description and with values that do not.

    Args:
        url: of a server on this machine.
        examples: how many of each kind for each route.
        start: seed.

    Returns:
        How many answers of each status there were, and the first requests that were answered with 5xx.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    statuses: Counter[int] = Counter()
    failed: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                strategy = operation.as_strategy(generation_mode=mode)
            except Exception as error:
                if "negat" not in str(error).lower():
                    raise
                continue  # a route without parameters has no wrong ones

            @seed(start)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=False,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def ask(case: schemathesis.Case) -> None:
                answer = case.call(timeout=120)
                statuses[answer.status_code] += 1
                if answer.status_code >= 500 and len(failed) < 20:
                    failed.append(f"{answer.status_code} {case.as_curl_command()} {answer.text[:300]}")

            try:
                ask()
            except Unsatisfiable:
                if mode is not GenerationMode.NEGATIVE:
                    raise
                # What has no parameters, or takes any text, has no wrong ones.
    return statuses, failed

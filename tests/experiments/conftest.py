"""A trained run of the tiny world, as the command line's tests have it."""

from __future__ import annotations

from tests.cli.conftest import workplace

__all__ = ["workplace"]

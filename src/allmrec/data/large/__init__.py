"""Preparing by DuckDB what no memory holds: the same data set, counts and report as `data.build` gives."""

from __future__ import annotations

from allmrec.data.large.choice import ENGINES, Engine, chosen_engine
from allmrec.data.large.prepare import Prepared, prepare_to

__all__ = ["ENGINES", "Engine", "Prepared", "chosen_engine", "prepare_to"]

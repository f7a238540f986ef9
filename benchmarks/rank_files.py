"""Ranks of a table's users; they live in the package now, where experiments keep theirs the same way."""

from __future__ import annotations

from allmrec.evaluation.rank_files import (
    MISS,
    NOT_ASKED,
    Asked,
    Kept,
    as_ranks,
    asked_in,
    kept,
    placed,
    read_ranks,
    write_ranks,
)

__all__ = ["MISS", "NOT_ASKED", "Asked", "Kept", "as_ranks", "asked_in", "kept", "placed", "read_ranks", "write_ranks"]

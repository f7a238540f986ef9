"""How long each stage of a cell was trained, and on what: stages are shared, so a cell's own time and device do not say it.

A cell keeps the seconds of all its stages together, and newer ones those of each, and which of them it trained itself. Of the others it
is found by comparing cells: SASRec's cell says what SASRec took, and what is left of A-LLMRec's is its two stages'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["StagePart", "StageTimes"]


@dataclass(frozen=True)
class StagePart:
    """One stage of a cell, or several whose times nothing tells apart.

    Attributes:
        labels: of the stages.
        keys: theirs.
        seconds: of their training.
        device: that trained them; empty where no cell tells it.
    """

    labels: tuple[str, ...]
    keys: frozenset[str]
    seconds: float
    device: str

    @property
    def machine(self) -> str:
        """The device, however many cells ran beside one another on it."""
        return _machine(self.device)


class StageTimes:
    """What cells say together of the stages that they share.

    Args:
        cells: what each says of itself, see `Results.write`.
    """

    def __init__(self, cells: Iterable[Mapping[str, Any]]) -> None:
        self._cells = [about for about in cells if about.get("made_of")]
        self._keys = [frozenset(about["made_of"].values()) for about in self._cells]

    def parts(self, about: Mapping[str, Any]) -> list[StagePart]:
        """The trainings behind a cell, in order; their seconds add up to the cell's `train_seconds`.

        Args:
            about: what the cell says of itself.
        """
        labels = {key: label for label, key in about.get("made_of", {}).items()}
        total = about["costs"].get("train_seconds")
        if total is None or not labels:
            return []
        if "stage_seconds" in about:
            own = about["stage_seconds"]
            return [
                StagePart((label,), frozenset({key}), own[label], self._kept_device(key, own[label]))
                for key, label in labels.items()
                if label in own
            ]
        return list(self._split(labels, frozenset(labels), float(total)))

    def together(self, cells: Iterable[Mapping[str, Any]]) -> float:
        """Seconds of all trainings behind some cells, each stage once.

        Stages that only some cells tell apart may be counted with others a second time, so it is rather too much than too little.
        """
        parts = {(part.keys, part.seconds) for about in cells for part in self.parts(about)}
        counted: set[str] = set()
        total = 0.0
        for keys, seconds in sorted(parts, key=lambda part: (len(part[0]), sorted(part[0]), -part[1])):
            total += 0.0 if keys <= counted else seconds
            counted |= keys
        return total

    def _split(self, labels: Mapping[str, str], keys: frozenset[str], seconds: float) -> Iterator[StagePart]:
        """The trainings behind some stages: one, where a cell trained them all; else those that other cells tell apart."""
        device = self._trained_whole(keys, seconds)
        if device is None:
            for part, own in self._within(keys, seconds):
                yield from self._split(labels, part, own)
                keys, seconds = keys - part, seconds - own
            device = self._likely_machine(labels, keys, seconds)
        if keys:
            yield StagePart(tuple(label for key, label in labels.items() if key in keys), keys, seconds, device)

    def _within(self, keys: frozenset[str], total: float) -> Iterator[tuple[frozenset[str], float]]:
        """Cells that are made of some of these stages, the largest first, none of a stage twice; with their seconds."""
        known = {
            (of, float(about["costs"]["train_seconds"]))
            for about, of in zip(self._cells, self._keys, strict=True)
            if of < keys and "train_seconds" in about["costs"]
        }
        for part, seconds in sorted(known, key=lambda one: (-len(one[0]), one[1], sorted(one[0]))):
            if part <= keys and seconds <= total:
                keys, total = keys - part, total - seconds
                yield part, seconds

    def _trained_whole(self, keys: frozenset[str], seconds: float) -> str | None:
        """The device of a cell of just these stages that took as long as they did, so it trained them."""
        return next(
            (
                str(about["device"])
                for about, of in zip(self._cells, self._keys, strict=True)
                if of == keys and about["costs"].get("train_seconds") == seconds and about["seconds"] >= seconds
            ),
            None,
        )

    def _likely_machine(self, labels: Mapping[str, str], keys: frozenset[str], seconds: float) -> str:
        """That of the smallest cells with these stages, where they have one; else the only one whose cells took long enough.

        A CF model is often trained before, elsewhere, so where it cannot be told apart from other stages nothing is said.
        """
        pairs = [(about, of) for about, of in zip(self._cells, self._keys, strict=True) if keys <= of]
        if not keys or (len(keys) > 1 and "pretrain" in {labels[key] for key in keys}):
            pairs = []
        fewest = min((len(of) for _, of in pairs), default=0)
        smallest = {_machine(str(about["device"])) for about, of in pairs if len(of) == fewest}
        long = {_machine(str(about["device"])) for about, _ in pairs if about["seconds"] >= seconds}
        return next((next(iter(found)) for found in (smallest, long) if len(found) == 1), "")

    def _kept_device(self, key: str, seconds: float) -> str:
        """The device of the cell that says to have trained a stage."""
        for about in self._cells:
            for label in about.get("trained_here", ()):
                if about["made_of"].get(label) == key and about.get("stage_seconds", {}).get(label) == seconds:
                    return str(about["device"])
        return ""


def _machine(device: str) -> str:
    """A device without how many cells ran on it at a time."""
    return re.sub(r", \d+ cells at a time$", "", device)

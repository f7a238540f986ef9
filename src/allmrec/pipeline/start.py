"""Where a run begins: with nothing, or with stages of an earlier run on earlier data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from allmrec.core.errors import ArtifactError
from allmrec.core.hashing import content_hash

__all__ = ["Start", "shape_hash"]

# Parts that are written only where there is something in them.
_OPTIONAL = ("kept", "despite")


@dataclass(frozen=True)
class Start:
    """Stages of an earlier run that a run goes on from.

    Attributes:
        run: the earlier run's folder.
        keys: the key of each such stage by name. It is an input of the stage that goes on from it.
        shapes: of each, a hash of the settings that must stay the same; where they change, the stage is trained anew.
        anew: of each other stage, why it is trained anew.
        kept: of each stage whose earlier weights stay as they are, why.
        despite: of each stage that goes on although the earlier one knows a few answers of validation, which.
    """

    run: str
    keys: Mapping[str, str]
    shapes: Mapping[str, str]
    anew: Mapping[str, str]
    kept: Mapping[str, str] = field(default_factory=dict)
    despite: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, about: Mapping[str, Any] | None, path: Path) -> Start | None:
        """What `as_json` gave; None for nothing.

        Raises:
            ArtifactError: it is something else.
        """
        if about is None:
            return None
        parts = [about.get(name) for name in ("keys", "shapes", "anew")] + [about.get(name, {}) for name in _OPTIONAL]
        whole = all(isinstance(part, dict) and all(isinstance(v, str) for v in part.values()) for part in parts)
        if (
            not whole
            or not isinstance(about.get("run"), str)
            or len(about) != 4 + sum(name in about for name in _OPTIONAL)
        ):
            raise ArtifactError(f"The start in {path} is damaged; restore the file, or train into a new folder.")
        return cls(**about)

    def as_json(self) -> dict[str, Any]:
        """As it stands in `run.json`."""
        parts = {name: value if isinstance(value, str) else dict(value) for name, value in asdict(self).items()}
        return {name: value for name, value in parts.items() if value or name not in _OPTIONAL}

    def key(self, stage: str, shape: Mapping[str, Any] | None) -> str | None:
        """The key of the stage to go on from; None where it is trained anew."""
        if stage not in self.keys or shape is None or self.shapes.get(stage) != shape_hash(shape):
            return None
        return self.keys[stage]


def shape_hash(shape: Mapping[str, Any]) -> str:
    """A hash of settings that must stay the same."""
    return content_hash(json.dumps(shape, sort_keys=True))

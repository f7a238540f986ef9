"""JSON that people can read: one line per row of numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["readable_json"]

# A line break never stands inside a JSON string, so this finds lists of numbers and nothing else.
_NUMBERS = re.compile(r"\[\n\s*((?:-?[\d.eE+-]+|null)(?:,\s*(?:-?[\d.eE+-]+|null))*)\n\s*\]")


def readable_json(value: Mapping[str, Any]) -> str:
    """Indented JSON in which a list of numbers stays on its line."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return _NUMBERS.sub(lambda match: "[" + " ".join(match[1].split()) + "]", text) + "\n"

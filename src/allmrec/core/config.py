"""The base of every config and the one place that turns a mapping into one; knows no particular field."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from allmrec.core.errors import ConfigError

__all__ = ["Config", "parse_config"]

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Immutable, typed settings of one component; an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_config(kind: type[C], values: Mapping[str, Any], where: str) -> C:
    """Check values against a config class.

    Args:
        kind: the config class.
        values: field names and values, nested mappings for nested configs.
        where: what the values came from, for the message.

    Raises:
        ConfigError: names each field that is unknown or wrong, with the nearest known name.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = ".".join(map(str, problem["loc"]))
            if problem["type"] == "extra_forbidden":
                close = difflib.get_close_matches(str(problem["loc"][-1]), _field_names(kind), n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                lines.append(f"  {name}: no such field{hint}")
            else:
                lines.append(f"  {name}: {problem['msg']} (found {problem['input']!r})")
        raise ConfigError(f"{where} does not fit {kind.__name__}:\n" + "\n".join(lines)) from None


def _field_names(kind: type[BaseModel]) -> list[str]:
    """Names of a config's fields and of its nested configs' fields."""
    names = []
    for name, info in kind.model_fields.items():
        names.append(name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names.extend(_field_names(info.annotation))
    return names

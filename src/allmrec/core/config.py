"""The base of every config and the one place that turns a mapping into one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from allmrec.core.errors import ConfigError

__all__ = ["Config", "defaults", "merged", "parse_config"]

C = TypeVar("C", bound="Config")

# Fields that decide how large a model or a prompt is. A configuration may come from somebody else: a size that nothing can
# have is refused before it is tried. The limits are far above any model of today.
_WIDEST, _DEEPEST = 65_536, 1_024
_LARGEST = {
    **dict.fromkeys(("dim", "joint_dim", "hidden", "heads", "kernel", "dilations", "window", "r"), _WIDEST),
    **dict.fromkeys(("max_history", "title_tokens", "max_tokens", "max_new_tokens", "negatives"), _WIDEST),
    **dict.fromkeys(("candidates", "validation_negatives"), _WIDEST),
    **dict.fromkeys(("blocks", "layers"), _DEEPEST),
    "prompt_tokens": 16 * _WIDEST,
}


class Config(BaseModel):
    """Immutable, typed settings of one component; an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _sizes_are_possible(self) -> Self:
        for name, largest in _LARGEST.items():
            value = getattr(self, name, None)
            for size in value if isinstance(value, tuple) else (value,):
                if type(size) is int and size > largest:
                    raise ValueError(f"{name} is {size}; it may be {largest:,} at most")
            if isinstance(value, tuple) and len(value) > _DEEPEST:
                raise ValueError(f"{name} has {len(value)} entries; it may have {_DEEPEST:,} at most")
        return self


def parse_config(kind: type[C], values: Mapping[str, Any], where: str) -> C:
    """Check values against a config class.

    Args:
        kind: the config class.
        values: field names and values, nested mappings for nested configs.
        where: what the values came from, for the message.

    Raises:
        ConfigError: names each field that is unknown or wrong by its path, with the nearest known one.
    """
    try:
        return kind.model_validate(values)
    except ConfigError as error:
        # From a part that a validator parsed by itself, which does not know what it came from.
        raise ConfigError(f"{where}: {error}") from None
    except ValidationError as error:
        problems = list(_problems(error, _field_paths(kind)))
        start = " " if len(problems) == 1 else "\n  "
        raise ConfigError(f"{where} does not fit {kind.__name__}:" + "".join(start + p for p in problems)) from None


def defaults(kind: type[Config]) -> dict[str, Any]:
    """The defaults of a config class as plain values, groups of fields included; required fields are left out."""
    found = {}
    for name, info in kind.model_fields.items():
        if not info.is_required():
            value = info.get_default(call_default_factory=True)
            found[name] = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return found


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Values with others in their place; groups of fields are joined."""
    joined = dict(below)
    for name, value in above.items():
        under = joined.get(name)
        joined[name] = merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return joined


def _problems(error: ValidationError, known: Sequence[str]) -> Iterator[str]:
    """One line a wrong field, named by its whole path."""
    for problem in error.errors():
        name, found = ".".join(map(str, problem["loc"])), problem["input"]
        message = problem["msg"].removeprefix("Value error, ")
        while name not in known and name.rpartition(".")[0] in known and problem["type"] != "extra_forbidden":
            name = name.rpartition(".")[0]  # pydantic adds the member of a union
        if problem["type"] == "extra_forbidden":
            near = _nearest(name, known)
            yield f"{name}: no such field" + (f"; did you mean {' or '.join(near)}?" if near else "")
        elif isinstance(found, Mapping):
            # The rule is about several fields, and its message says which; all their values would hide it.
            yield f"{name}: {message}" if name else message
        else:
            yield f"{name}: {message} (found {found!r})"


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    """The field that was probably meant: a neighbour spelled alike, else the same name in another place."""
    parent, _, last = name.rpartition(".")
    beside = [path.rpartition(".")[2] for path in known if path.rpartition(".")[0] == parent]
    close = difflib.get_close_matches(last, beside, n=1)
    if close:
        return [f"{parent}.{close[0]}" if parent else close[0]]
    return [path for path in known if path.rpartition(".")[2] == last][:3]


def _field_paths(kind: type[BaseModel], parent: str = "") -> list[str]:
    """Paths of a config's fields and of its nested configs' fields, such as `training.epochs`."""
    paths = []
    for name, info in kind.model_fields.items():
        paths.append(parent + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            paths.extend(_field_paths(info.annotation, f"{parent}{name}."))
    return paths

"""Writes docs/configuration.md: every field of a run, of a preparation and of a source, from the config classes.

    python docs/generate_configuration.py

`tests/docs/test_configuration_reference.py` fails when the file is not what this writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from allmrec.cf.registry import BACKBONES
from allmrec.data.build import PrepareConfig
from allmrec.data.sources import SOURCES
from allmrec.pipeline.config import RunConfig, load_recipe, recipe_names

TARGET = Path(__file__).with_name("configuration.md")

_HEAD = """\
# Every field

Written by `python docs/generate_configuration.py` from the config classes. Do not edit it by hand.

The fields of a run are what a recipe's TOML file and `--set` name; in Python they are the keys of `changes`. An unknown
field is an error that names the nearest known one. `none` stands for nothing. [recipes.md](recipes.md) explains the
choices; the last column says which recipe has another value than the default. A run's `seed` takes the place of each
stage's own `training.seed`.
"""


def fields(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Name, value and description of every single field; nested configs are taken apart."""
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, info.description or ""


def run_table() -> list[str]:
    """All fields of a run, with the recipes that change them."""
    recipes = {name: {field: value for field, value, _ in fields(load_recipe(name))} for name in recipe_names()}
    lines = ["| field | default | what | otherwise in |", "|---|---|---|---|"]
    for name, value, about in fields(RunConfig()):
        others = [f"{recipe}: {_shown(found[name])}" for recipe, found in recipes.items() if found[name] != value]
        lines.append(f"| `{name}` | {_shown(value)} | {_cell(about)} | {'<br>'.join(others)} |")
    return lines


def class_table(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """The fields of a config class that has no complete set of defaults."""
    lines = ["| field | default | what |", "|---|---|---|"]
    for name, info in kind.model_fields.items():
        default = info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            lines += [f"| `{n}` | {_shown(v)} | {_cell(a)} |" for n, v, a in fields(default, f"{prefix}{name}.")]
        else:
            shown = "required" if default is PydanticUndefined else _shown(default)
            lines.append(f"| `{prefix}{name}` | {shown} | {_cell(info.description or '')} |")
    return lines


def reference() -> str:
    """The whole page."""
    parts = [_HEAD, "## A run", "", *run_table(), ""]
    for name, kind in BACKBONES.items():
        parts += [f"## `pretrain.model` where `pretrain.backbone` is `{name}`", "", *class_table(kind.config), ""]
    parts += ["## Preparing data (`PrepareConfig`)", "", *class_table(PrepareConfig), ""]
    for name, source in SOURCES.items():
        parts += [f"## The source `{name}` (`{source.config.__name__}`)", "", *class_table(source.config), ""]
    return "\n".join(parts)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{_cell(str(list(value)))}`"
    # Code keeps a leading or trailing blank only between quotes.
    return f"`{_cell(value if isinstance(value, str) and value and value == value.strip() else repr(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")

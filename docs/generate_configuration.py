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
from allmrec.core.config import Config
from allmrec.core.training import TrainingConfig
from allmrec.data.build import PrepareConfig
from allmrec.data.sources import SOURCES
from allmrec.recipes.config import RunConfig
from allmrec.recipes.files import load_recipe, recipe_names
from allmrec.systems.registry import SYSTEMS

TARGET = Path(__file__).with_name("configuration.md")

_HEAD = """\
# Every field

Written by `python docs/generate_configuration.py` from the config classes. Do not edit it by hand.

The fields of a run are what a recipe's TOML file and `--set` name; in Python they are the keys of `changes`. An unknown
field is an error that names the nearest known one. `none` stands for nothing. [recipes.md](recipes.md) explains the
choices; the last column says which recipe has another value than the default.

A field stands here once. A group that several places have in common has a section of its own: [training](#training) is in
every stage and in some systems. Where a group is given in part, its other fields keep the defaults of that place, and in
`systems.NAME` what the run's own stages say.
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
    """All fields of a run but those of training, with the recipes that change them."""
    recipes = _recipes()
    lines = ["| field | default | what | otherwise in |", "|---|---|---|---|"]
    for name, value, about in fields(RunConfig()):
        if ".training." not in name:
            others = [f"{recipe}: {_shown(found[name])}" for recipe, found in recipes.items() if found[name] != value]
            lines.append(f"| `{name}` | {_shown(value)} | {_cell(about)} | {'<br>'.join(others)} |")
    return lines


def training_table() -> list[str]:
    """The fields of a training, with the defaults of each stage and the recipes that change them."""
    recipes = _recipes()
    run = {name: value for name, value, _ in fields(RunConfig())}
    lines = ["| field | `pretrain.training` | `align.training` | `tune.training` | what |", "|---|---|---|---|---|"]
    for name, _, about in fields(TrainingConfig()):
        cells = []
        for stage in ("pretrain", "align", "tune"):
            path = f"{stage}.training.{name}"
            others = [
                f"{recipe}: {_shown(found[path])}" for recipe, found in recipes.items() if found[path] != run[path]
            ]
            cells.append("<br>".join([_shown(run[path]), *others]))
        lines.append(f"| `{name}` | {' | '.join(cells)} | {_cell(about)} |")
    return lines


def system_table(kind: type[Config]) -> list[str]:
    """The fields of a system that stand nowhere else; of a group that does, where, and which values differ."""
    known = {type(value): f"`{name}`" for name, value in _groups(RunConfig)} | {TrainingConfig: "[training](#training)"}
    run = {name: (value, about) for name, value, about in fields(RunConfig())}
    lines = ["| field | default | what |", "|---|---|---|"]
    for name, info in kind.model_fields.items():
        default = info.get_default(call_default_factory=True)
        if type(default) in known:
            usual = {n: v for n, v, _ in fields(type(default)())} if type(default) is TrainingConfig else None
            own = "" if usual is None else ", ".join(f"{n} {_shown(v)}" for n, v, _ in fields(default) if usual[n] != v)
            lines.append(
                f"| `{name}` | {own} | The fields of {known[type(default)]}. {_cell(info.description or '')} |"
            )
        elif isinstance(default, BaseModel):
            lines += [f"| `{n}` | {_shown(v)} | {_cell(a)} |" for n, v, a in fields(default, f"{name}.")]
        elif any(run.get(f"{place}.{name}", (None, ""))[1] == info.description for place in ("tune", "pretrain")):
            place = "tune" if f"tune.{name}" in run and run[f"tune.{name}"][1] == info.description else "pretrain"
            lines.append(f"| `{name}` | as `{place}.{name}` | |")
        else:
            lines.append(f"| `{name}` | {_shown(default)} | {_cell(info.description or '')} |")
    return lines


def _recipes() -> dict[str, dict[str, Any]]:
    return {name: {field: value for field, value, _ in fields(load_recipe(name))} for name in recipe_names()}


def _groups(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, BaseModel]]:
    """Every group of a config class by its path, the inner ones too."""
    for name, info in kind.model_fields.items():
        default = info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield f"{prefix}{name}", default
            yield from _groups(type(default), f"{prefix}{name}.")


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
    parts = [_HEAD, "## A run", "", *run_table(), "", "## Training", "", *training_table(), ""]
    for name, kind in BACKBONES.items():
        parts += [f"## `pretrain.model` where `pretrain.backbone` is `{name}`", "", *class_table(kind.config), ""]
    described = set()
    for system in SYSTEMS.values():
        if (settings := system.settings) is not None and settings.name not in described:
            described.add(settings.name)
            if settings.name in BACKBONES:
                continue
            parts += [
                f"## `systems.{settings.name}` (`{settings.config.__name__}`)",
                "",
                *system_table(settings.config),
                "",
            ]
    cf = ", ".join(f"`{name}`" for name in BACKBONES if name in described)
    parts += [
        f"## `systems.NAME` of a CF model ({cf})",
        "",
        "The fields of `pretrain`; what is not given is as there.",
        "",
    ]
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

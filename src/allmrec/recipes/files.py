"""Named recipes, recipes from files, and single changes from the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from allmrec.core.config import merged
from allmrec.core.errors import ConfigError
from allmrec.recipes.config import RunConfig, config_with

__all__ = ["load_recipe", "parse_changes", "recipe_names"]


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    folder = resources.files("allmrec.recipes")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(recipe: str, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """A run's configuration from a recipe and single changes.

    Args:
        recipe: a name of `recipe_names()`, or a path of a TOML file. With `base` it says what it changes of another one: a name,
            or a path from its own folder.
        changes: fields such as `tune.training.epochs` with their values; see `parse_changes`.

    Raises:
        ConfigError: no such recipe, no such field, or a value that does not fit.
    """
    values = _read_recipe(recipe)
    given = " with the changes given" if changes else ""
    return config_with(values, changes or {}, f"The recipe {recipe}{given}")


def _read_recipe(recipe: str, folder: Path | None = None, on: tuple[str, ...] = ()) -> dict[str, Any]:
    """A recipe's values over those of its base.

    Args:
        recipe: as of `load_recipe`.
        folder: of the recipe that names this one as its base.
        on: the recipes on the way here, the first one first.
    """
    path: Path | None = (folder or Path()) / recipe
    if recipe in recipe_names():
        text, path = (resources.files("allmrec.recipes") / f"{recipe}.toml").read_text("utf-8"), None
    elif path is not None and path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"The recipe {recipe} is no TOML: {error}. Save it as UTF-8.") from None
    else:
        raise ConfigError(f"There is no recipe {recipe!r}: neither a file nor one of {', '.join(recipe_names())}.")
    name = recipe if path is None else str(path.resolve())
    if name in on:
        raise ConfigError(f"The recipe {recipe} is its own base: {' -> '.join((*on, name))}.")
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The recipe {recipe} is no TOML: {error}.") from None
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"The recipe {recipe} has base = {base!r}; expected the name or the path of a recipe.")
    return merged(_read_recipe(base, None if path is None else path.parent, (*on, name)), values)


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Changes from the command line: `field=value`, the value as TOML, else as text; `none` for nothing.

    Raises:
        ConfigError: a text without a name or an equals sign.
    """
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"Cannot read the change {text!r}; expected field=value, e.g. tune.training.epochs=3.")
        changes[name.strip()] = _toml_value(value.strip())
    return changes


def _toml_value(text: str) -> Any:
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

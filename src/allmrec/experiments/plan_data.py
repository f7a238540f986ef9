"""Data sets of a plan, and its paths: which of its values are some, and what they are from another folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from allmrec.core.config import Config
from allmrec.core.places import path_from
from allmrec.data.prepare_config import PrepareConfig
from allmrec.data.source_files import path_fields
from allmrec.data.sources import SOURCES
from allmrec.recipes.files import recipe_names

__all__ = ["DataConfig", "leading_from", "recipe_path", "whole"]


class DataConfig(Config):
    """A data set: one that `allmrec prepare` wrote, or raw files that are prepared on the way."""

    path: str | None = Field(None, description="Folder of prepared data, from the plan's own folder.")
    source: str | None = Field(
        None, description="How raw files are read: a source of `allmrec prepare`, such as table."
    )
    options: dict[str, Any] = Field({}, description="That source's options; paths from the plan's own folder.")
    prepare: PrepareConfig = Field(PrepareConfig(), description="Which interactions and items remain.")
    recipe: str | None = Field(None, description="Another recipe than the plan's.")
    changes: dict[str, Any] = Field({}, description="Changed fields of the recipe, such as `tune.training.epochs`.")
    nearest: str | None = Field(
        None, description="The paper's set whose figures stand beside; none: the one nearest in size."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.source is None):
            raise ValueError("a data set has either a path of prepared data, or a source with its options")
        return self

    def with_paths(self, path: Callable[[str], str], recipe: Callable[[str], str]) -> DataConfig:
        """The same with other paths. A column may be called as a folder is; it stays what it is.

        Args:
            path: gives a path in place of one.
            recipe: gives a recipe's name or path in place of one.
        """
        known = None if self.source is None else SOURCES.get(self.source)
        paths = set() if known is None else path_fields(known.config)
        options = {
            name: path(value) if name in paths and isinstance(value, str) else value
            for name, value in self.options.items()
        }
        own = None if self.path is None else path(self.path)
        return self.model_copy(update={"path": own, "options": options, "recipe": self.recipe and recipe(self.recipe)})


def recipe_path(recipe: str, folder: Path) -> str:
    """A recipe's file as a whole path; a name of the package's, or what is no file, as it is.

    Args:
        recipe: a name or a path.
        folder: where paths lead from.
    """
    known = recipe in recipe_names() or not (folder / Path(recipe).expanduser()).is_file()
    return recipe if known else whole(recipe, folder)


def whole(path: str, folder: Path) -> str:
    """A path that leads from a folder, whole, whether or not there is anything."""
    return str((folder / Path(path).expanduser()).resolve())


def leading_from(path: str, folder: Path) -> str:
    """A whole path that leads somewhere, as it leads from a folder; anything else as it is."""
    return path_from(Path(path), folder) if Path(path).is_absolute() and Path(path).exists() else path

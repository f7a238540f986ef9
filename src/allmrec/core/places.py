"""Fields of a config that name a file, a folder or something elsewhere: made whole, so that they mean the same anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeVar

from allmrec.core.config import Config
from allmrec.core.errors import ConfigError

__all__ = ["PLACE", "ModelName", "check_folder", "path_from", "with_whole_places"]

C = TypeVar("C", bound=Config)

PLACE = "names a place"
"""Marks a field, in `Annotated`, whose text may be a path."""

ModelName = Annotated[str, PLACE]
"""A model by its folder or file, or by a name on the hub or of a package."""


def with_whole_places(config: C) -> C:
    """The same config with each path that leads somewhere from here written out whole; other names stay as they are.

    A run is opened from other folders than the one that it was made in. So this is done once, when it is made: done when it
    is opened, a hub's name would become a folder that happens to be called the same.

    Args:
        config: fields marked with `PLACE`, in it or in configs inside of it, are looked at.
    """
    changed: dict[str, object] = {}
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            whole: object = with_whole_places(value)
        elif isinstance(value, str) and PLACE in info.metadata:
            whole = _whole(value)
        else:
            continue
        if whole != value:
            changed[name] = whole
    return config.model_copy(update=changed) if changed else config


def check_folder(path: Path, option: str = "-o") -> None:
    """Make sure that a path is a folder, or that one can be made there; nothing is written.

    Args:
        path: which.
        option: of the command line that named it, for the message.

    Raises:
        ConfigError: it is something else, or leads through what is no folder.
    """
    there = next((place for place in (path, *path.parents) if place.is_symlink() or place.exists()), path)
    if (there.is_symlink() or there.exists()) and not there.is_dir():
        raise ConfigError(f"{there} is no folder. Give another place with {option}.")


def path_from(path: Path, folder: Path) -> str:
    """How a path leads from a folder, with `/`; the path itself, whole, where none does, as between two drives."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return str(path.resolve())


def _whole(name: str) -> str:
    path = Path(name).expanduser()
    return os.path.abspath(path) if path.exists() else name

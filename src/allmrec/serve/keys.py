"""API keys: random, shown once, kept as SHA-256 in a file. A key has roles: read, write, admin."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pydantic import Field

from allmrec.core.artifacts import read_json, write_json
from allmrec.core.config import Config, parse_config
from allmrec.core.errors import ConfigError

__all__ = ["ROLES", "Keys", "Role", "add_key"]

Role = Literal["read", "write", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


class _Key(Config):
    """One key as the file has it."""

    name: str = Field(min_length=1)
    roles: tuple[Role, ...]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _KeyFile(Config):
    """The file."""

    keys: tuple[_Key, ...]


class Keys:
    """What each key may do.

    A key has 256 random bits, so one round of SHA-256 hides it: there is nothing to guess. Looking a hash up takes as long for
    every key, and nothing about other keys can be read off it.

    Args:
        path: the file; none: no key is asked for.

    Raises:
        ConfigError: the file is not as `add_key` writes it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, _Key] = {}
        self._seen: _Stamp | None = None
        if path is not None:
            self._seen, self._known = _stamp(path), _known(path)

    def refresh(self) -> None:
        """Read the file again where it is another than before, so that a key that was taken out opens nothing any more.

        Raises:
            ConfigError: the file cannot be used; the keys that were known stay.
        """
        if self._path is None or (now := _stamp(self._path)) == self._seen:
            return
        self._seen = now  # said once for each change
        self._known = _known(self._path)

    @property
    def asked(self) -> bool:
        """Whether requests need a key."""
        return self._path is not None

    def name(self, key: str | None) -> str | None:
        """Whose key it is; None where it is not known."""
        found = None if key is None else self._known.get(_hashed(key))
        return None if found is None else found.name

    def may(self, key: str | None, role: Role) -> bool:
        """Whether somebody with this key may do what the role may."""
        if not self.asked:
            return role != "admin"
        found = None if key is None else self._known.get(_hashed(key))
        return found is not None and role in found.roles


def add_key(path: Path, name: str, roles: Sequence[Role]) -> str:
    """Make a key and put its hash into the file; the key itself is returned and kept nowhere.

    Raises:
        ConfigError: there is a key of that name, or the file holds something else.
    """
    known = list(_read(path).keys) if path.exists() else []
    if any(key.name == name for key in known):
        raise ConfigError(
            f"{path} has a key named {name!r} already. Give another name, or remove that one from the file."
        )
    key = secrets.token_urlsafe(32)
    known.append(parse_config(_Key, {"name": name, "roles": tuple(roles), "sha256": _hashed(key)}, "The key"))
    write_json(path, {"keys": [one.model_dump(mode="json") for one in known]})
    path.chmod(0o600)
    return key


def _read(path: Path) -> _KeyFile:
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist; expected a file of keys. Make one: allmrec serve RUN --keys {path} --new-key NAME"
        )
    return parse_config(_KeyFile, read_json(path), str(path))


# When a file was changed, how long it is, and which one it is: another in its place has another number.
_Stamp: TypeAlias = tuple[int, int, int]


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _known(path: Path) -> dict[str, _Key]:
    return {key.sha256: key for key in _read(path).keys}


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

"""Every error that allmrec raises on purpose; this module knows nothing else of the package.

    AllmrecError
    ├── ConfigError         an option or a config field is wrong
    ├── DataError           input data is wrong; names its file and line where it has one
    ├── UnknownIdError      a user or an item id that the data set does not hold
    ├── ArtifactError       a file of ours is damaged, foreign, or of a newer format
    ├── ModelNotFoundError  weights that are neither installed nor reachable
    └── MissingExtraError   an optional package is not installed

A message says what was found, what was expected and what to do.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AllmrecError",
    "ArtifactError",
    "ConfigError",
    "DataError",
    "MissingExtraError",
    "ModelNotFoundError",
    "UnknownIdError",
]


class AllmrecError(Exception):
    """Root of the tree. The command line prints it without a traceback."""


class ConfigError(AllmrecError):
    """An option or a config field has a value that cannot work."""


class DataError(AllmrecError):
    """Input data that cannot be used.

    Args:
        message: what was found, what was expected, what to do.
        path: the file, where there is one.
        line: the line in that file, counted from 1.
    """

    def __init__(self, message: str, path: Path | str | None = None, line: int | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        where = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(where + message)


class UnknownIdError(AllmrecError):
    """A user or item id that the data set does not hold."""


class ArtifactError(AllmrecError):
    """A file written by allmrec is missing, damaged, foreign, or of a newer format."""


class ModelNotFoundError(AllmrecError):
    """Weights that are neither on this machine nor reachable."""


class MissingExtraError(AllmrecError):
    """An optional package is not installed.

    Args:
        package: what is missing.
        extra: the extra of allmrec that installs it.
        purpose: what it is needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed. Run: pip install 'allmrec[{extra}]'")

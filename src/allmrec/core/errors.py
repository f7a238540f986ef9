"""Every error that allmrec raises on purpose; this module knows nothing else of the package.

    AllmrecError
    ├── ConfigError         an option or a config field is wrong
    ├── DataError           input data is wrong; names its file and line where it has one
    │   └── NoRecordsError  a file is sound and holds no record
    ├── UnknownIdError      a user or an item id that the data set does not hold
    ├── ArtifactError       a file of ours is damaged, foreign, or of a newer format
    ├── ModelNotFoundError  weights that are neither installed nor reachable
    ├── MissingExtraError   an optional package is not installed
    ├── DivergedError       training came to a loss or weights that are no number, or absurd
    ├── NoSpaceError        a file could not be written because the disk is full
    ├── ProcessLostError    another of the processes that train together is gone or cannot be reached
    ├── RunInUseError       another process is training the run
    └── ServerError         a server could not be reached, is busy, or refuses the key that it was given

Beside it stands `AllmrecWarning`: something was not as it should be, and the work goes on.

A message says what was found, what was expected and what to do.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AllmrecError",
    "AllmrecWarning",
    "ArtifactError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "MissingExtraError",
    "ModelNotFoundError",
    "NoRecordsError",
    "NoSpaceError",
    "ProcessLostError",
    "RunInUseError",
    "ServerError",
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


class NoRecordsError(DataError):
    """A file that is sound and holds no record where at least one is needed."""


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


class DivergedError(AllmrecError):
    """Training came to losses or weights that are NaN, infinite or absurd; the stage is not written."""


class NoSpaceError(AllmrecError):
    """A file could not be written for want of space; what was there before is untouched.

    Args:
        path: the file or folder.
        reason: how much is needed and how much there is.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"{path} could not be written: no space is left ({reason}). Nothing that was there is lost. Free some space, "
            "then run the same command again: it goes on from what is kept."
        )


class ProcessLostError(AllmrecError):
    """Of the processes that train together another has ended, or its host cannot be reached; training stopped here too."""


class RunInUseError(AllmrecError):
    """Another process is training the run."""


class ServerError(AllmrecError):
    """A server could not be reached, is busy, cannot write what it was given, or refuses the key that it was given.

    Args:
        message: what was found and what to do.
        status: of the answer, as in HTTP; 0: there was none.
        retry_after: seconds after which to ask again, where the server named them.
    """

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        self.status, self.retry_after = status, retry_after
        super().__init__(message)


class AllmrecWarning(UserWarning):
    """Something was not as it should be, and the work goes on; the message says how."""

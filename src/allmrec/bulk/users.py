"""A file of user ids, one a line."""

from __future__ import annotations

from pathlib import Path

from allmrec.core.errors import DataError

__all__ = ["read_users"]


def read_users(path: Path) -> list[str]:
    """The ids in their order; blanks around them and empty lines do not count.

    Args:
        path: text in UTF-8.

    Raises:
        DataError: the file is missing, is no UTF-8, or holds no id.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError("there is no such file; expected user ids, one a line (or --users all)", path) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}); expected user ids, one a line", path) from None
    names = []
    for line, part in enumerate(content.split(b"\n"), start=1):
        try:
            name = part.decode("utf-8-sig" if line == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise DataError("no UTF-8; expected user ids as text in UTF-8, one a line", path, line) from None
        if name:
            names.append(name)
    if not names:
        raise DataError("holds no id; expected user ids, one a line", path)
    return names

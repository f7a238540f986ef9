"""The tables of the state, and how either database is asked so that what is acknowledged lasts and nothing is waited for without end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from allmrec.core.errors import ConfigError, ServerError

__all__ = [
    "ABOUT",
    "EVENTS",
    "ITEMS",
    "WITHDRAWN",
    "durable",
    "file_at",
    "in_words",
    "make_tables",
    "postgresql_limits",
]

_BIG = sql.BigInteger().with_variant(sql.Integer(), "sqlite")
TABLES = sql.MetaData()
EVENTS = sql.Table(
    "allmrec_events",
    TABLES,
    sql.Column("seq", _BIG, primary_key=True, autoincrement=True),
    sql.Column("key", sql.Text, nullable=False, unique=True),
    sql.Column("user_id", sql.Text, nullable=False, index=True),
    sql.Column("item_id", sql.Text, nullable=False),
    sql.Column("time", sql.BigInteger, nullable=False),
)
ITEMS = sql.Table(
    "allmrec_items",
    TABLES,
    sql.Column("item_id", sql.Text, primary_key=True),
    sql.Column("place", sql.BigInteger, nullable=False),
    sql.Column("title", sql.Text),
    sql.Column("description", sql.Text),
    sql.Column("categories", sql.JSON, nullable=False),
)
WITHDRAWN = sql.Table("allmrec_withdrawn", TABLES, sql.Column("item_id", sql.Text, primary_key=True))
# The items' version rises with every change of them, so that each process sees that there was one; and which run is served.
ABOUT = sql.Table(
    "allmrec_about",
    TABLES,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("number", sql.BigInteger, nullable=False),
    sql.Column("text", sql.Text),
)


# How often the tables are tried to be made while others make them too.
_TRIES = 5
# What every text can be kept in.
_ENCODINGS = ("UTF8", "SQL_ASCII")
# Milliseconds that a transaction may wait for its own process, and for another's lock.
_IDLE, _LOCKED = 4_000, 6_000


def postgresql_limits(url: URL, seconds: float | None) -> dict[str, Any]:
    """So that a server that is gone, or hangs, is an error and not silence: seconds to connect, of a query, of a dead connection.

    Nor does a host that was cut off in the middle of a write keep others from it: the database ends what was begun and not gone on with, within less time than a
    replica that says nothing is held for dead, and who waits for it longer gets an error that names the lock.
    """
    given = url.query.get("options", "")
    own = given if isinstance(given, str) else " ".join(given)
    limit = f" -c idle_in_transaction_session_timeout={_IDLE} -c lock_timeout={_LOCKED}"
    limit += "" if seconds is None else f" -c statement_timeout={round(1000 * seconds)}"
    return {
        # A database of the encoding SQL_ASCII gives bytes to who does not ask for it.
        "client_encoding": "utf8",
        "connect_timeout": 5,
        "options": f"{own}{limit}".strip(),
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }


def durable(connection: Any, record: Any) -> None:
    """Every commit is on disk before it is acknowledged, and readers never wait for a writer."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for line in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {line}")
    cursor.close()


def make_tables(engine: Engine, where: str) -> None:
    """Make the tables where they are not there.

    Args:
        engine: of the database.
        where: what it is called, for errors.

    Raises:
        ConfigError: it is in PostgreSQL, and cannot hold every text.
        SQLAlchemyError: it fails.
    """
    for attempt in range(_TRIES):
        try:
            with engine.connect() as connection:
                if engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    _check_encoding(connection, where)
                TABLES.create_all(connection)
                connection.commit()
            return
        except SQLAlchemyError:
            # Another process makes them at the same time, table by table.
            if attempt == _TRIES - 1:
                raise


def file_at(path: Path | None) -> tuple[int, int] | None:
    """Which file lies at a path; none where none does, or it is asked of no path."""
    if path is None:
        return None
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def in_words(error: Exception, where: str, writes: bool) -> ServerError:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    full = re.search(r"\bfull\b|No space", reason) is not None
    what = "Nothing of this call is stored" if writes else "It cannot be read"
    then = "Free some space, then send it again." if full else "Send it again once the database is back."
    return ServerError(f"The state in {where} fails ({reason}). {what}. {then}", 507 if full else 503, 2.0)


def _check_encoding(connection: Any, where: str) -> None:
    """Whether a PostgreSQL database holds every text.

    Raises:
        ConfigError: it does not.
    """
    found = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if found not in _ENCODINGS:
        raise ConfigError(
            f"The database {where} has the encoding {found}, which cannot hold every title and id; expected {' or '.join(_ENCODINGS)}. "
            "Make one with: createdb --encoding UTF8 --template template0 NAME."
        )

"""What a server must not lose: events and items, in SQLite or PostgreSQL. It imports no model.

A write is acknowledged once the database has it on disk: SQLite with a write-ahead log and synchronous=FULL, PostgreSQL with
its own synchronous commit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from allmrec.core.errors import ConfigError, MissingExtraError, ServerError
from allmrec.serve.tables import (
    ABOUT,
    EVENTS,
    ITEMS,
    WITHDRAWN,
    durable,
    file_at,
    in_words,
    make_tables,
    postgresql_limits,
)

__all__ = ["CONNECTIONS", "Event", "State", "StoredItem", "Written"]

# Values of one query; databases have a limit.
_AT_ONCE = 500

CONNECTIONS = 8
"""Connections that one process has at a time."""
# Seconds that PostgreSQL may work on one query for a request.
_LONGEST_QUERY = 10.0


@dataclass(frozen=True)
class Event:
    """An interaction at run time.

    Attributes:
        user_id, item_id: who, with what.
        time: Unix seconds.
        key: makes a repeated write one event.
    """

    user_id: str
    item_id: str
    time: int
    key: str


@dataclass(frozen=True)
class StoredItem:
    """An item that came after training."""

    item_id: str
    title: str | None
    description: str | None
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """What became of events: how many are new, and how many were there already."""

    stored: int
    repeated: int


class State:
    """Events and items in a database.

    Args:
        url: as SQLAlchemy writes it, e.g. `sqlite:////var/lib/shop.sqlite3`, `postgresql+psycopg://user@host/name`.
        server: name of the server whose processes serve one run; servers of other names may share the database.
        must_exist: whether a SQLite file that is not there is an error, and not made.
        seconds: how long PostgreSQL may work on one query; none: as long as it takes.

    Raises:
        ConfigError: the URL cannot be read, names another kind of database, or a file that is not there.
        MissingExtraError: the driver is not installed.
    """

    def __init__(
        self, url: str, server: str = "", must_exist: bool = False, seconds: float | None = _LONGEST_QUERY
    ) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise ConfigError(
                "The database's URL cannot be read; expected e.g. sqlite:////path/state.sqlite3 or "
                "postgresql+psycopg://user:password@host/name."
            ) from None
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.kind = parsed.get_backend_name()
        if self.kind not in ("sqlite", "postgresql"):
            raise ConfigError(f"The database is of the kind {self.kind}; the state is kept in sqlite or postgresql.")
        self.shown = parsed.render_as_string(hide_password=True)
        self._run = f"run {server}"
        self._file = Path(parsed.database) if self.kind == "sqlite" and parsed.database else None
        self._opened: tuple[int, int] | None = None
        if self._file is not None:
            if must_exist and not self._file.exists():
                raise ConfigError(f"There is no state at {self.shown}: no server has written there. Check --database.")
            self._file.parent.mkdir(parents=True, exist_ok=True)
        limits = {"timeout": 10} if self.kind == "sqlite" else postgresql_limits(parsed, seconds)
        try:
            self._engine = sql.create_engine(parsed, pool_pre_ping=True, pool_size=CONNECTIONS, connect_args=limits)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise MissingExtraError("psycopg", "postgresql", "State in PostgreSQL") from error
        if self.kind == "sqlite":
            sql.event.listen(self._engine, "connect", durable)
        self._ready, self._preparing = False, threading.Lock()

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    @contextmanager
    def _connected(self, writes: bool = False) -> Iterator[Connection]:
        """A transaction; what goes wrong with the database is an error with words.

        Raises:
            ConfigError: the database cannot hold every text.
            ServerError: 503, or 507 where the disk is full.
        """
        try:
            self._prepare()
            with self._engine.connect() as connection:
                if writes and self.kind == "sqlite":
                    # Taken now: a lock that is asked for in the middle of a transaction may be refused at once.
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            if writes and file_at(self._file) != self._opened:
                raise FileNotFoundError("its file was taken away during the call")
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise in_words(error, self.shown, writes) from error

    def _prepare(self) -> None:
        """Make the tables where they are not there, when the database is first reached, or another file is in its place.

        Raises:
            FileNotFoundError: SQLite's file is gone; connections that had it open would go on writing where nobody finds it.
        """
        if self._ready and file_at(self._file) == self._opened:
            return
        with self._preparing:
            found = file_at(self._file)
            if self._ready and found == self._opened:  # another thread was here first
                return
            if self._opened is not None:
                if found is None:
                    raise FileNotFoundError("its file is gone")
                self._engine.dispose()
            make_tables(self._engine, self.shown)
            for name in ("items", self._run):
                with suppress(IntegrityError), self._engine.begin() as connection:
                    connection.execute(sql.insert(ABOUT), {"name": name, "number": 0})
            self._opened, self._ready = file_at(self._file), True

    # --- events ---

    def write_events(self, events: Sequence[Event]) -> Written:
        """Store events; those whose key is known are not stored again.

        Raises:
            ConfigError: a key is known with another event.
            ServerError: the database cannot take them; none is stored.
        """
        for attempt in (1, 2, 3):
            try:
                with self._connected(writes=True) as connection:
                    return _insert_events(connection, events)
            except IntegrityError:
                # Another process stored one of the keys in between, and now it is known.
                if attempt == 3:
                    raise ServerError("Others store events of the same keys right now. Try again.", 503, 1.0) from None
        raise AssertionError

    def read(self, users: Sequence[str]) -> tuple[dict[str, list[Event]], int, tuple[int, str | None]]:
        """What a request must know: its users' events in the order of their times, the items' version, which run is served.

        Raises:
            ServerError: the database cannot be read.
        """
        found: dict[str, list[Event]] = {user: [] for user in users}
        with self._connected() as connection:
            about = {row.name: row for row in connection.execute(sql.select(ABOUT))}
            wanted = list(found)
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                query = sql.select(EVENTS).where(EVENTS.c.user_id.in_(part)).order_by(EVENTS.c.time, EVENTS.c.seq)
                for row in connection.execute(query):
                    found[row.user_id].append(Event(row.user_id, row.item_id, row.time, row.key))
        items, run = about.get("items"), about.get(self._run)
        return found, 0 if items is None else items.number, (0, None) if run is None else (run.number, run.text)

    def all_events(self) -> list[Event]:
        """Every event, in the order of users and times."""
        order = (EVENTS.c.user_id, EVENTS.c.time, EVENTS.c.seq)
        with self._connected() as connection:
            rows = connection.execute(sql.select(EVENTS).order_by(*order)).all()
        return [Event(row.user_id, row.item_id, row.time, row.key) for row in rows]

    # --- items ---

    def items(self) -> tuple[list[StoredItem], list[str], int]:
        """Items that came after training in the order in which they came, ids of withdrawn ones, and their version.

        Raises:
            ServerError: the database cannot be read.
        """
        with self._connected() as connection:
            version = connection.execute(sql.select(ABOUT.c.number).where(ABOUT.c.name == "items")).scalar()
            rows = connection.execute(sql.select(ITEMS).order_by(ITEMS.c.place, ITEMS.c.item_id)).all()
            withdrawn = connection.execute(sql.select(WITHDRAWN.c.item_id)).scalars().all()
        return [_item(row) for row in rows], sorted(withdrawn), version or 0

    def item(self, item_id: str) -> StoredItem | None:
        """An item that came after training; None where there is none of that id."""
        with self._connected() as connection:
            row = connection.execute(sql.select(ITEMS).where(ITEMS.c.item_id == item_id)).one_or_none()
        return None if row is None else _item(row)

    def change_item(self, before: StoredItem, after: StoredItem, available: bool | None) -> bool:
        """Change an item that came after training, unless somebody else changed it meanwhile.

        Args:
            before: as it was read.
            after: as it is to be; of the same id.
            available: whether it may be recommended from now on; none: as before.

        Returns:
            Whether it was still as it was read; if not, nothing is changed.
        """
        with self._connected(writes=True) as connection:
            _raise(connection, "items")  # whoever changes items waits here until this has ended
            row = connection.execute(sql.select(ITEMS).where(ITEMS.c.item_id == before.item_id)).one_or_none()
            if row is None or _item(row) != before:
                connection.rollback()
                return False
            texts = {"title": after.title, "description": after.description, "categories": list(after.categories)}
            connection.execute(sql.update(ITEMS).where(ITEMS.c.item_id == before.item_id).values(texts))
            if available is not None:
                _withdraw(connection, before.item_id, not available)
        return True

    def write_items(self, items: Sequence[StoredItem]) -> None:
        """Store items in the place of those of the same id; they are no longer withdrawn."""
        with self._connected(writes=True) as connection:
            version = _raise(connection, "items")
            ids = [item.item_id for item in items]
            for start in range(0, len(ids), _AT_ONCE):
                part = ids[start : start + _AT_ONCE]
                places = sql.select(ITEMS.c.item_id, ITEMS.c.place).where(ITEMS.c.item_id.in_(part))
                known = {row.item_id: row.place for row in connection.execute(places)}
                connection.execute(sql.delete(ITEMS).where(ITEMS.c.item_id.in_(part)))
                connection.execute(sql.delete(WITHDRAWN).where(WITHDRAWN.c.item_id.in_(part)))
                rows = [
                    {
                        "item_id": item.item_id,
                        "place": known.get(item.item_id, version * 1_000_000 + start + number),
                        "title": item.title,
                        "description": item.description,
                        "categories": list(item.categories),
                    }
                    for number, item in enumerate(items[start : start + _AT_ONCE])
                ]
                connection.execute(sql.insert(ITEMS), rows)

    def remove_item(self, item_id: str, withdrawn: bool = False) -> None:
        """Forget an item that came after training.

        Args:
            item_id: of the item.
            withdrawn: whether a run knows it too, so that it must not be recommended any more.
        """
        with self._connected(writes=True) as connection:
            _raise(connection, "items")
            connection.execute(sql.delete(ITEMS).where(ITEMS.c.item_id == item_id))
            _withdraw(connection, item_id, withdrawn)

    def withdraw(self, item_id: str, withdrawn: bool) -> None:
        """Say that an item is not recommended any more, or is again."""
        with self._connected(writes=True) as connection:
            _raise(connection, "items")
            _withdraw(connection, item_id, withdrawn)

    def serve_run(self, path: str) -> int:
        """Say which run is served from now on; every process of this server looks."""
        with self._connected(writes=True) as connection:
            return _raise(connection, self._run, path)


def _insert_events(connection: Connection, events: Sequence[Event]) -> Written:
    known: dict[str, Event] = {}
    keys = [event.key for event in events]
    for start in range(0, len(keys), _AT_ONCE):
        query = sql.select(EVENTS).where(EVENTS.c.key.in_(keys[start : start + _AT_ONCE]))
        known |= {row.key: Event(row.user_id, row.item_id, row.time, row.key) for row in connection.execute(query)}
    new: list[dict[str, Any]] = []
    for event in events:
        before = known.get(event.key)
        if before is None:
            known[event.key] = event
            row = {"key": event.key, "user_id": event.user_id, "item_id": event.item_id, "time": event.time}
            new.append(row)
        elif (before.user_id, before.item_id) != (event.user_id, event.item_id):
            raise ConfigError(
                f"The key {event.key!r} belongs to another event already. Give each event a key of its own, and the same key "
                "only to write the same event again."
            )
    if new:
        connection.execute(sql.insert(EVENTS), new)
    return Written(len(new), len(events) - len(new))


def _item(row: Any) -> StoredItem:
    """A row of `ITEMS`."""
    return StoredItem(row.item_id, row.title, row.description, tuple(row.categories))


def _withdraw(connection: Connection, item_id: str, withdrawn: bool) -> None:
    connection.execute(sql.delete(WITHDRAWN).where(WITHDRAWN.c.item_id == item_id))
    if withdrawn:
        connection.execute(sql.insert(WITHDRAWN), {"item_id": item_id})


def _raise(connection: Connection, name: str, text: str | None = None) -> int:
    """A number of `ABOUT` and one more; the row is held until the transaction ends."""
    connection.execute(sql.update(ABOUT).where(ABOUT.c.name == name).values(number=ABOUT.c.number + 1, text=text))
    return int(connection.execute(sql.select(ABOUT.c.number).where(ABOUT.c.name == name)).scalar_one())

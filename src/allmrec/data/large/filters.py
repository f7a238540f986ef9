"""Which stored interactions remain, with the same steps and counts as `data.build` in memory; SQL, and numbers only."""

from __future__ import annotations

from pathlib import Path

from allmrec.core.errors import DataError
from allmrec.data.large.clean import StoredLog
from allmrec.data.large.store import Store
from allmrec.data.prepare_config import PrepareConfig
from allmrec.data.provenance import Step

__all__ = ["filtered", "numbered", "order_keys"]


def numbered(log: StoredLog, config: PrepareConfig) -> Step:
    """Make the tables `users` and `items`, each id once in their order, and `numbers`, the interactions by their places.

    `numbers` has `row`, `u` and `i` (places in `users` and `items`), and `rating`, `time` and `position` where there are
    such. Where nothing comes before the core, its first pass is made here: an id's rows are counted already, and what goes
    never becomes numbers. The rows as they were read are removed.

    Returns:
        What was read.
    """
    store, sql = log.store, log.store.sql
    least = config.cores() if _core_first(config) else (0, 0)
    for word, few in zip(("user", "item"), least, strict=True):
        known = log.names.get(word)
        # Its counts are of all rows, refused ones included.
        if known is None or log.n_good < log.n_rows:
            ids = f"SELECT {word} AS name, count(*) AS n FROM clean WHERE good GROUP BY {word}"
            sql.execute(f"CREATE OR REPLACE TABLE names_{word} AS {ids}")
        # DuckDB compares bytes, and UTF-8's are in the order of the characters, as Python's are.
        sql.execute(f"CREATE TABLE {word}s AS SELECT name FROM names_{word} WHERE n >= {few} ORDER BY name")
    n_users, n_items = (int(store.one(f"SELECT count(*) FROM names_{word}")[0]) for word in ("user", "item"))
    there = {"rating": log.has_rating, "time": log.has_time, "position": log.has_position}
    extra = "".join(f", clean.{column}" for column, is_there in there.items() if is_there)
    sql.execute(
        f"CREATE TABLE numbers AS SELECT clean.row AS row, users.rowid AS u, items.rowid AS i{extra} FROM clean "
        "JOIN users ON users.name = clean.user JOIN items ON items.name = clean.item WHERE clean.good"
    )
    log.drop()
    return Step.after(None, "read", n_users, n_items, log.n_good)


def filtered(log: StoredLog, config: PrepareConfig, path: Path | None, read: Step) -> list[Step]:
    """Make the view `kept` of those rows of `numbers` that remain, and the tables `kept_users` and `kept_items`.

    Args:
        log: the interactions, `numbered`.
        config: which of them remain.
        path: their file, for messages.
        read: what was read.

    Returns:
        What each step left and dropped, `read` at the beginning.

    Raises:
        DataError: ratings are needed and missing, or nothing remains.
    """
    store = log.store
    kept = _Kept(store)
    steps = [read]
    counted = "true"
    if config.min_rating is not None:
        if not log.has_rating:
            raise DataError(
                f"min_rating is {config.min_rating:g} and there are no ratings; name their column with rating, or leave "
                "min_rating out",
                path,
            )
        counted = f"rating >= '{config.min_rating!r}'::DOUBLE"
        if config.rating_scope == "interactions":
            kept.where(counted)
            steps.append(kept.step(f"rating at least {config.min_rating:g}", steps[-1]))
    if config.repeats != "keep":
        direction = "ASC" if config.repeats == "first" else "DESC"
        keys = ", ".join(f"{key} {direction}" for key in order_keys(log))
        kept.replace(f"SELECT * FROM {{}} QUALIFY row_number() OVER (PARTITION BY u, i ORDER BY {keys}) = 1")
        steps.append(kept.step(f"{config.repeats} of repeats", steps[-1]))
    user_core, item_core = config.cores()
    if user_core > 1 or item_core > 1 or config.rating_scope == "counts":
        before = steps[-1].interactions
        n = kept.count() if _core_first(config) else kept.core(user_core, item_core, counted)
        while config.core_passes == "all" and n != before:
            before, n = n, kept.core(user_core, item_core, counted)
        name = f"{user_core}-core" if user_core == item_core else f"core of {user_core} per user, {item_core} per item"
        steps.append(kept.step(f"{name}, {config.core_passes} pass{'es' * (config.core_passes == 'all')}", steps[-1]))
    if not kept.count():
        history = "; ".join(map(str, steps))
        raise DataError(f"nothing remains after the filters ({history}); loosen them", path)
    kept.count_ids()
    store.sql.execute(f"CREATE VIEW kept AS SELECT * FROM {kept.table}")
    return steps


def _core_first(config: PrepareConfig) -> bool:
    """Whether no step comes before the core."""
    return config.min_rating is None and config.repeats == "keep"


def order_keys(log: StoredLog) -> list[str]:
    """What decides the order within a user: time, position, place in the file."""
    return [*["time"] * log.has_time, *["position"] * log.has_position, "row"]


class _Kept:
    """The table of what remains, step by step."""

    def __init__(self, store: Store) -> None:
        self._sql, self._store = store.sql, store
        self.table, self._n_steps = "numbers", 0
        self._ids_counted = False

    def replace(self, query: str) -> None:
        """Go on with the rows of a query, in which {} stands for the present table."""
        self._n_steps += 1
        table = f"kept_{self._n_steps}"
        self._sql.execute(f"CREATE TABLE {table} AS {query.format(self.table)}")
        if self.table != "numbers":
            self._sql.execute(f"DROP TABLE {self.table}")
        self.table, self._ids_counted = table, False

    def where(self, condition: str) -> None:
        """Go on with the rows that fulfil a condition."""
        self.replace(f"SELECT * FROM {{}} WHERE {condition}")

    def core(self, user_core: int, item_core: int, counted: str) -> int:
        """Go on without the users and items that have fewer of the counted rows; gives how many rows remain."""
        conditions = ["true"]
        for key, least in (("u", user_core), ("i", item_core)):
            if least > 0:
                # A table of its own: as a part of the query below, it took longer.
                self._sql.execute(
                    f"CREATE OR REPLACE TABLE frequent_{key} AS SELECT {key} FROM {self.table} WHERE {counted} "
                    f"GROUP BY {key} HAVING count(*) >= {least}"
                )
                conditions.append(f"{key} IN (SELECT {key} FROM frequent_{key})")
        self.where(" AND ".join(conditions))
        return self.count()

    def count(self) -> int:
        """How many rows remain."""
        return int(self._store.one(f"SELECT count(*) FROM {self.table}")[0])

    def count_ids(self) -> None:
        """Make the tables `kept_users` and `kept_items`, with how many rows each of them has."""
        if not self._ids_counted:
            for table, key in (("kept_users", "u"), ("kept_items", "i")):
                query = f"SELECT {key}, count(*) AS n FROM {self.table} GROUP BY {key}"
                self._sql.execute(f"CREATE OR REPLACE TABLE {table} AS {query}")
            self._ids_counted = True

    def step(self, name: str, before: Step) -> Step:
        """Counts after a step, and what it dropped."""
        self.count_ids()
        users, items = (int(self._store.one(f"SELECT count(*) FROM kept_{ids}")[0]) for ids in ("users", "items"))
        return Step.after(before, name, users, items, self.count())

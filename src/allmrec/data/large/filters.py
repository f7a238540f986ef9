"""Which stored interactions remain, with the same steps and counts as `data.build` in memory; SQL, and numbers only."""

from __future__ import annotations

from pathlib import Path

from allmrec.core.errors import DataError
from allmrec.data.large.clean import StoredLog
from allmrec.data.large.store import Store
from allmrec.data.prepare_config import PrepareConfig
from allmrec.data.provenance import Step

__all__ = ["filtered", "numbered", "order_keys"]


def numbered(log: StoredLog) -> None:
    """Make the tables `users` and `items`, each id once in their order, and `numbers`, the interactions by their places.

    `numbers` has `row`, `u` and `i` (places in `users` and `items`), and `rating`, `time` and `position` where there are such.
    """
    sql = log.store.sql
    for word in ("user", "item"):
        known = log.names.get(word)
        # DuckDB compares bytes, and UTF-8's are in the order of the characters, as Python's are.
        ids = f"SELECT name FROM {known}" if known else f"SELECT DISTINCT {word} AS name FROM clean WHERE good"
        sql.execute(f"CREATE TABLE {word}s AS {ids} ORDER BY name")
        if known:
            sql.execute(f"DROP TABLE {known}")
    there = {"rating": log.has_rating, "time": log.has_time, "position": log.has_position}
    extra = "".join(f", clean.{column}" for column, is_there in there.items() if is_there)
    sql.execute(
        f"CREATE TABLE numbers AS SELECT clean.row AS row, users.rowid AS u, items.rowid AS i{extra} FROM clean "
        "JOIN users ON users.name = clean.user JOIN items ON items.name = clean.item WHERE clean.good"
    )


def filtered(log: StoredLog, config: PrepareConfig, path: Path | None) -> list[Step]:
    """Make the view `kept` of those rows of `numbers` that remain; gives what each step dropped.

    Raises:
        DataError: ratings are needed and missing, or nothing remains.
    """
    store = log.store
    kept = _Kept(store)
    steps = [kept.step("read", None)]
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
        while True:
            before = kept.count()
            kept.where(
                " AND ".join(
                    f"{key} IN (SELECT {key} FROM {{0}} WHERE {counted} GROUP BY {key} HAVING count(*) >= {least})"
                    for key, least in (("u", user_core), ("i", item_core))
                    if least > 0
                )
                or "true"
            )
            if config.core_passes == "one" or kept.count() == before:
                break
        name = f"{user_core}-core" if user_core == item_core else f"core of {user_core} per user, {item_core} per item"
        steps.append(kept.step(f"{name}, {config.core_passes} pass{'es' * (config.core_passes == 'all')}", steps[-1]))
    if not kept.count():
        history = "; ".join(map(str, steps))
        raise DataError(f"nothing remains after the filters ({history}); loosen them", path)
    store.sql.execute(f"CREATE VIEW kept AS SELECT * FROM {kept.table}")
    return steps


def order_keys(log: StoredLog) -> list[str]:
    """What decides the order within a user: time, position, place in the file."""
    return [*["time"] * log.has_time, *["position"] * log.has_position, "row"]


class _Kept:
    """The table of what remains, step by step."""

    def __init__(self, store: Store) -> None:
        self._sql, self._store = store.sql, store
        self.table, self._n_steps = "numbers", 0

    def replace(self, query: str) -> None:
        """Go on with the rows of a query, in which {} stands for the present table."""
        self._n_steps += 1
        table = f"kept_{self._n_steps}"
        self._sql.execute(f"CREATE TABLE {table} AS {query.format(self.table)}")
        if self.table != "numbers":
            self._sql.execute(f"DROP TABLE {self.table}")
        self.table = table

    def where(self, condition: str) -> None:
        """Go on with the rows that fulfil a condition, in which {0} stands for the present table."""
        self.replace(f"SELECT * FROM {{0}} WHERE {condition}")

    def count(self) -> int:
        """How many rows remain."""
        return int(self._store.one(f"SELECT count(*) FROM {self.table}")[0])

    def step(self, name: str, before: Step | None) -> Step:
        """Counts after a step, and what it dropped."""
        users, items, n = self._store.one(f"SELECT count(DISTINCT u), count(DISTINCT i), count(*) FROM {self.table}")
        return Step.after(before, name, users, items, n)

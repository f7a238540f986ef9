"""Preparing raw reviews as one would write it by hand in pandas or polars; used by `benchmarks.prepare_large`.

Both read the four fields, leave out users and items below the core, number users and items in the order of their ids, and order
every user's reviews by time, those of one time as in the file. They check nothing, hash nothing and write nothing.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from allmrec.core.errors import ConfigError
from allmrec.data.catalogue import Catalogue
from allmrec.data.interactions import InteractionDataset
from allmrec.data.vocabulary import Vocabulary

# Neither is a dependency of the library; these versions were measured.
MEASURED = {"pandas": "3.1.1", "polars": "2.1.0"}
USER, ITEM, TIME = "reviewerID", "asin", "unixReviewTime"
# Bytes that pandas reads at once, and whose other fields are dropped then: of the whole file they would fill the memory.
_AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Numbered:
    """Reviews as numbers.

    Attributes:
        users, items: ids in the order of their numbers, which begin at 0.
        user_numbers, item_numbers, times: of every review, by user, then by time.
    """

    users: list[str]
    items: list[str]
    user_numbers: np.ndarray
    item_numbers: np.ndarray
    times: np.ndarray

    def dataset(self) -> InteractionDataset:
        """The same as a data set, to compare it."""
        lengths = np.bincount(self.user_numbers, minlength=len(self.users))
        return InteractionDataset(
            users=Vocabulary(tuple(self.users), first=0, kind="user"),
            items=Vocabulary(tuple(self.items), first=1, kind="item"),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            item_numbers=(self.item_numbers + 1).astype(np.int32),
            times=self.times.astype(np.int64),
            catalogue=Catalogue.without_texts(len(self.items)),
        )


def by_pandas(path: Path, core: int) -> Numbered:
    """By pandas and its faster reader of JSON, some lines at a time."""
    pandas: Any = importlib.import_module("pandas")
    parts = []
    with open(path, "rb") as file:
        while lines := file.read(_AT_ONCE) + file.readline():
            parts.append(pandas.read_json(io.BytesIO(lines), lines=True, engine="pyarrow")[[USER, ITEM, TIME]])
    log = pandas.concat(parts, ignore_index=True)
    often = [log.groupby(name)[TIME].transform("size") >= core for name in (USER, ITEM)]
    log = log[often[0] & often[1]]
    user_numbers, users = pandas.factorize(log[USER], sort=True)
    item_numbers, items = pandas.factorize(log[ITEM], sort=True)
    log = pandas.DataFrame({"user": user_numbers, "item": item_numbers, "time": log[TIME].to_numpy()})
    log = log.sort_values(["user", "time"], kind="stable")
    return Numbered(list(users), list(items), *(log[name].to_numpy() for name in ("user", "item", "time")))


def by_polars(path: Path, core: int) -> Numbered:
    """By polars, lazily, on all cores."""
    polars: Any = importlib.import_module("polars")
    column = polars.col
    log = (
        polars.scan_ndjson(path, schema={USER: polars.String, ITEM: polars.String, TIME: polars.Int64})
        .filter((polars.len().over(USER) >= core) & (polars.len().over(ITEM) >= core))
        .collect()
    )
    users, items = (log[name].unique().sort() for name in (USER, ITEM))
    log = log.select(
        column(USER).cast(polars.Enum(users)).to_physical().alias("user"),
        column(ITEM).cast(polars.Enum(items)).to_physical().alias("item"),
        column(TIME).alias("time"),
    ).sort("user", "time", maintain_order=True)
    return Numbered(users.to_list(), items.to_list(), *(log[name].to_numpy() for name in ("user", "item", "time")))


BY_HAND: dict[str, Callable[[Path, int], Numbered]] = {"pandas": by_pandas, "polars": by_polars}


def require(side: str) -> str:
    """The version of a side's package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return version(side)
    except PackageNotFoundError:
        raise ConfigError(
            f"The side {side} needs {side}: pip install {side}=={MEASURED[side]} (measured with this one), or name other --sides."
        ) from None

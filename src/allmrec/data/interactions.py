"""InteractionDataset: who interacted with what, in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int32, Int64
from pydantic import ValidationError

from allmrec.core.artifacts import atomic_directory, read_json, read_tensors, write_json, write_tensors
from allmrec.core.errors import ArtifactError, DataError
from allmrec.core.hashing import content_hash
from allmrec.data.catalogue import Catalogue
from allmrec.data.provenance import Provenance, Summary
from allmrec.data.vocabulary import Vocabulary

__all__ = ["CONTENT", "FORMAT_VERSION", "InteractionDataset", "items_table", "manifest_of"]

FORMAT_VERSION = 1

# What the content hash begins with.
CONTENT = f"allmrec interactions {FORMAT_VERSION}"

_AGAIN = "run `allmrec prepare` again"


@dataclass(frozen=True, eq=False)
class InteractionDataset:
    """Time-ordered interactions as contiguous numbers, with ids, texts, provenance and a content hash.

    All users' interactions lie behind one another in one array; `offsets[u]` to `offsets[u + 1]` are user u's, oldest
    first. Arrays are read-only; copy before changing or before handing one to torch.

    Attributes:
        users: user ids; numbers begin at 0.
        items: item ids; numbers begin at 1, 0 pads.
        offsets: one more than users.
        item_numbers: the items, per user in time order.
        times: Unix seconds of each interaction, or None where the source has no times.
        catalogue: texts by item number.
        provenance: how the data set was made.
        folder: where it was loaded from, which is no part of what it is; None where it was made in memory.

    Raises:
        DataError: the parts do not fit one another.
    """

    users: Vocabulary
    items: Vocabulary
    offsets: Int64[np.ndarray, " users_plus_one"]
    item_numbers: Int32[np.ndarray, " interactions"]
    times: Int64[np.ndarray, " interactions"] | None
    catalogue: Catalogue
    provenance: Provenance = field(default_factory=Provenance)
    folder: Path | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("offsets", "item_numbers", "times"):
            array = getattr(self, name)
            if array is not None:
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)
        self._check()

    @classmethod
    def from_sequences(
        cls,
        sequences: Mapping[str, Sequence[str]],
        *,
        times: Mapping[str, Sequence[int]] | None = None,
        titles: Mapping[str, str] | None = None,
        descriptions: Mapping[str, str] | None = None,
        categories: Mapping[str, Sequence[str]] | None = None,
        items: Sequence[str] | None = None,
    ) -> InteractionDataset:
        """A data set from memory: for each user id the item ids, oldest first.

        Args:
            sequences: user id to item ids. Users are numbered in this order.
            times: Unix seconds in the same shape.
            titles, descriptions, categories: texts by item id, where there are any.
            items: the items in the order of their numbers, where it matters or where some have no interactions;
                otherwise the mentioned items in the order of their ids.

        Raises:
            UnknownIdError: `items` lacks an item of a sequence.
            DataError: `times` has another shape than `sequences`.
        """
        names = tuple(items) if items is not None else tuple(sorted(set(chain.from_iterable(sequences.values()))))
        vocabulary = Vocabulary(names, first=1, kind="item")
        lengths = [len(sequence) for sequence in sequences.values()]
        flat = [vocabulary.number(name) for name in chain.from_iterable(sequences.values())]
        seconds = None
        if times is not None:
            if [len(times.get(user, ())) for user in sequences] != lengths:
                raise DataError("times has another shape than sequences; expected one time for each interaction.")
            seconds = np.array(list(chain.from_iterable(times[user] for user in sequences)), dtype=np.int64)
        return cls(
            users=Vocabulary(tuple(sequences), first=0, kind="user"),
            items=vocabulary,
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            item_numbers=np.array(flat, dtype=np.int32),
            times=seconds,
            catalogue=Catalogue(
                (None, *((titles or {}).get(name) for name in names)),
                (None, *((descriptions or {}).get(name) for name in names)),
                ((), *(tuple((categories or {}).get(name, ())) for name in names)),
            ),
        )

    @property
    def n_users(self) -> int:
        """How many users there are."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """How many items there are, without padding; item numbers go from 1 to this."""
        return len(self.items)

    @property
    def n_interactions(self) -> int:
        """How many interactions there are."""
        return len(self.item_numbers)

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " users"]:
        """How many interactions each user has."""
        return np.diff(self.offsets)

    def sequence(self, user: int) -> Int32[np.ndarray, " length"]:
        """A user's items, oldest first; a view."""
        return self.item_numbers[self.offsets[user] : self.offsets[user + 1]]

    def sequence_times(self, user: int) -> Int64[np.ndarray, " length"] | None:
        """Unix seconds of a user's interactions, oldest first, or None where the source has no times."""
        return None if self.times is None else self.times[self.offsets[user] : self.offsets[user + 1]]

    def user_of_interaction(self) -> Int64[np.ndarray, " interactions"]:
        """The user of each entry of `item_numbers`."""
        return np.repeat(np.arange(self.n_users, dtype=np.int64), self.lengths)

    @cached_property
    def interacted_keys(self) -> Int64[np.ndarray, " pairs"]:
        """Every user-item pair that interacted, once, as `user * (n_items + 1) + item`, sorted."""
        keys = self.user_of_interaction() * (self.n_items + 1) + self.item_numbers
        # Nearly in order, of which only a stable sort makes use.
        keys.sort(kind="stable")
        return np.asarray(keys[np.diff(keys, prepend=-1) != 0])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of ids, order, times and texts. Where and when the data was prepared does not matter."""
        return content_hash(
            CONTENT,
            json.dumps([self.users.ids, self.items.ids]),
            self.offsets,
            self.item_numbers,
            b"" if self.times is None else self.times,
            json.dumps([self.catalogue.titles, self.catalogue.descriptions, self.catalogue.categories]),
        )

    def summary(self) -> Summary:
        """Users, items, interactions and their like, as in the paper's Table 2."""
        pairs = self.n_users * self.n_items
        return Summary(
            users=self.n_users,
            items=self.n_items,
            interactions=self.n_interactions,
            average_length=self.n_interactions / self.n_users if self.n_users else 0.0,
            density=len(self.interacted_keys) / pairs if pairs else 0.0,
            items_without_title=self.catalogue.missing_titles,
            items_without_description=self.catalogue.missing_descriptions,
        )

    def save(self, directory: Path | str) -> None:
        """Write the data set as a folder, whole or not at all; nothing in it is pickled."""
        tensors = {"offsets": self.offsets, "item_numbers": self.item_numbers}
        if self.times is not None:
            tensors["times"] = self.times
        with atomic_directory(directory) as folder:
            write_tensors(
                folder / "interactions.safetensors",
                {name: torch.from_numpy(array.copy()) for name, array in tensors.items()},
            )
            pq.write_table(items_table(self.items.ids, self.catalogue), folder / "items.parquet")
            pq.write_table(pa.table({"user_id": pa.array(self.users.ids, pa.large_string())}), folder / "users.parquet")
            write_json(folder / "manifest.json", manifest_of(self.content_hash, self.summary(), self.provenance))

    @classmethod
    def load(cls, directory: Path | str) -> InteractionDataset:
        """Read a folder that `save` wrote.

        Raises:
            ArtifactError: it is missing, damaged, of a newer format, or its content does not have the hash that its
                manifest says.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise ArtifactError(f"{directory} is no folder; expected a data set. Make one: `allmrec prepare`.")
        manifest = read_json(directory / "manifest.json")
        if manifest.get("kind") != "allmrec interactions":
            raise ArtifactError(f"{directory} is no data set of allmrec (kind {manifest.get('kind')!r}); {_AGAIN}.")
        if manifest.get("format") != FORMAT_VERSION:
            raise ArtifactError(
                f"{directory} has format {manifest.get('format')!r}; this version of allmrec reads format "
                f"{FORMAT_VERSION}. Update allmrec or {_AGAIN}."
            )
        tensors = {k: v.numpy() for k, v in read_tensors(directory / "interactions.safetensors").items()}
        items = _read_columns(directory / "items.parquet", ("item_id", "title", "description", "categories"))
        users = _read_columns(directory / "users.parquet", ("user_id",))
        try:
            dataset = cls(
                users=Vocabulary(tuple(users["user_id"]), first=0, kind="user"),
                items=Vocabulary(tuple(items["item_id"]), first=1, kind="item"),
                offsets=tensors["offsets"].astype(np.int64, copy=False),
                item_numbers=tensors["item_numbers"].astype(np.int32, copy=False),
                times=tensors["times"].astype(np.int64, copy=False) if "times" in tensors else None,
                catalogue=Catalogue(
                    (None, *items["title"]),
                    (None, *items["description"]),
                    ((), *(tuple(row) for row in items["categories"])),
                ),
                provenance=Provenance.model_validate(manifest.get("provenance")),
                folder=directory.absolute(),
            )
            found = dataset.content_hash
        except (DataError, KeyError, TypeError, ValidationError) as error:
            raise ArtifactError(f"{directory} is damaged ({error}); {_AGAIN}.") from error
        if found != manifest.get("content_hash"):
            raise ArtifactError(
                f"{directory} holds content {found[:12]}, and its manifest says "
                f"{str(manifest.get('content_hash'))[:12]}: it was changed after it was written; {_AGAIN}."
            )
        return dataset

    def _check(self) -> None:
        """Refuse parts that do not fit, here once, so that nobody else has to look."""
        if len(self.offsets) != self.n_users + 1 or self.offsets[0] != 0 or np.any(np.diff(self.offsets) < 0):
            raise DataError(f"offsets do not split {self.n_interactions} interactions among {self.n_users} users.")
        if self.offsets[-1] != self.n_interactions or (
            self.times is not None and len(self.times) != len(self.item_numbers)
        ):
            raise DataError("offsets, item_numbers and times tell different numbers of interactions.")
        if self.n_interactions and not 1 <= self.item_numbers.min() <= self.item_numbers.max() <= self.n_items:
            raise DataError(f"item_numbers leave 1 to {self.n_items}; 0 is padding and never interacted with.")
        if len(self.catalogue) != self.n_items or self.items.first != 1 or self.users.first != 0:
            raise DataError(
                f"{len(self.catalogue)} catalogue entries for {self.n_items} items, which begin at {self.items.first}, "
                f"and users begin at {self.users.first}; expected one entry each, items from 1 and users from 0."
            )


def items_table(ids: Sequence[str], catalogue: Catalogue) -> pa.Table:
    """Items as `save` writes them, in the order of their numbers."""
    rows = {
        "item_id": pa.array(ids, pa.large_string()),
        "title": pa.array(catalogue.titles[1:], pa.large_string()),
        "description": pa.array(catalogue.descriptions[1:], pa.large_string()),
        "categories": pa.array(catalogue.categories[1:], pa.large_list(pa.large_string())),
    }
    return pa.table(rows)


def manifest_of(content: str, summary: Summary, provenance: Provenance) -> dict[str, Any]:
    """The manifest as `save` writes it, of a data set with that content hash."""
    return {
        "kind": "allmrec interactions",
        "format": FORMAT_VERSION,
        "content_hash": content,
        "summary": summary.as_dict(),
        "provenance": provenance.model_dump(mode="json"),
    }


def _read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of one of our Parquet files as Python values."""
    try:
        table = pq.read_table(path, columns=list(names), partitioning=None)
        return {name: table.column(name).to_pylist() for name in names}
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; {_AGAIN}.") from None
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise ArtifactError(f"{path} is damaged ({error}); {_AGAIN}.") from error

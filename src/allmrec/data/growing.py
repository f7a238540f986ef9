"""A data set with newer interactions, users and items: what was there keeps its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from allmrec.core.config import parse_config
from allmrec.core.errors import DataError
from allmrec.core.hashing import file_hash
from allmrec.data.build import whole_seconds
from allmrec.data.catalogue import Catalogue
from allmrec.data.filtering import without_repeats
from allmrec.data.interactions import InteractionDataset
from allmrec.data.prepare_config import PrepareConfig
from allmrec.data.provenance import SourceFile, Step
from allmrec.data.sources.base import RawData, RawInteractions, RawItems
from allmrec.data.texts import clean_text
from allmrec.data.vocabulary import Vocabulary

__all__ = ["Growth", "grown"]


@dataclass(frozen=True)
class Growth:
    """What came to a data set, and what of the files did not.

    Attributes:
        interactions: that are new.
        users, items: that are new.
        texts: known items whose texts are others now.
        late: new interactions that stand before a known one of the same user.
        known: interactions of the file that were there already.
        low: interactions below the rating that the data was prepared with.
        repeats: interactions that the data's rule for repeats leaves out.
        unmet: new items of the items file that nobody interacted with, and that the data's rule leaves out.
        untitled: new items without a title.
    """

    interactions: int = 0
    users: int = 0
    items: int = 0
    texts: int = 0
    late: int = 0
    known: int = 0
    low: int = 0
    repeats: int = 0
    unmet: int = 0
    untitled: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether the data is what it was."""
        return not (self.interactions or self.items or self.texts)

    def as_dict(self) -> dict[str, int]:
        """The same as a mapping, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Rows:
    """Interactions in numbers, in the order that counts among equal times."""

    users: Int64[np.ndarray, " rows"]
    items: Int64[np.ndarray, " rows"]
    times: Int64[np.ndarray, " rows"]

    def where(self, kept: Bool[np.ndarray, " rows"] | Int64[np.ndarray, " kept"]) -> _Rows:
        return _Rows(self.users[kept], self.items[kept], self.times[kept])

    def behind(self, other: _Rows) -> _Rows:
        return _Rows(*(np.concatenate([getattr(other, n), getattr(self, n)]) for n in ("users", "items", "times")))


def grown(data: InteractionDataset, raw: RawData) -> tuple[InteractionDataset, Growth]:
    """The data set with what a table holds more.

    Users and items that were there keep their numbers; new ones stand behind them in the order of their ids. The filters of the
    data's own preparation hold for what is new: the least rating (where the table has ratings), the rule for repeats, and whether
    items that nobody interacted with are kept. A core is not counted again. What is there already is not added twice: an
    interaction of the same user, item and second; or, in data without times, the user's whole known sequence where the table
    begins with it. A text of the items file takes the place of a known item's text.

    Args:
        data: as it was.
        raw: what a source read.

    Returns:
        The data set, and what came to it.

    Raises:
        DataError: the data has times, and the table has none; or the table writes ids otherwise than the data.
    """
    options = data.provenance.options.get("prepare")
    config = parse_config(PrepareConfig, options if isinstance(options, dict) else {}, "The data's own preparation")
    log = raw.interactions
    if data.times is not None and log.times is None:
        raise DataError(
            "has no times, and the run's data has them; name the column of the time with --time",
            raw.files[0] if raw.files else None,
        )
    kept = np.ones(len(log.user_ids), dtype=bool)
    if config.min_rating is not None and config.rating_scope == "interactions" and log.ratings is not None:
        kept = log.ratings >= config.min_rating
    user_names, named = _new_names(data.users, log.user_ids, kept), _new_names(data.items, log.item_ids, kept)
    unmet = _unmet(data.items, raw.items, named)
    item_names = sorted({*named, *(unmet if config.keep_items_without_interactions else ())})
    for known, new_names in ((data.users, user_names), (data.items, item_names)):
        _check_forms(known, new_names, raw)
    more_users, more_items = data.users.extended(user_names), data.items.extended(item_names)
    new = _ordered(log, _codes(more_users, log.user_ids), _codes(more_items, log.item_ids), np.flatnonzero(kept))
    old = _rows_of(data)
    is_known = _known(old, new) if data.times is not None else _known_beginnings(data, new)
    new = new.where(~is_known)
    together = new.behind(old)
    keys = (together.times, together.users) if data.times is not None else (together.users,)
    order: Int64[np.ndarray, " rows"] = np.lexsort(keys)
    stays = without_repeats(together.users[order], together.items[order], config.repeats)
    order = order[stays]
    together = together.where(order)
    catalogue, changed = _catalogue(data.catalogue, more_items, len(item_names), raw.items, config.clean_texts)
    lengths = np.bincount(together.users, minlength=len(more_users))
    growth = Growth(
        interactions=int((order >= len(old.users)).sum()),
        users=len(user_names),
        items=len(item_names),
        texts=changed,
        late=_late(old, new) if data.times is not None else 0,
        known=int(is_known.sum()),
        low=int((~kept).sum()),
        repeats=int((~stays).sum()),
        unmet=0 if config.keep_items_without_interactions else len(unmet),
        untitled=sum(title is None for title in catalogue.titles[data.n_items + 1 :]),
    )
    made = InteractionDataset(
        users=more_users,
        items=more_items,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item_numbers=together.items.astype(np.int32),
        times=together.times if data.times is not None else None,
        catalogue=catalogue,
        provenance=data.provenance,
    )
    return _with_provenance(made, raw), growth


def _new_names(known: Vocabulary, ids: pa.Array, kept: Bool[np.ndarray, " rows"]) -> list[str]:
    """The ids of the kept rows that a vocabulary does not hold, sorted."""
    encoded = ids.dictionary_encode()
    used = np.unique(encoded.indices.to_numpy()[kept])
    return sorted(name for name in encoded.dictionary.take(pa.array(used)).to_pylist() if name not in known)


def _check_forms(known: Vocabulary, new: Sequence[str], raw: RawData) -> None:
    """A new id that a known one becomes with or without .0 behind it: each file by itself is judged whether its ids are numbers.

    Raises:
        DataError: there is one.
    """
    for name in new:
        other = name.removesuffix(".0") if name.endswith(".0") else f"{name}.0"
        if other in known and name.removesuffix(".0").isdigit():
            raise DataError(
                f"the {known.kind} id {name!r} is new, and the run's data has {other!r}, which is probably the same and would become "
                "two; write ids as the run's data has them",
                raw.files[0] if raw.files else None,
            )


def _codes(vocabulary: Vocabulary, ids: pa.Array) -> Int64[np.ndarray, " rows"]:
    """The number of each row's id; -1 where the vocabulary does not hold it."""
    encoded = ids.dictionary_encode()
    found = (vocabulary.get(name) for name in encoded.dictionary.to_pylist())
    numbers = np.array([-1 if number is None else number for number in found], dtype=np.int64)
    return np.asarray(numbers[encoded.indices.to_numpy()])


def _ordered(
    log: RawInteractions,
    users: Int64[np.ndarray, " rows"],
    items: Int64[np.ndarray, " rows"],
    rows: Int64[np.ndarray, " kept"],
) -> _Rows:
    """Some rows of a table in the order of their times, then positions, then places in the file."""
    keys = [key[rows] for key in (log.positions, log.times) if key is not None]
    rows = rows[np.lexsort(keys)] if keys else rows
    times = np.zeros(len(users), dtype=np.int64) if log.times is None else whole_seconds(log.times, log.ticks)
    return _Rows(users[rows], items[rows], times[rows])


def _rows_of(data: InteractionDataset) -> _Rows:
    times = np.zeros(data.n_interactions, dtype=np.int64) if data.times is None else data.times
    return _Rows(data.user_of_interaction(), data.item_numbers.astype(np.int64), times)


def _known(old: _Rows, new: _Rows) -> Bool[np.ndarray, " new"]:
    """Which new rows the old ones hold, each as often as it stands there."""
    both = new.behind(old.where(np.isin(old.users, new.users)))
    count = len(both.users) - len(new.users)
    order = np.lexsort((both.times, both.items, both.users))
    same = np.ones(len(order), dtype=bool)
    for key in (both.users, both.items, both.times):
        same[1:] &= key[order][1:] == key[order][:-1]
    same[:1] = False
    group = np.cumsum(~same) - 1
    is_new = order >= count
    held = np.bincount(group[~is_new], minlength=int(group[-1]) + 1 if len(group) else 0)
    # Within a group the old rows come first, as the order is stable.
    place = np.arange(len(order)) - np.flatnonzero(~same)[group] - held[group] if len(order) else order
    known = np.zeros(len(both.users), dtype=bool)
    known[order[is_new]] = (place < held[group])[is_new]
    return known[count:]


def _known_beginnings(data: InteractionDataset, new: _Rows) -> Bool[np.ndarray, " new"]:
    """Which new rows are the whole sequence of a user as it is known; where there are no times, only order can say."""
    known = np.zeros(len(new.users), dtype=bool)
    for user in np.unique(new.users[new.users < data.n_users]).tolist():
        rows, sequence = np.flatnonzero(new.users == user), data.sequence(user)
        if len(sequence) and np.array_equal(new.items[rows[: len(sequence)]], sequence):
            known[rows[: len(sequence)]] = True
    return known


def _late(old: _Rows, new: _Rows) -> int:
    """How many new rows are earlier than the last known of their user."""
    last = np.full(max(old.users.max(initial=-1), new.users.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    np.maximum.at(last, old.users, old.times)
    return int((new.times < last[new.users]).sum())


def _unmet(known: Vocabulary, items: RawItems | None, named: list[str]) -> list[str]:
    """New items of the items file that no new interaction names."""
    met = set(named)
    return [] if items is None else [name for name in items.ids if name not in known and name not in met]


def _catalogue(
    before: Catalogue, items: Vocabulary, n_new: int, rows: RawItems | None, clean: bool
) -> tuple[Catalogue, int]:
    """The catalogue with the new items' texts, and how many known items have others now."""
    found = before.extended([None] * n_new)
    if rows is None:
        return found, 0
    titles, descriptions, categories = list(found.titles), list(found.descriptions), list(found.categories)

    def text(raw: str | None) -> str | None:
        return (clean_text(raw) if clean else raw) or None if raw is not None else None

    changed = 0
    for name, title, description, words in zip(rows.ids, rows.titles, rows.descriptions, rows.categories, strict=True):
        if (number := items.get(name)) is None:
            continue
        was = titles[number], descriptions[number], categories[number]
        # What the file leaves empty stays as it was.
        titles[number], descriptions[number] = text(title) or was[0], text(description) or was[1]
        categories[number] = tuple(word for raw in words if (word := text(raw)) is not None) or was[2]
        now = titles[number], descriptions[number], categories[number]
        changed += number <= len(before) and now != was
    return Catalogue(tuple(titles), tuple(descriptions), tuple(categories)), changed


def _with_provenance(data: InteractionDataset, raw: RawData) -> InteractionDataset:
    about, names = data.provenance, ", ".join(path.name for path in raw.files) or "a table"
    step = Step(
        name=f"with {names}",
        users=int((data.lengths > 0).sum()),
        items=len(np.unique(data.item_numbers)),
        interactions=data.n_interactions,
    )
    files = tuple(SourceFile(name=path.name, sha256=file_hash(path)) for path in raw.files)
    skipped: Mapping[str, int] = about.skipped
    more = {kind: skipped.get(kind, 0) + count for kind, count in raw.skipped.items()}
    provenance = about.model_copy(
        update={
            "files": (*about.files, *files),
            "steps": (*about.steps, step),
            "skipped": {**skipped, **more},
            "notes": (*about.notes, *raw.notes),
            "warnings": (*about.warnings, *raw.warnings),
        }
    )
    return replace(data, provenance=provenance)

"""The source "amazon": raw reviews and metadata of the Amazon review data as published in 2014, 2018 or 2023.

The paper's four sets are rows of PRESETS; nothing here asks for a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from allmrec.core.errors import DataError
from allmrec.data.files import FileLayout, Problems, Role, Rows, first_record, read_rows, shown_all
from allmrec.data.sources.base import Log, RawData, RawItems, ReadRows
from allmrec.data.sources.columns import ReadingConfig
from allmrec.data.sources.table import interactions_of, items_of

__all__ = [
    "PRESETS",
    "AmazonConfig",
    "AmazonForm",
    "AmazonPreset",
    "read_amazon_files",
    "read_metadata",
    "read_reviews",
]

AmazonForm = Literal["2014", "2018", "2023"]


class AmazonConfig(ReadingConfig):
    """A file of reviews and one of metadata, plain or gzip, a record a line."""

    reviews: Path = Field(description="One review a line.")
    metadata: Path | None = Field(None, description="One item a line; without it nothing is known of items but ids.")
    form: AmazonForm | None = Field(
        None,
        description="What the fields are called: as in 2014, 2018 or 2023; by default what the first record tells.",
    )
    description: Literal["joined", "first"] = Field(
        "joined",
        description="What counts of a description in several parts: all of it, or the first part only, as in the "
        "released program.",
    )
    duplicate_items: Literal["fail", "first", "last"] = Field(
        "first", description="Which record counts where the metadata have several for one item; those of 2018 do."
    )


@dataclass(frozen=True)
class AmazonPreset:
    """How one of the paper's sets is made of raw files.

    Attributes:
        prepare: fields of PrepareConfig.
        source: fields of AmazonConfig.
        words: verb, participle and noun of the prompt.
    """

    prepare: Mapping[str, Any]
    words: tuple[str, str, str]
    source: Mapping[str, Any] = field(default_factory=dict)


_WATCH, _PLAY, _BUY = ("watch", "watched", "movie"), ("play", "played", "game"), ("buy", "bought", "item")
_FIVE = {"core": 5, "core_passes": "one"}
# Stars are whole, so above 3 is from 4 on. The released program counts from 3 on and drops nothing.
_FOUR_PAPER = {"core": 4, "core_passes": "one", "min_rating": 4}
_FOUR_RELEASED = {"core": 4, "core_passes": "one", "min_rating": 3, "rating_scope": "counts"}
_FIRST_PART = {"description": "first"}

# Where the paper is silent (passes of the core), the released program decides.
PRESETS: Mapping[str, AmazonPreset] = MappingProxyType(
    {
        "movies": AmazonPreset(_FIVE, _WATCH),
        "games": AmazonPreset(_FIVE, _PLAY),
        "beauty": AmazonPreset(_FOUR_PAPER, _BUY),
        "toys": AmazonPreset(_FOUR_PAPER, _BUY),
        "movies-released": AmazonPreset(_FIVE, _WATCH, _FIRST_PART),
        "games-released": AmazonPreset(_FIVE, _PLAY, _FIRST_PART),
        "beauty-released": AmazonPreset(_FOUR_RELEASED, _BUY, _FIRST_PART),
        "toys-released": AmazonPreset(_FOUR_RELEASED, _BUY, _FIRST_PART),
    }
)


@dataclass(frozen=True)
class _Form:
    """What the fields are called, and in what the time is counted."""

    user: str
    item: str
    rating: str
    time: str
    ticks: int
    title: str
    description: str
    categories: str

    def review(self) -> dict[str, Role]:
        return {self.user: "id", self.item: "id", self.rating: "number", self.time: "time"}

    def metadata(self) -> dict[str, Role]:
        return {self.item: "id", self.title: "text", self.description: "texts", self.categories: "texts"}


_2014 = _Form("reviewerID", "asin", "overall", "unixReviewTime", 1, "title", "description", "categories")
_FORMS: dict[AmazonForm, _Form] = {
    # What only one form has comes first, because the first that fits a record is taken.
    "2023": _Form("user_id", "parent_asin", "rating", "timestamp", 1000, "title", "description", "categories"),
    "2018": replace(_2014, categories="category"),
    "2014": _2014,
}


def read_amazon_files(config: AmazonConfig) -> RawData:
    """Read reviews and metadata.

    Raises:
        DataError: a file is missing or damaged, or of no known form.
    """
    problems = config.problems()
    interactions = read_reviews(config, problems, read_rows, interactions_of)
    return RawData.of(interactions, *read_metadata(config, problems), problems)


def read_reviews(config: AmazonConfig, problems: Problems, read: ReadRows, take: Callable[..., Log]) -> Log:
    """The reviews.

    Args:
        config: names the file.
        problems: what becomes of bad lines.
        read: as `read_rows`.
        take: as `interactions_of`.

    Raises:
        DataError: the file is missing or damaged, or of no known form.
    """
    path = config.reviews
    form, layout = _look(path, config, lambda form: {form.user, form.item})
    rows = read(path, layout, form.review(), problems)
    _expect(rows, [form.user, form.item, form.rating, form.time], "reviews")
    # Fractions of a second stay: they order what was written within one.
    return take(
        rows,
        problems,
        user=form.user,
        item=form.item,
        rating=form.rating,
        time=form.time,
        unit="s",
        units_a_second=form.ticks,
    )


def read_metadata(config: AmazonConfig, problems: Problems) -> tuple[RawItems | None, tuple[Path, ...]]:
    """The metadata, None where there are none; and every file that the config names.

    Raises:
        DataError: the file is missing or damaged, or of no known form.
    """
    if config.metadata is None:
        return None, (config.reviews,)
    return _read_metadata(config.metadata, config, problems), (config.reviews, config.metadata)


def _read_metadata(path: Path, config: AmazonConfig, problems: Problems) -> RawItems:
    form, layout = _look(path, config, lambda form: {form.item, form.categories})
    rows = read_rows(path, layout, form.metadata(), problems)
    _expect(rows, [form.item], "metadata")
    if config.description == "first" and form.description in rows.columns:
        parts = rows.columns[form.description].to_pylist()
        first = pa.array([part[0] if part else None for part in parts], pa.large_string())
        rows = replace(rows, columns={**rows.columns, form.description: first})
    # Records leave fields out, so a field that no record has is a fact about the items as well.
    there = {name: name if name in rows.columns else None for name in (form.title, form.description, form.categories)}
    return items_of(
        rows,
        problems,
        item=form.item,
        title=there[form.title],
        description=there[form.description],
        categories=there[form.categories],
        category_separator=None,
        duplicates=config.duplicate_items,
    )


def _look(path: Path, config: AmazonConfig, marks: Callable[[_Form], set[str]]) -> tuple[_Form, FileLayout]:
    """A file's form and syntax, as its first usable record tells."""
    forms = list(_FORMS.values()) if config.form is None else [_FORMS[config.form]]
    # Metadata may lack the fields that tell forms apart; the item's id they all have.
    marked = [(form, marks(form)) for form in forms] + [(form, {form.item}) for form in reversed(forms)]
    found = first_record(path, lambda record: any(names <= record.keys() for _, names in marked))
    if found is None:
        return forms[-1], FileLayout(format="jsonl")  # which says what is wrong with the file
    syntax, record = found
    form = next(form for form, names in marked if names <= record.keys())
    return form, FileLayout(format=syntax)


def _expect(rows: Rows, columns: list[str], what: str) -> None:
    """Check that a file has a form's fields."""
    missing = [name for name in columns if name not in rows.names]
    if missing:
        raise DataError(
            f"no field {missing[0]!r}; found {shown_all(rows.names)}; {what} have {', '.join(map(repr, columns))} here. Set form to "
            f"{', '.join(_FORMS)}, or read other files with the source table",
            rows.path,
        )

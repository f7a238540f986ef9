from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from allmrec.core.errors import DataError
from allmrec.data import Catalogue, InteractionDataset, ItemTextTemplate


def test_what_is_missing_is_counted_without_padding(small: InteractionDataset) -> None:
    catalogue = small.catalogue
    assert len(catalogue) == 6
    assert (catalogue.missing_titles, catalogue.missing_descriptions) == (4, 4)
    assert catalogue.title(1) == "Alpha"
    assert catalogue.description(1) is None


def test_item_text_is_the_papers_and_of_what_there_is(small: InteractionDataset) -> None:
    assert small.catalogue.item_texts() == [
        "",
        "Title: Alpha",
        "Title: Beta, Description: The second.",
        "Description: The third.",
        "",
        "",
        "",
    ]


def test_a_template_is_data(small: InteractionDataset) -> None:
    template = ItemTextTemplate(full="{title}, {description}", title_only="{title} [{categories}]", neither="?")
    assert small.catalogue.item_text(1, template) == "Alpha [x, y]"
    assert small.catalogue.item_text(2, template) == "Beta, The second."
    assert small.catalogue.item_text(6, template) == "?"
    assert small.catalogue.item_text(0, template) == ""


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"unknown place \{tilte\}"):
        ItemTextTemplate(full="{tilte}")


@given(st.text(), st.text())
def test_texts_with_braces_stay_texts(title: str, description: str) -> None:
    title = "{description}" + title
    rendered = ItemTextTemplate().render(title, description)
    assert rendered == "Title: " + title + ", Description: " + description


def test_parts_of_different_length_and_a_filled_padding_are_refused() -> None:
    with pytest.raises(DataError, match="2 titles, 1 descriptions"):
        Catalogue((None, "a"), (None,), ((), ()))
    with pytest.raises(DataError, match="Entry 0"):
        Catalogue(("a",), (None,), ((),))


def test_extending_keeps_entries() -> None:
    catalogue = Catalogue((None, "a"), (None, "A"), ((), ("x",))).extended(["b"])
    assert catalogue == Catalogue((None, "a", "b"), (None, "A", None), ((), ("x",), ()))
    assert Catalogue.without_texts(2).missing_titles == 2

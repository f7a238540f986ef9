"""From words to items: exactly, candidates first; what several items bear names none of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.prompting.template import PromptTemplate
from allmrec.recommend.resolve import AnswerStatistics, Resolution, TitleResolver, template_quotes

TITLES = [
    None,
    "Heat (1995)",
    "Alien",
    "The Mask",
    "The Mask",
    None,
    'Say "Yes"',
    "AT&T  &amp; Me",
    "Heat (1995) Uncut",
]


@pytest.mark.parametrize(
    ("answer", "item", "kind"),
    [
        (" Heat (1995)", 1, "candidate"),
        ("\n Heat\t(1995) ", 1, "candidate"),
        (" Alien", 2, "catalogue"),
        (" The Mask", None, "ambiguous"),
        (" AT&T & Me", 7, "catalogue"),
        ("Heat (1995) Uncut", 8, "candidate"),
        ("Heat", None, "none"),
        ("Heat (1995), Alien", None, "none"),
        ("heat (1995)", None, "none"),
        ("", None, "none"),
        (" \n", None, "none"),
        ('"Alien"', None, "none"),
    ],
)
def test_exactly_or_not_at_all(answer: str, item: int | None, kind: str) -> None:
    assert TitleResolver(TITLES).resolve(answer, [8, 1, 5]) == Resolution(item, kind)


def test_a_title_of_several_items_is_the_candidate_among_them() -> None:
    resolver = TitleResolver(TITLES)
    assert resolver.resolve("The Mask", [2, 4]) == Resolution(4, "candidate")
    assert resolver.resolve("The Mask", [4, 3]) == Resolution(4, "candidate")
    assert resolver.resolve("The Mask") == Resolution(None, "ambiguous")


def test_case_is_kept_unless_folded() -> None:
    assert TitleResolver(TITLES, fold_case=True).resolve("aLIEN", [2]) == Resolution(2, "candidate")
    assert TitleResolver(TITLES).resolve("aLIEN", [2]) == Resolution(None, "none")


def test_quotes_of_the_prompt_may_be_repeated() -> None:
    resolver = TitleResolver(TITLES, quotes=('"', '"'))
    assert resolver.resolve(' " Alien"', [2]) == Resolution(2, "candidate")
    assert resolver.resolve('Say "Yes"', [6]) == Resolution(6, "candidate")
    assert resolver.resolve('"', [2]) == Resolution(None, "none")
    assert resolver.resolve('""', [2]) == Resolution(None, "none")


def test_what_the_prompt_calls_a_candidate_counts() -> None:
    resolver = TitleResolver(TITLES)
    shown = [" Heat (1995) Un", " untitled movie"]
    assert resolver.resolve(" untitled movie", [8, 5], shown) == Resolution(5, "candidate")
    assert resolver.resolve(" Heat (1995) Un", [8, 5], shown) == Resolution(8, "candidate")
    assert resolver.resolve(" Heat (1995) Uncut", [8, 5], shown) == Resolution(8, "candidate")
    assert resolver.resolve(" untitled movie", [8], shown[:1]) == Resolution(None, "none")


def test_an_item_that_came_later_is_known_by_what_the_prompt_shows() -> None:
    assert TitleResolver(TITLES).resolve(" Brand New", [1, 9], [" Heat (1995)", " Brand New"]).item == 9


@pytest.mark.parametrize(
    ("item", "quotes"),
    [("{title}{item}", None), ('"{title}"{item}', ('"', '"')), ("«{title}», {item}", ("«", "»")), ("'{title}", None)],
)
def test_quotes_are_read_off_the_template(item: str, quotes: tuple[str, str] | None) -> None:
    assert template_quotes(PromptTemplate(item=item)) == quotes


def test_statistics_by_hand() -> None:
    resolver = TitleResolver(TITLES)
    found = [resolver.resolve(answer, [1]) for answer in ("Heat (1995)", "Alien", "The Mask", "Nothing", "")]
    counted = AnswerStatistics.of(found)
    assert counted == AnswerStatistics(asked=5, in_candidates=1, valid=2, in_catalogue=3)
    assert counted + counted == AnswerStatistics(asked=10, in_candidates=2, valid=4, in_catalogue=6)
    assert str(counted) == "of 5 answers 1 name a candidate, 2 one item of the catalogue, 1 a title of several"


@given(titles=st.lists(st.text(max_size=6), min_size=1, max_size=8), answer=st.text(max_size=8), fold=st.booleans())
def test_an_answer_names_an_item_only_by_its_own_title(titles: list[str], answer: str, fold: bool) -> None:
    resolver = TitleResolver([None, *titles], fold_case=fold)
    found = resolver.resolve(answer, [1])
    own = [item for item in range(1, len(titles) + 1) if resolver._key(titles[item - 1]) == resolver._key(answer)]
    if not resolver._key(answer) or not own:
        assert found.kind == "none"
    elif own[0] == 1:
        assert found == Resolution(1, "candidate")
    else:
        assert found == (Resolution(own[0], "catalogue") if len(own) == 1 else Resolution(None, "ambiguous"))
    for item, title in enumerate(titles, start=1):
        if resolver._key(title):
            assert resolver.resolve(title, [item]) == Resolution(item, "candidate")

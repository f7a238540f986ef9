from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmrec.data import clean_text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Game &amp; Watch", "Game & Watch"),
        ("Pok&eacute;mon &#8211; Moon&trade;", "Pokémon \u2013 Moon™"),
        ("It&amp;#39;s &amp;amp;amp; more", "It's & more"),
        ("Marvel&rsquo;s Spider-Man", "Marvel\u2019s Spider-Man"),
        ("AT&T, R&D; Q&A &unknown; &notit; &reg", "AT&T, R&D; Q&A &unknown; &notit; &reg"),
        ("<b>Bold</b>ly <br/>gone<p class='x'>here</p>", "Boldly gone here"),
        ("&lt;b&gt;Bold&lt;/b&gt;", "Bold"),
        ("a<script>var x = '<b>';</script>b<!-- no -->c", "a b c"),
        ("I <3 this, 1 < 2 > 0, <Untitled> < b >", "I <3 this, 1 < 2 > 0, <Untitled> < b >"),
        ("  a\t\n b\u00a0&nbsp;c\u200b d\0e ", "a b c d e"),
        ("&#0; &#xD800; &#153;", "\ufffd \ufffd ™"),
        ("", ""),
        ("&nbsp;<br>", ""),
    ],
)
def test_by_hand(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


@given(
    st.lists(st.sampled_from(["&amp;", "&lt;", "&gt;", "<b>", "</", "<", ">", "&", "#39;", "p", ";", " ", "\n", "é"]))
)
def test_white_space_is_folded_whatever_comes(parts: list[str]) -> None:
    clean = clean_text("".join(parts))
    assert clean == " ".join(clean.split())


@given(st.text(st.characters(blacklist_characters="&<", categories=("L", "N", "P", "S"))))
def test_plain_words_stay(text: str) -> None:
    assert clean_text(text) == " ".join(text.split())


def test_a_hostile_text_takes_no_time() -> None:
    start = time.perf_counter()
    clean_text("&" + "amp;" * 200_000)
    clean_text("<script>" * 3_000)
    clean_text("<b " * 3_000)
    assert time.perf_counter() - start < 5

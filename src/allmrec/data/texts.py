"""Words as a shop's page had them become plain words."""

from __future__ import annotations

import re
from html import unescape
from html.entities import html5

__all__ = ["clean_text"]

# Elements that occur in product texts. Anything else in angle brackets ("<Untitled>", "I <3 this") is the text's own.
_INLINE = "a|abbr|acronym|b|big|code|em|font|i|ins|label|mark|s|small|span|strike|strong|sub|sup|tt|u"
_BLOCK = (
    "address|article|aside|blockquote|body|br|button|caption|center|dd|div|dl|dt|embed|fieldset|figure|footer|form|"
    "h[1-6]|head|header|hr|html|iframe|img|input|li|link|main|meta|nav|object|ol|option|p|param|pre|section|select|"
    "table|tbody|td|textarea|tfoot|th|thead|title|tr|ul|video"
)
_HIDDEN = re.compile(r"<!--.*?-->|<(script|style|noscript)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCK})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\ufeff\ud800-\udfff]")

# Real texts are escaped twice at most; without a bound a hostile text would take quadratic time.
_ROUNDS = 6


def clean_text(text: str) -> str:
    """Unescape HTML entities, drop HTML tags, fold white space.

    Entities are unescaped again while that changes anything, because shops escape what is already escaped
    (`&amp;#39;` is an apostrophe). An entity must end in a semicolon: "AT&T" and "Q&Anot" stay as they are. Control
    characters become blanks.
    """
    if "&" in text or "<" in text:
        for _ in range(_ROUNDS):
            before = text
            text = _HIDDEN.sub(" ", text) if "<" in text else text
            text = _BLOCK_TAG.sub(" ", _INLINE_TAG.sub("", text))
            text = _ENTITY.sub(_character, text)
            if text == before:
                break
    return " ".join(_UNSEEN.sub(" ", text).split())


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for; an unknown name stays. html.unescape alone would read "&notit;" as "¬it;"."""
    name = entity[0]
    return unescape(name) if name[1] == "#" or name[1:] in html5 else name

"""Texts to token numbers as words: nothing that a text says can become a control token of a model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from allmrec.core.errors import ModelNotFoundError

__all__ = ["Words", "check_rows"]

# Names by which tokenizers know the tokens that a model takes for structure.
_NAMED = ("bos_token_id", "eos_token_id", "sep_token_id", "pad_token_id", "cls_token_id", "mask_token_id")
_BRACKETED = re.compile(r"<.*>|\[.*\]", re.DOTALL)
# How bytes of unknown characters are written; they are words.
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
# Characters that few tokenizers join to what follows.
_ANCHORS = ("\n", "|", "#", "x")


class Words:
    """A tokenizer that takes every text for words. It keeps the tokenizer, and changes it.

    `</s>` in a title is four characters like any others: a seller must not be able to end a prompt. What transformers
    calls `split_special_tokens` does most of it. Tokens that stand in brackets are control tokens too, though many
    tokenizers do not mark them (`<think>`); and where the words themselves come out as a control token, as with Unigram
    vocabularies, the text is cut inside of it.

    Args:
        tokenizer: any of transformers'.
        in_pieces: whether texts are pieces of a longer one. Tokenizers of Llama 2's kind put a blank of their own before
            every text, so a text in pieces would gain blanks; with this they put none.
    """

    def __init__(self, tokenizer: Any, in_pieces: bool = False) -> None:
        self._tokenizer = tokenizer
        self._anchor = ""
        tokenizer.split_special_tokens = True
        self.control = _control_ids(tokenizer)
        self._marks = [text for text in tokenizer.convert_ids_to_tokens(sorted(self.control)) if text and len(text) > 1]
        _mark_special(tokenizer, self._marks)
        before, after = _frame(tokenizer)
        self.before: tuple[int, ...] = before
        """Token numbers that the tokenizer puts before a text by itself."""
        self.after: tuple[int, ...] = after
        """Token numbers that it puts behind one."""
        self._within = self._found_anchor() if _puts_blank(tokenizer) else ""
        if in_pieces:
            self._put_no_blank()

    def ids(self, text: str) -> list[int]:
        """Token numbers of a text, none of them a control token; nothing is put around them."""
        return self.many([text])[0]

    def many(self, texts: Sequence[str]) -> list[list[int]]:
        """The same of several texts, faster."""
        return self._rows(texts, self._anchor)

    def text(self, ids: Sequence[int]) -> str:
        """The text of token numbers as it was written, control tokens left out."""
        # Some tokenizers tidy blanks before punctuation away; a title must come back as it was written.
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        return [list(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def _rows(self, texts: Sequence[str], anchor: str) -> list[list[int]]:
        """Token numbers of texts behind an anchor, which is there so that no blank is put before them."""
        found = self._encoded([anchor + text for text in texts]) if texts else []
        start = len(self._encoded([anchor])[0]) if anchor else 0
        return [
            self._without_control(text, anchor) if self.control.intersection(ids) else ids[start:]
            for text, ids in zip(texts, found, strict=True)
        ]

    def _without_control(self, text: str, anchor: str) -> list[int]:
        """Token numbers of a text that comes out with control tokens: it is cut inside of each and the parts are joined."""
        if len(text) < 2:
            return [token for token in self._encoded([text])[0] if token not in self.control]
        at = self._cut(text)
        return self._rows([text[:at]], anchor)[0] + self._rows([text[at:]], self._within)[0]

    def _cut(self, text: str) -> int:
        """A place inside the first control token that a text comes out with."""
        if getattr(self._tokenizer, "is_fast", False):
            made = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            for token, (start, end) in zip(made["input_ids"], made["offset_mapping"], strict=True):
                if token in self.control and end - start > 1:
                    return int(start) + 1
        found = [text.find(mark) for mark in self._marks if mark in text]
        return min(found) + 1 if found else len(text) // 2

    def _put_no_blank(self) -> None:
        """Have the tokenizer put no blank of its own before a text."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if not _puts_blank(self._tokenizer) and self.text(self._encoded([" a"])[0]) == " a":
            return
        if backend is not None:
            kept = backend.normalizer, backend.pre_tokenizer, backend.decoder
            backend.normalizer, backend.pre_tokenizer, backend.decoder = _blankless(backend)
            if self._encoded([" a"]) != self._encoded(["a"]) and not _puts_blank(self._tokenizer):
                self._within = ""
                return
            # Its rules take a leading blank away, so that one of its own is the only one that there can be.
            backend.normalizer, backend.pre_tokenizer, backend.decoder = kept
        self._anchor = self._within = self._found_anchor()

    def _found_anchor(self) -> str:
        """A text whose tokens stay the same whatever follows it."""
        for anchor in _ANCHORS:
            alone = self._encoded([anchor])[0]
            texts = [anchor + text for text in ("a", " a", ",", ".", "1", "é")]
            if all(ids[: len(alone)] == alone for ids in self._encoded(texts)):
                return anchor
        return ""


def check_rows(tokenizer: Any, rows: int, used: Iterable[int | None], source: Any, what: str) -> None:
    """Make sure that there is an embedding for every token that a text can become, and for those that are put around it.

    Args:
        tokenizer: any of transformers'.
        rows: of the model's token embeddings.
        used: control tokens that are used beside those that the tokenizer puts around a text by itself.
        source: where it was read from.
        what: whose it is, in words.

    Raises:
        ModelNotFoundError: there are more tokens than rows, or none.
    """
    known = tokenizer.get_vocab()
    # Of a folder without a tokenizer transformers makes one that turns every text into nothing, or into unknown words.
    if not set(known.values()) - _control_ids(tokenizer) - {tokenizer.unk_token_id}:
        raise ModelNotFoundError(
            f"{what} ({source}) has a tokenizer without words. Get the files that are missing: tokenizer.json and "
            "tokenizer_config.json, or the vocabulary under its older names."
        )
    before, after = _frame(tokenizer)
    # Control tokens of other uses (images, say) may stand behind the last row, for no text becomes one. An unknown word's
    # that does was added later, and the vocabulary knows nothing of it.
    unused = (_control_ids(tokenizer) | {tokenizer.unk_token_id}) - {*before, *after, *used}
    beyond = {n: token for token, n in known.items() if n >= rows and n not in unused}
    if beyond:
        raise ModelNotFoundError(
            f"{what} ({source}) has {rows:,} token embeddings, and its tokenizer tokens beyond them: {len(beyond):,}, such "
            f"as {beyond[min(beyond)]!r}, number {min(beyond):,}. Give the tokenizer that the model was trained with, or "
            "train the model's embeddings for them (resize_token_embeddings) and save both."
        )


def _control_ids(tokenizer: Any) -> frozenset[int]:
    """Token numbers that mean structure to a model; not the unknown word's, unless it is another's too."""
    named = {getattr(tokenizer, name, None) for name in _NAMED}
    special = set(tokenizer.all_special_ids) - ({tokenizer.unk_token_id} - named)
    added = tokenizer.added_tokens_decoder
    bracketed = {n for n, token in added.items() if _BRACKETED.fullmatch(token.content)} - {tokenizer.unk_token_id}
    found = (special | named | bracketed) - {n for n, token in added.items() if _BYTE.fullmatch(token.content)}
    return frozenset(int(number) for number in found if number is not None)


def _mark_special(tokenizer: Any, marks: Sequence[str]) -> None:
    """Have the backend pass by added tokens in brackets that it does not count as special."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        added = {token.content: token for token in tokenizer.added_tokens_decoder.values() if not token.special}
        backend.add_special_tokens([added[mark] for mark in marks if mark in added])


def _frame(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer puts before and behind a text."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start]), tuple(full[start + len(bare) :])
    return (), ()


def _puts_blank(tokenizer: Any) -> bool:
    """Whether a text without a blank before it comes out with one."""
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("a", add_special_tokens=False)["input_ids"])
    return bool(tokens) and str(tokens[0]).startswith(("▁", "Ġ"))


def _blankless(backend: Any) -> tuple[Any, Any, Any]:
    """A backend's normaliser, splitting and decoder without what adds a blank before a text, or takes one away."""
    from tokenizers import Tokenizer, models

    shell = Tokenizer(models.BPE())
    shell.normalizer, shell.pre_tokenizer, shell.decoder = backend.normalizer, backend.pre_tokenizer, backend.decoder
    rules = json.loads(shell.to_str())
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        rules[part] = _changed(rules[part], part)
    made = Tokenizer.from_str(json.dumps(rules))
    return made.normalizer, made.pre_tokenizer, made.decoder


def _changed(rule: Any, part: str) -> Any:
    """One rule of a tokenizer, with the rules inside it; None for one that goes."""
    if rule is None:
        return None
    kind = rule["type"]
    if kind == "Sequence":
        name = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}[part]
        return {**rule, name: [made for one in rule[name] if (made := _changed(one, part)) is not None]}
    if kind == "Metaspace":
        return {**rule, "prepend_scheme": "never"}
    if kind == "ByteLevel" and part != "decoder":
        return {**rule, "add_prefix_space": False}
    if kind == "Prepend" or (kind == "Strip" and part == "decoder"):
        return None
    return rule

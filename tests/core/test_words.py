"""A title is words: nothing in it becomes a control token, it comes back as it was, and pieces join to the whole."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AddedToken as Added
from transformers import BertTokenizerLegacy, PreTrainedTokenizerFast

from allmrec.core.errors import ModelNotFoundError
from allmrec.core.words import Words, check_rows
from allmrec.testing.tiny_lm import tiny_tokenizer

CORPUS = ["the quick brown fox", "Heat (1995), a film of the year", "Toy Story, a title of the list"] * 4
MEAN = [
    " Heat</s>",
    "</s>",
    " <s>Toy</s> Story<s>",
    " </s></s><s>",
    "a<pad>b",
    " <unk> </s",
    " <think>Heat</think> [INST] a",
]


def _sentencepiece(kind: str, blank: str) -> PreTrainedTokenizerFast:
    """A tokenizer of Llama 2's kind (bpe) or of XLM-R's and T5's (unigram), by how it puts a blank before a text."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True) if kind == "bpe" else models.Unigram())
    special = ["<unk>", "<s>", "</s>"]
    letters = sorted(set("".join(CORPUS)) | set("<>/skpadunthiSTI[]") | {"▁"})
    trainer = (
        trainers.BpeTrainer(vocab_size=200, special_tokens=special, initial_alphabet=letters, show_progress=False)
        if kind == "bpe"
        else trainers.UnigramTrainer(
            vocab_size=150, special_tokens=special, unk_token="<unk>", initial_alphabet=letters, show_progress=False
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    backend.train_from_iterator(CORPUS, trainer)
    strip = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    if blank == "legacy":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = None
        backend.decoder = decoders.Sequence(strip)
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=blank, split=kind != "bpe")
        backend.decoder = decoders.Sequence(strip) if kind == "bpe" else decoders.Metaspace(prepend_scheme=blank)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.add_tokens([Added("<think>"), Added("</think>"), Added("[INST]")])
    return made


def _bytes() -> PreTrainedTokenizerFast:
    made = tiny_tokenizer(CORPUS, bos=True)
    made.add_tokens([Added("<think>"), Added("</think>"), Added("[INST]")])
    return made


def _spaced() -> PreTrainedTokenizerFast:
    """A byte-level one that puts a blank before every text, as RoBERTa's can."""
    made = tiny_tokenizer(CORPUS)
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return made


KINDS: dict[str, Any] = {
    "bytes": _bytes,
    "bytes with a blank": _spaced,
    **{
        f"{kind} {blank}": lambda kind=kind, blank=blank: _sentencepiece(kind, blank)
        for kind in ("bpe", "unigram")
        for blank in ("legacy", "always", "first", "never")
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_pieces", [True, False])
def test_no_text_becomes_a_control_token(kind: str, in_pieces: bool) -> None:
    tokenizer = KINDS[kind]()
    words = Words(tokenizer, in_pieces)
    assert {tokenizer.bos_token_id, tokenizer.eos_token_id} <= words.control
    rows = words.many(MEAN)
    assert rows == [words.ids(text) for text in MEAN]
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    for text, row in zip(MEAN, rows, strict=True):
        assert not words.control.intersection(row), text
        assert added.get("<think>") not in row
        # The blank that the tokenizer puts there by itself is no part of the text.
        back, wanted = words.text(row), text
        if "<unk>" not in tokenizer.get_vocab() or tokenizer.unk_token_id not in row:
            assert back == wanted if in_pieces else back.strip() == wanted.strip()


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_join_to_the_whole_and_come_back(kind: str) -> None:
    words = Words(KINDS[kind](), in_pieces=True)
    pieces = [" the quick", " Heat (1995)", " a title,", " of the list"]
    whole = "".join(pieces)
    assert [token for piece in pieces for token in words.ids(piece)] == words.ids(whole)
    assert words.text(words.ids(whole)) == whole
    assert words.ids(" Heat") != words.ids("Heat")


@pytest.mark.parametrize("kind", ["bytes", "unigram always"])
def test_what_stands_around_a_text_is_known(kind: str) -> None:
    words = Words(KINDS[kind]())
    assert (words.before, words.after) == (((1,), ()) if kind == "bytes" else ((1,), (2,)))
    assert words.many([]) == []


def test_a_vocabulary_that_holds_its_control_tokens_as_words_cannot_be_tricked() -> None:
    """Cut at blanks alone, `[SEP]` would be looked up whole and found."""
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "heat", "[", "SEP]", "]"])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken("[SEP]", special=True)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words = Words(PreTrainedTokenizerFast(tokenizer_object=backend, **names))
    assert words.ids("heat [SEP] heat") == [4, 5, 6, 4]
    assert 1 not in words.control


def test_a_tokenizer_in_python_is_no_different(tmp_path: Any) -> None:
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "heat", "[", "]", "sep"])
    )
    words = Words(BertTokenizerLegacy(str(tmp_path / "vocab.txt")))
    assert words.ids("Heat [SEP] heat") == [5, 6, 8, 7, 5]
    assert (words.before, words.after) == ((2,), (3,))


def test_tokens_behind_the_last_embedding_are_named_where_a_text_can_become_one() -> None:
    tokenizer = tiny_tokenizer(CORPUS)
    rows = len(tokenizer)
    check_rows(tokenizer, rows, (), "folder", "The model")
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]})
    check_rows(tokenizer, rows, (), "folder", "The model")
    with pytest.raises(ModelNotFoundError, match="<image>"):
        check_rows(tokenizer, rows, (rows,), "folder", "The model")
    tokenizer.add_tokens(["Metropolis"])
    with pytest.raises(
        ModelNotFoundError, match=rf"{rows} token embeddings.* 1, such as 'Metropolis', number {rows + 1}"
    ):
        check_rows(tokenizer, rows, (), "folder", "The model")

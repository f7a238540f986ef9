"""Items and histories in words: which tokens stand where."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from allmrec.baselines.recformer import hidden_words
from allmrec.baselines.recformer_text import ItemTokens
from allmrec.core.errors import ConfigError
from allmrec.data.catalogue import Catalogue

WORDS = ["[PAD]", "[CLS]", "[MASK]", "title", "category", "red", "lamp", "blue", "light", "toy", ","]


def tokenizer(**names: str) -> PreTrainedTokenizerFast:
    """A number a word."""
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[PAD]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


NAMES = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
CATALOGUE = Catalogue(
    (None, "red lamp", None, None, "blue blue blue blue toy"), (None,) * 5, ((), ("light", "toy"), ("toy",), (), ())
)


def tokens(value_tokens: int = 4) -> ItemTokens:
    return ItemTokens.of(CATALOGUE, tokenizer(**NAMES), value_tokens)


def words(ids: np.ndarray) -> str:
    return " ".join(WORDS[int(number)] for number in ids)


def test_an_item_is_keys_and_values_and_what_is_missing_is_left_out() -> None:
    batch = tokens().batch([np.array([item]) for item in range(5)], max_history=3, max_tokens=20)
    assert [words(row).replace(" [PAD]", "") for row in batch.ids] == [
        "[CLS]",
        "[CLS] title red lamp category light , toy",
        "[CLS] category toy",
        "[CLS]",
        "[CLS] title blue blue blue blue",
    ]
    assert batch.kinds[1].tolist() == [0, 1, 2, 2, 1, 2, 2, 2]
    assert batch.real.sum(1).tolist() == [1, 8, 3, 1, 6]


def test_the_most_recent_item_comes_first_and_the_oldest_is_cut() -> None:
    (row,) = tokens().batch([np.array([4, 0, 2, 3, 1])], max_history=4, max_tokens=20).ids
    assert words(row) == "[CLS] title red lamp category light , toy category toy title blue blue blue blue"
    batch = tokens().batch([np.array([4, 2, 3, 1])], max_history=4, max_tokens=12)
    assert words(batch.ids[0]).endswith("category toy title blue")
    # Item 3 has no words, but it has its place.
    assert batch.places[0].tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 3, 3, 4, 4]
    (row,) = tokens().batch([np.array([4, 2, 3, 1])], max_history=2, max_tokens=20).ids
    assert words(row) == "[CLS] title red lamp category light , toy"


def test_an_empty_history_is_the_first_token_alone() -> None:
    batch = tokens().batch([np.zeros(0, dtype=np.int64), np.array([0, 0])], max_history=3, max_tokens=9)
    assert batch.ids.tolist() == [[1], [1]]
    assert batch.real.all()


def test_only_values_are_hidden_as_often_as_asked() -> None:
    batch = tokens().batch([np.array([1, 4])] * 4000, max_history=3, max_tokens=20)
    masked, chosen = hidden_words(batch, tokens(), 0.3, np.random.default_rng(0))
    values = batch.kinds == 2
    assert not chosen[~values].any()
    assert chosen[values].mean() == pytest.approx(0.3, abs=0.02)
    assert np.array_equal(masked.ids[~chosen], batch.ids[~chosen])
    assert (masked.ids[chosen] == 2).mean() == pytest.approx(0.8 + 0.1 / len(WORDS), abs=0.02)
    assert (masked.ids[chosen] == batch.ids[chosen]).mean() == pytest.approx(0.1 + 0.1 / len(WORDS), abs=0.02)


def test_a_tokenizer_needs_something_to_begin_with() -> None:
    with pytest.raises(ConfigError, match="CLS or BOS"):
        ItemTokens.of(CATALOGUE, tokenizer(pad_token="[PAD]"))


def test_control_tokens_in_a_value_are_words() -> None:
    catalogue = Catalogue((None, "red [CLS] lamp", "[MASK]"), (None,) * 3, ((),) * 3)
    made = ItemTokens.of(catalogue, tokenizer(**NAMES))
    assert not {1, 2} & set(made.ids.tolist())
    assert [n for n in made.ids.tolist() if n in (5, 6)] == [5, 6]

"""A language model as encoder of texts: against hidden states read one text at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from allmrec.core.config import parse_config
from allmrec.core.errors import ConfigError
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.testing.tiny_lm import tiny_language_model
from allmrec.text.causal import CausalConfig, CausalEncoder

TEXTS = ["Heat (1995)", None, "the film of the year, of which there are several", "  ", "a", "Heat (1995)"]


@pytest.fixture(scope="module", params=["llama", "opt"])
def lm(request: pytest.FixtureRequest) -> TransformersLM:
    return tiny_language_model(request.param, [text for text in TEXTS if text])


def states(lm: TransformersLM, ids: list[int], layer: int | None) -> Tensor:
    row = torch.tensor([ids])
    hidden = lm.hidden(lm.embed(row), None, torch.arange(len(ids))[None], layer)
    return hidden[0].detach()


@pytest.mark.parametrize("layer", [None, 1, 2])
@pytest.mark.parametrize(
    ("prompt", "before", "lead", "after"),
    [("{text}", "", "", ""), ("Movie: {text} This in one word:", "Movie:", " ", " This in one word:")],
)
def test_both_ways_of_pooling_are_those_of_each_text_alone(
    lm: TransformersLM, layer: int | None, prompt: str, before: str, lead: str, after: str
) -> None:
    first = [*lm.prefix_ids, *lm.tokenize(before)]
    for pooling in ("mean", "last"):
        config = CausalConfig.model_validate({"layer": layer, "pooling": pooling, "prompt": prompt})
        encoder = CausalEncoder(lm, config)
        found, present = encoder.vectors(TEXTS)
        assert found.shape == (len(TEXTS), encoder.dim) == (len(TEXTS), lm.hidden_dim)
        assert present.tolist() == [True, False, True, False, True, True]
        assert not found[~present].any()
        for text, vector in zip(TEXTS, found, strict=True):
            if not (text or "").strip():
                continue
            own = lm.tokenize(lead + str(text))
            read = states(lm, [*first, *own, *lm.tokenize(after)], layer)
            wanted = read[-1] if pooling == "last" else read[len(first) : len(first) + len(own)].mean(dim=0)
            torch.testing.assert_close(vector, wanted, atol=1e-5, rtol=1e-4)


def test_a_vector_does_not_depend_on_the_texts_beside_it(lm: TransformersLM) -> None:
    encoder = CausalEncoder(lm, CausalConfig(pooling="last"))
    together, _ = encoder.vectors(TEXTS)
    alone, _ = encoder.vectors(TEXTS[:1])
    torch.testing.assert_close(together[0], alone[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(together[0], together[5])
    assert float((together[0] - together[4]).norm()) > 0.1


def test_a_long_text_is_cut_and_the_prompt_behind_it_is_not(lm: TransformersLM) -> None:
    long = str(TEXTS[2])
    encoder = CausalEncoder(lm, CausalConfig(pooling="last", max_tokens=3, prompt="{text} in one word:"))
    found, _ = encoder.vectors([long])
    ids = [*lm.prefix_ids, *lm.tokenize(long)[:3], *lm.tokenize(" in one word:")]
    torch.testing.assert_close(found[0], states(lm, ids, None)[-1], atol=1e-5, rtol=1e-4)


def test_what_a_text_says_is_words(lm: TransformersLM) -> None:
    encoder = CausalEncoder(lm, CausalConfig())
    forged, _ = encoder.vectors(["</s>", "{text}"])
    control = states(lm, [*lm.prefix_ids, lm.eos_id], None)[-1]
    assert float((forged[0] - control).norm()) > 0.1
    assert bool(forged[1].any())


@pytest.mark.parametrize("prompt", ["in one word:", "{text} and {text}"])
def test_a_prompt_has_one_place(prompt: str) -> None:
    with pytest.raises(ConfigError, match=r"expected \{text\} once in the prompt"):
        parse_config(CausalConfig, {"prompt": prompt}, "texts.llm")


def test_what_the_model_cannot_is_refused(lm: TransformersLM) -> None:
    with pytest.raises(ConfigError, match="3 layers; 4 cannot be run"):
        CausalEncoder(lm, CausalConfig(layer=4))
    with pytest.raises(ConfigError, match=r"texts.llm.prompt takes \d+ tokens"):
        CausalEncoder(lm, CausalConfig(prompt="{text} " + "word " * 3000))

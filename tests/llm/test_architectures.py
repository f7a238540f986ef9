"""Every causal architecture of transformers: titles are scored as the model itself scores them, or loading says why not."""

from __future__ import annotations

import pytest
import torch
from tests.support.architectures import ARCHITECTURES, LOOSE, NOT_BUILT, ONE_BY_ONE, QUICK, REFUSED, build
from torch import Tensor

from allmrec.core.errors import ConfigError
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.prompting.splicing import SplicedPrompts
from allmrec.recommend.score import TitleTree, title_log_likelihoods
from allmrec.testing.tiny_lm import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
VOCABULARY = len(TOKENIZER)
# Both longer than the windows of 8 places, and of different lengths.
LENGTHS = (21, 14)
# Titles that begin others, share beginnings, are equal, and stand alone.
TITLES = [(50, 51, 52), (50, 51), (50, 60, 61, 62), (70,), (70,), (80, 51)]
TOLERANCE = 2e-4


def prompt_ids() -> Tensor:
    """Two rows of tokens; what stands in the shorter row's padding is a token too."""
    generator = torch.Generator().manual_seed(4)
    return torch.randint(20, VOCABULARY, (2, max(LENGTHS)), generator=generator)


def spliced(lm: TransformersLM, ids: Tensor) -> SplicedPrompts:
    rows, tokens = ids.shape
    return SplicedPrompts(
        embeddings=lm.embed(ids),
        positions=torch.arange(tokens).expand(rows, -1),
        lengths=torch.tensor(LENGTHS),
        user_at=torch.full((rows,), -1),
        history_at=torch.zeros(rows, tokens, dtype=torch.bool),
        candidates_at=torch.zeros(rows, 0, dtype=torch.long),
    )


def own_scores(model: torch.nn.Module, prompt: Tensor, title: tuple[int, ...], eos: int) -> Tensor:
    """Log-probabilities of a title's tokens and its end by transformers' own forward on tokens."""
    answer = torch.tensor([*title, eos])
    read = torch.cat([prompt, answer[:-1]])[None]
    logits = model(input_ids=read, attention_mask=torch.ones_like(read), use_cache=False).logits[0, len(prompt) - 1 :]
    return logits.float().log_softmax(-1)[torch.arange(len(answer)), answer]


def check_scores(lm: TransformersLM) -> None:
    ids, model = prompt_ids(), lm.frozen.module
    trees = [TitleTree.build(TITLES, lm.eos_id), TitleTree.build(TITLES[::-1], lm.eos_id)]
    prompts = spliced(lm, ids)
    with torch.no_grad():
        found = title_log_likelihoods(lm, prompts, trees)
        for row, titles in enumerate([TITLES, TITLES[::-1]]):
            for place, title in enumerate(titles):
                own = own_scores(model, ids[row, : LENGTHS[row]], title, lm.eos_id)
                torch.testing.assert_close(found[row][place, : len(own)], own, atol=TOLERANCE, rtol=1e-4)
    with torch.enable_grad():
        again = title_log_likelihoods(lm, prompts, trees)
    torch.testing.assert_close(again[0], found[0], atol=TOLERANCE, rtol=1e-4)


def check_decoding(lm: TransformersLM, tolerance: float = TOLERANCE) -> None:
    """Logits of rows that are continued, one of them dropped and the other doubled, against those of the whole text."""
    ids, model = prompt_ids(), lm.frozen.module
    prompts = spliced(lm, ids)
    decoding = lm.decode(prompts.embeddings, prompts.lengths)
    decoding.append(torch.tensor([30, 31]))
    decoding.keep(torch.tensor([1, 1, 0]))
    decoding.append(torch.tensor([32, 33, 34]))
    texts = [(1, [31, 32]), (1, [31, 33]), (0, [30, 34])]
    for place, (row, tokens) in enumerate(texts):
        read = torch.cat([ids[row, : LENGTHS[row]], torch.tensor(tokens)])[None]
        with torch.no_grad():
            own = model(input_ids=read, attention_mask=torch.ones_like(read), use_cache=False).logits[0, -1].float()
        found = decoding.logits[place].float()
        torch.testing.assert_close(found.log_softmax(-1), own.log_softmax(-1), atol=tolerance, rtol=1e-4)


def test_every_architecture_has_its_place_in_one_list() -> None:
    lists = [set(ONE_BY_ONE), set(REFUSED), set(NOT_BUILT)]
    assert sum(map(len, lists)) == len(set.union(*lists))
    assert set.union(*lists) | set(QUICK) <= set(ARCHITECTURES)
    assert set(QUICK).isdisjoint(NOT_BUILT)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in ARCHITECTURES
        if name not in NOT_BUILT
    ],
)
def test_titles_are_scored_as_the_model_itself_scores_them(name: str) -> None:
    model = build(name, VOCABULARY)
    if name in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[name]):
            TransformersLM(model, TOKENIZER, name)
        return
    lm = TransformersLM(model, TOKENIZER, name)
    assert lm.reads_trees == (name not in ONE_BY_ONE)
    check_scores(lm)
    check_decoding(lm, LOOSE.get(name, TOLERANCE))


def test_a_window_that_the_configuration_calls_otherwise_is_found_in_full() -> None:
    """GPT-Neo looks back by places in the row, and nothing says so but a field of its own."""
    wide = TransformersLM(build("gpt_neo", VOCABULARY, window_size=16), TOKENIZER, "gpt-neo")
    assert not wide.reads_trees
    check_scores(wide)
    # Where no prompt is longer than the window, nothing is cut.
    longest = build("gpt_neo", VOCABULARY, window_size=256, max_position_embeddings=128)
    assert TransformersLM(longest, TOKENIZER, "gpt-neo").reads_trees


@pytest.mark.parametrize("name", ["bloom", "mamba", "gpt_neo"])
def test_chosen_places_are_refused_of_a_model_that_reads_in_order(name: str) -> None:
    lm = TransformersLM(build(name, VOCABULARY), TOKENIZER, name)
    embeddings = lm.embed(prompt_ids())
    positions = torch.arange(embeddings.shape[1]).expand(2, -1)
    visible = torch.ones(2, *positions.shape[1:], positions.shape[1], dtype=torch.bool).tril()
    with pytest.raises(ConfigError, match="form `paper`"):
        lm.hidden(embeddings, visible, positions)
    with pytest.raises(ConfigError, match="form `paper`"):
        lm.keep(embeddings, visible, positions)
    with pytest.raises(ConfigError, match="form `paper`"):
        lm.decode(embeddings, torch.tensor(LENGTHS), positions, visible)


def test_windows_are_as_long_as_before_when_the_probe_is_done() -> None:
    model = build("gemma2", VOCABULARY)
    TransformersLM(model, TOKENIZER, "gemma2")
    assert model.config.sliding_window == 8


@pytest.mark.parametrize("name", ["llama", "gemma", "gemma3_text", "bart"])
def test_the_scale_of_embeddings_is_that_of_what_is_read(name: str) -> None:
    """Some models multiply their embeddings where they look them up; slots' vectors stand beside those."""
    lm = TransformersLM(build(name, VOCABULARY), TOKENIZER, name)
    table = lm.embed(torch.arange(VOCABULARY)).float()
    assert lm.embedding_scale == pytest.approx(float(table.square().mean().sqrt()), rel=1e-4)
    mean, covariance = lm.embedding_moments()
    torch.testing.assert_close(mean, table.mean(dim=0))
    torch.testing.assert_close(covariance, torch.cov(table.T))


def test_how_many_layers_can_be_run_is_asked_beforehand() -> None:
    lm = TransformersLM(build("llama", VOCABULARY), TOKENIZER, "llama")
    lm.check_layers(2)
    with pytest.raises(ConfigError, match="4 layers"):
        lm.check_layers(5)

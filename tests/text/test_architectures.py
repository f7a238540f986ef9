"""Every encoder family of transformers, tiny and with random weights: its last layers behind the others are the whole.

The families are those that the installed transformers trains by masked words or lists as text encoders, and decoders that
embedding models are made of. A new release may bring more: they must be right, or be named here with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

from allmrec.core.errors import ConfigError
from allmrec.core.pretrained import leave_out
from allmrec.testing.tiny_lm import tiny_tokenizer
from allmrec.text import Parts, TextBank, TransformerEncoder

LAYERS = 3
TEXTS = [
    "Title: Heat (1995), Description: a thief",
    "a",
    None,
    "Toy Story",
    "the film of the year, of which 7 were made",
]
PRESENT = [0, 1, 3, 4]

TOKENIZER = tiny_tokenizer()
_SIZES = {
    "vocab_size": len(TOKENIZER), "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 32, "num_hidden_layers": LAYERS, "max_position_embeddings": 70, "head_dim": 8, "embedding_size": 8,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3, "attention_window": 8,
}  # fmt: skip
# What a family needs beside that, to be small or to be built at all.
_OWN: dict[str, dict[str, Any]] = {
    "luke": {"entity_vocab_size": 4, "entity_emb_size": 8},
    "roc_bert": {"pronunciation_vocab_size": 8, "shape_vocab_size": 8},
    "squeezebert": {"embedding_size": 16, "q_groups": 1, "k_groups": 1, "v_groups": 1, "post_attention_groups": 1,
                    "intermediate_groups": 1, "output_groups": 1},
    "reformer": {"axial_pos_embds": False, "is_decoder": False},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "esm": {"position_embedding_type": "absolute", "mask_token_id": 3},
    "mobilebert": {"embedding_size": 16, "true_hidden_size": 16, "intra_bottleneck_size": 16},
    "deberta-v2 with a convolution": {"relative_attention": True, "conv_kernel_size": 3, "conv_act": "gelu"},
    "deberta-v2": {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["c2p", "p2c"]},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
}  # fmt: skip

# Their vectors are right as a whole, and they are refused where only the last layers are to be trained.
WHOLE_ONLY = {
    "albert": "one layer is run many times",
    "convbert": "its convolutions read padding",
    "fnet": "its Fourier transform reads padding",
    "funnel": "its layers stand in blocks of shrinking length",
    "flaubert": "the parts of its layers stand in lists of their own",
    "nystromformer": "its landmarks read padding",
    "reformer": "its layers are reversible and hand on two streams",
    "squeezebert": "its layers are called past torch's hooks",
    "xlm": "the parts of its layers stand in lists of their own",
    "yoso": "its hashing reads padding",
}
# No encoder of texts alone, or none that can be built tiny.
NOT_BUILT = {
    "emu3": "text and images", "llama4": "text and images", "mllama": "text and images", "modernvbert": "text and images",
    "ultravbert": "text and images", "neomme": "text and images",
    "bart": "a decoder is behind it", "mbart": "a decoder is behind it", "mvp": "a decoder is behind it",
    "mt5": "a decoder is behind it", "t5": "a decoder is behind it", "t5gemma": "a decoder is behind it",
    "umt5": "a decoder is behind it",
    "perceiver": "gives no hidden state for each token", "layoutlm": "reads boxes on a page", "tapas": "reads tables",
    "mra": "needs a kernel that is compiled for a GPU",
}  # fmt: skip
DECODERS = ["gemma3_text", "gpt2", "llama", "mistral", "opt", "qwen3"]


def _families() -> Iterator[str]:
    found = {kind.model_type for mapping in (MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING)
             for kind in mapping if kind in MODEL_MAPPING}  # fmt: skip
    yield from sorted((found | set(DECODERS)) - set(NOT_BUILT))
    yield "deberta-v2 with a convolution"


def _model(family: str) -> Any:
    kind = CONFIG_MAPPING[family.split()[0]]
    fields = {*kind().to_dict(), *getattr(kind, "attribute_map", {}), "pad_token_id"}
    values = {name: value for name, value in {**_SIZES, **_OWN.get(family, {})}.items() if name in fields}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = MODEL_MAPPING[kind]
        model = (made[0] if isinstance(made, tuple) else made)(kind(**values)).eval()
        # Norms and biases that are all one or all nothing would hide that they are left out.
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.data += 0.2 * torch.randn_like(parameter)
    leave_out(model, ("pooler",))
    return model


@pytest.mark.parametrize("family", list(_families()))
def test_the_last_layers_behind_the_others_are_the_whole_or_are_refused(family: str) -> None:
    parts = Parts(family, _model(family), TOKENIZER, "mean", 64)
    wanted = TextBank(TransformerEncoder(parts, "frozen").eval(), TEXTS).all_vectors()
    assert wanted[PRESENT].isfinite().all()
    assert (wanted[0] - wanted[3]).abs().max() > 1e-3
    for tune in range(1, LAYERS + 1):
        if family in WHOLE_ONLY:
            with pytest.raises(ConfigError, match="in full or not at all"):
                TransformerEncoder(parts, tune)
            continue
        encoder = TransformerEncoder(parts, tune).eval()
        bank = TextBank(encoder, TEXTS)
        scale = wanted.abs().max()
        torch.testing.assert_close(bank.all_vectors() / scale, wanted / scale, atol=1e-4, rtol=1e-4)
        # From what is kept, in another batch; and with gradients to the last layers.
        found = bank.vectors(np.array([3, 0]))
        torch.testing.assert_close(found.detach() / scale, wanted[[3, 0]] / scale, atol=1e-4, rtol=1e-4)
        assert len(encoder.tuned) == tune
        (found**2).sum().backward()
        for layer in encoder.tuned:
            assert any(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())
        encoder.zero_grad()
    if family not in WHOLE_ONLY:
        with pytest.raises(ConfigError, match=f"{LAYERS} layers"):
            TransformerEncoder(parts, LAYERS + 1)


def test_whatever_has_a_decoder_behind_it_is_refused() -> None:
    kind = CONFIG_MAPPING["t5"]
    model = MODEL_MAPPING[kind](kind(vocab_size=len(TOKENIZER), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    with pytest.raises(ConfigError, match="cannot be run on texts alone"):
        TransformerEncoder(Parts("t5", model.eval(), TOKENIZER, "mean", 64), "frozen")

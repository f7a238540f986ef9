"""Tiny random models of every causal architecture that the installed transformers knows."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from allmrec.core.seeding import seeded_torch

__all__ = ["ARCHITECTURES", "build"]

# Names of configurations. Some stand twice, for the whole of a model with pictures and for its text part.
ARCHITECTURES = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))

# What a configuration is given where it has a field of this name.
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "embedding_size": 32,
    "word_embed_proj_dim": 32,
    "intermediate_size": 64,
    "ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_ffn_dim": 64,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_hidden_layers": 4,
    "decoder_layers": 3,
    "encoder_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "sliding_window": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "initializer_range": 0.2,
    "init_std": 0.2,
    "is_decoder": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": True,
}

# Where these sizes do not fit together, or more is needed to have all kinds of a family's layers.
_OWN: dict[str, dict[str, Any]] = {}


def build(name: str, vocabulary: int, seed: int = 0, **changed: Any) -> PreTrainedModel:
    """A model of a few layers.

    Args:
        name: of the configuration.
        vocabulary: tokens.
        seed: of its weights.
        changed: further fields of its configuration.
    """
    import transformers

    kind = CONFIG_MAPPING[name]
    config = kind()
    text = config.get_text_config()
    sizes = {**_SIZES, "vocab_size": vocabulary, **_OWN.get(name, {}), **changed}
    known = set(text.to_dict()) | set(getattr(text, "attribute_map", {}))
    given = {field: value for field, value in sizes.items() if field in known or field in _OWN.get(name, {})}
    for field in ("layer_types", "layers_block_type", "mlp_layer_types"):
        kinds = list(dict.fromkeys(getattr(text, field, None) or ()))
        if kinds and field in text.to_dict():
            count = sizes["num_hidden_layers"]
            given.setdefault(field, (kinds * count)[:count])
    made = type(text)(**given)
    if text is not config:
        part = next(field for field in kind.sub_configs if getattr(config, field, None) is text)
        made = kind(**{part: given})
    model_class = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name])
    with seeded_torch(seed, "tiny architecture"):
        model: PreTrainedModel = model_class(made)
    return model.eval()

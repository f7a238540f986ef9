"""Tiny random models of every causal architecture that the installed transformers knows."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from allmrec.core.seeding import seeded_torch

__all__ = ["ARCHITECTURES", "LOOSE", "NOT_BUILT", "ONE_BY_ONE", "QUICK", "REFUSED", "build"]

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
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 64,
    "linear_head_dim": 8,
    "linear_num_heads": 4,
    "n_shared_experts": 1,
    "num_kv_shared_layers": 0,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 8,
    "sliding_window_size": 8,
    "expand_ratio": 2,
    "router_hidden_size": 16,
    "rotary_dim": 4,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_ssm": 64,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_ngroups": 1,
    "mamba_chunk_size": 8,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "attention_chunk_size": 8,
    "hidden_size_per_layer_input": 8,
    "initializer_range": 0.2,
    "init_std": 0.2,
    "is_decoder": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": True,
}

# Where these sizes do not fit together, or more is needed to have all kinds of a family's layers.
_OWN: dict[str, dict[str, Any]] = {
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]], "window_size": 8},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8, "chunk_size": 8},
    "nemotron_h": {"n_groups": 1, "chunk_size": 8},
    "xlnet": {"n_head": 4, "d_head": 8, "n_layer": 2, "d_inner": 64},
    "zaya": {"num_experts_per_tok": 1},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "qwen2": {"use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "qwen3": {"use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "qwen2_moe": {"use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "laguna": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "mellum": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "smollm3": {"use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "mpt": {"n_heads": 4, "n_layers": 3, "max_seq_len": 128},
    "granite": {"logits_scaling": 8.0},
    "granitemoe": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25},
    "recurrent_gemma": {"logits_soft_cap": 2.0, "lru_width": 32, "attention_window_size": 8, "num_hidden_layers": 3},
    "falcon_h1": {"lm_head_multiplier": 0.25},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 16], "attn_layers": ["local", "lsh"]},
    "rwkv": {"context_length": 128, "attention_hidden_size": 32},
    "longcat_flash": {
        "num_layers": 2,
        "ffn_hidden_size": 64,
        "expert_ffn_hidden_size": 16,
        "moe_topk": 2,
        "zero_expert_num": 2,
    },
    "dbrx": {
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 128,
        "attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "gemma3n_text": {"activation_sparsity_pattern": [0.0] * 4, "intermediate_size": [64] * 4},
    "cohere_compass_text": {
        "rope_parameters": {
            k: {"rope_type": "default", "rope_theta": 1e4} for k in ("full_attention", "sliding_attention")
        },
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "dots1": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "bamba": {"attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
    "roc_bert": {"enable_pronunciation": False, "enable_shape": False},
    "xmod": {"default_language": "en_XX"},
    "xlm": {"causal": True, "emb_dim": 32, "n_layers": 2, "n_heads": 4},
}

# What reads a text in its order alone.
ONE_BY_ONE = (
    "bailing_hybrid",
    "bamba",
    "bart",
    "bigbird_pegasus",
    "blenderbot",
    "blenderbot-small",
    "bloom",
    "camembert",
    "data2vec-text",
    "falcon_h1",
    "falcon_mamba",
    "gpt_neo",
    "granitemoehybrid",
    "inkling2_text",
    "inkling_text",
    "jamba",
    "kimi_linear",
    "lfm2",
    "lfm2_moe",
    "lfm3",
    "mamba",
    "mamba2",
    "marian",
    "mbart",
    "minimax",
    "moshi",
    "mpt",
    "mvp",
    "nemotron_h",
    "olmo_hybrid",
    "openai-gpt",
    "pegasus",
    "plbart",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_next",
    "recurrent_gemma",
    "roberta",
    "roberta-prelayernorm",
    "roformer",
    "rwkv",
    "trocr",
    "xlm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xlstm",
    "xmod",
    "zamba",
    "zamba2",
    "zaya",
)
# What cannot be read as the pipeline reads, with the message's words.
REFUSED = {
    "cpmant": "no causal language model",
    "deepseek_v4": "other logits on its tokens' embeddings",  # routes tokens by their numbers
    "gemma4": "embeddings of its tokens only",  # looks up the numbers of the tokens that it is given embeddings of
    "gemma4_text": "embeddings of its tokens only",
    "prophetnet": "no causal language model",
    "xlnet": "no causal language model",
}
# What cannot be built from sizes alone, with the reason.
NOT_BUILT = {
    "blt": "five models in one, with gigabytes of default sizes",
    "dots3_note": "sizes that belong to numbered layers; its text part stands under dots3_note_text",
    "emu3": "takes the configuration of its text part, which has no name of its own",
    "gemma3n": "its picture part needs the package timm",
    "gemma4_assistant": "reads the cache of another model",
    "gemma4_unified_assistant": "reads the cache of another model",
    "llama4": "takes the configuration of its text part; see llama4_text",
    "musicgen": "codes of sounds, with an encoder of another text",
    "musicgen_melody": "codes of sounds, with an encoder of another text",
    "qwen3_5": "takes the configuration of its text part; see qwen3_5_text",
    "qwen3_5_moe": "takes the configuration of its text part; see qwen3_5_moe_text",
    "qwen4_exp": "takes the configuration of its text part; see qwen4_exp_text",
    "qwen4_exp_text": "sizes of its index that have no default",
    "reformer": "hashes at random",
}
# One of each kind of mechanism, for the fast suite.
QUICK = (
    "afmoe",
    "bart",
    "bert",
    "bloom",
    "cohere",
    "cohere2",
    "ctrl",
    "cpmant",
    "deepseek_v32",
    "falcon",
    "falcon_h1",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neo",
    "gpt_oss",
    "gptj",
    "granite",
    "jamba",
    "lfm2",
    "llama",
    "llama4_text",
    "mamba",
    "mamba2",
    "minimax",
    "mistral",
    "modernbert-decoder",
    "mpt",
    "olmo3",
    "opt",
    "phi3",
    "qwen2",
    "qwen3_next",
    "recurrent_gemma",
    "roberta",
    "rwkv",
    "whisper",
    "xlnet",
    "zamba",
)
# How far its own reading is from itself where the two differ in length only: computed in pieces, in low precision.
LOOSE = {"xlstm": 1e-2}


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
    latent = {"num_key_value_heads": 4} if "kv_lora_rank" in text.to_dict() else {}
    sizes = {
        **_SIZES,
        **latent,
        "vocab_size": vocabulary,
        "vocab_size_per_layer_input": vocabulary,
        **_OWN.get(name, {}),
        **changed,
    }
    known = set(text.to_dict()) | set(getattr(text, "attribute_map", {}))
    given = {field: value for field, value in sizes.items() if field in known or field in _OWN.get(name, {})}
    for field in ("layer_types", "layers_block_type", "mlp_layer_types"):
        kinds = list(dict.fromkeys(getattr(text, field, None) or ()))
        if kinds and field in text.to_dict():
            count = sizes["num_hidden_layers"]
            given.setdefault(field, (kinds * count)[:count])
    if text is config:
        made = kind(**given)
    else:
        parts = {}
        for part in kind.sub_configs:
            own = getattr(config, part, None)
            fields = set() if own is None else set(own.to_dict())
            parts[part] = given if own is text else {field: _SIZES[field] for field in _SIZES if field in fields}
        made = kind(**parts)
        # What stands for a picture or a sound is a token of the vocabulary as well.
        for field, value in made.to_dict().items():
            if field.endswith("_token_id") and isinstance(value, int) and value >= vocabulary:
                setattr(made, field, 3)
    model_class = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name])
    with seeded_torch(seed, "tiny architecture"):
        model: PreTrainedModel = model_class(made)
    return model.eval()

"""Tiny sentence encoders with random weights, one per family, saved as sentence-transformers saves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "toy", "story", "heat", "casino", "the", "of", "movie"]

_SIZES = {"vocab_size": len(WORDS), "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
_FAMILIES = {
    "bert": lambda: BertModel(BertConfig(**_SIZES, num_hidden_layers=3, max_position_embeddings=20)),
    "mpnet": lambda: MPNetModel(MPNetConfig(**_SIZES, num_hidden_layers=3, max_position_embeddings=22, pad_token_id=0)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(
            vocab_size=len(WORDS), dim=16, n_heads=2, hidden_dim=24, n_layers=3, max_position_embeddings=20
        )
    ),
}

MakeEncoder = Callable[..., Path]


@pytest.fixture
def make_encoder(tmp_path: Path) -> MakeEncoder:
    """Write a tiny encoder's folder: family, pooling config, and the modules behind the transformer."""

    def make(
        family: str = "bert",
        pooling: dict[str, object] | None = None,
        modules: tuple[str, ...] | None = ("Transformer", "Pooling", "Normalize"),
        settings: dict[str, object] | None = None,
    ) -> Path:
        folder = tmp_path / f"{family} {len(list(tmp_path.iterdir()))}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _FAMILIES[family]().save_pretrained(folder)
        backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        ).save_pretrained(folder)
        if modules is not None:
            rows = [
                {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.{kind}"}
                for n, kind in enumerate(modules)
            ]
            (folder / "modules.json").write_text(json.dumps(rows))
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling" / "config.json").write_text(
                json.dumps(pooling or {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
            )
        if settings is not None:
            (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
        return folder

    return make

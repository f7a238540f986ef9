"""A recipe in which every stage takes moments, and the models of random weights that it names."""

from __future__ import annotations

from pathlib import Path

from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.tiny_lm import save_tiny_language_model

__all__ = ["save_tiny_recipe"]

_RECIPE = """
llm.name = "{folder}/language model"
# The same figures on every processor.
llm.precision = "float32"
held_out_targets = 1

[encoder]
name = "{folder}/encoder"
tune = 1

[pretrain]
model = {{ dim = 8, blocks = 1, heads = 1, max_history = 8 }}
{pretrain}

[align]
joint_dim = 8
{align}

[tune]
select_weight = 1.0
positions = "held_out"
validation_users = 4
prompt.budget = {{ max_history = 3, title_tokens = 6 }}
prompt.projection = {{ hidden = 8 }}
prompt.pointer = {{ dim = 8, layers = 1, cf_prior = true }}
{tune}

[evaluation]
users = 6
title_users = 3
"""


def save_tiny_recipe(folder: Path, *, pretrain: str, align: str, tune: str) -> Path:
    """Write a language model, an encoder and the recipe into a folder; the recipe's path.

    Args:
        folder: where to.
        pretrain, align, tune: further lines of these sections, such as how long to train.
    """
    save_tiny_language_model(folder / "language model", "opt", layers=2)
    save_tiny_encoder(folder / "encoder")
    recipe = folder / "tiny.toml"
    recipe.write_text(_RECIPE.format(folder=folder, pretrain=pretrain, align=align, tune=tune))
    return recipe

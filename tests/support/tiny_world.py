"""A whole world for the command line: raw files, a language model, a sentence encoder and a recipe, all tiny."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.tiny_lm import save_tiny_language_model
from allmrec.testing.worlds import taste_world

_RECIPE = """
llm = "{folder}/language model"
held_out_targets = 1

[encoder]
name = "{folder}/encoder"
tune = 1

[pretrain]
model = {{ width = 8, blocks = 1, heads = 1, max_length = 8 }}
training = {{ epochs = 2, batch_size = 16 }}

[align]
joint_width = 8
training = {{ epochs = 1, batch_size = 16 }}

[tune]
select_weight = 1.0
positions = "held_out"
samples_per_epoch = 8
validation_users = 4
prompt.budget = {{ history = 3, title_tokens = 6 }}
prompt.projection = {{ hidden = 8 }}
prompt.pointer = {{ width = 8, layers = 1, cf_prior = true }}
training = {{ epochs = 1, batch_size = 4, learning_rate = 1e-2 }}

[evaluation]
users = 6
title_users = 3
"""


@dataclass(frozen=True)
class TinyWorld:
    """Where things are.

    Attributes:
        folder: holds all of it.
        interactions, items: raw files; user `u3` has taken six items of one taste.
        recipe: a recipe that names the models beside it.
    """

    folder: Path
    interactions: Path
    items: Path
    recipe: Path


def make_tiny_world(folder: Path) -> TinyWorld:
    """Write it; two dozen users, three tastes, a dozen items each."""
    data = taste_world(users=24, tastes=3, items_per_taste=12, length=6)
    world = TinyWorld(folder, folder / "interactions.csv", folder / "items.csv", folder / "tiny.toml")
    with world.interactions.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp"])
        for user in range(data.n_users):
            for time, item in enumerate(data.sequence(user)):
                rows.writerow([data.users.id(user), data.items.id(int(item)), time])
    with world.items.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title", "description"])
        for item in data.items:
            # One has a title alone and one nothing, as real catalogues have.
            number = item.removeprefix("i")
            rows.writerow([item, "" if item == "i7" else f"Item {number}", "" if item in ("i7", "i8") else "A thing."])
    save_tiny_language_model(folder / "language model", "opt", layers=2)
    save_tiny_encoder(folder / "encoder")
    world.recipe.write_text(_RECIPE.format(folder=folder))
    return world

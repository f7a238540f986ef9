"""Train a sequential model of RecBole's and write its vectors as allmrec imports them. Run in RecBole's environment.

    python examples/recbole/train.py recbole/shop -o recbole/trained --model SASRec --set hidden_size=50

The folder is what `export.py` wrote. RecBole leaves each user's last item for the test and the one before it for its
validation, and trains on everything else, so nothing is held out for allmrec's second stage. The folder `-o` then holds
`items.npy`, `item_ids.txt` and, unless `--users none`, `users.npy` and `user_ids.txt`.

Any model whose score is the dot product of `forward(item_seq, item_seq_len)` with `item_embedding.weight` will do, such as
SASRec and GRU4Rec. The products are compared with the model's own scores, and where they differ nothing is written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

LAST = {"before-test": 1, "all": 0}


def read_sequences(folder: Path) -> list[np.ndarray]:
    """Each user's item numbers, oldest first, from the `.inter` file."""
    rows = np.loadtxt(folder / f"{folder.name}.inter", dtype=np.int64, delimiter="\t", skiprows=1, ndmin=2)
    rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]
    users = len((folder / "user_ids.txt").read_text(encoding="utf-8").splitlines())
    ends = np.searchsorted(rows[:, 0], np.arange(1, users + 1))
    return np.split(rows[:, 1], ends[:-1])


def configuration(folder: Path, output: Path, model: str, changes: Mapping[str, Any]) -> Any:
    """RecBole's settings: its own defaults, leave-one-out by time, and the changes."""
    from recbole.config import Config

    settings: dict[str, Any] = {
        "data_path": str(folder.resolve().parent),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "valid_metric": "NDCG@10",
        "checkpoint_dir": str(output / "checkpoints"),
        "show_progress": False,
        **changes,
    }
    if settings.get("loss_type", "CE") == "CE":
        settings["train_neg_sample_args"] = None
    # RecBole reads the command line of whatever program it is part of.
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        return Config(model=model, dataset=folder.name, config_dict=settings)
    finally:
        sys.argv = arguments


def loaded(config: Any) -> tuple[Any, Any, Any, Any]:
    """RecBole's dataset, an untrained model, and the loaders of training and validation."""
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    training, validation, _ = data_preparation(config, dataset)
    model = get_model(config["model"])(config, training.dataset).to(config["device"])
    return dataset, model, training, validation


class Vectors:
    """Item and user vectors of a trained model, in allmrec's numbers.

    Args:
        model: a sequential recommender of RecBole's.
        dataset: RecBole's, which says what it calls each item.
        n_items: items are 1 to this; row 0 of the item vectors pads.
    """

    def __init__(self, model: Any, dataset: Any, n_items: int) -> None:
        self._model = model
        self._length = int(model.max_seq_length)
        names = [str(number) for number in range(1, n_items + 1)]
        self._rows = np.concatenate([[0], dataset.token2id(dataset.iid_field, names)]).astype(np.int64)

    def items(self) -> np.ndarray:
        """One row per item number."""
        with torch.no_grad():
            return np.asarray(self._model.item_embedding.weight.cpu().float().numpy()[self._rows])

    def users(self, sequences: Sequence[np.ndarray], batch_size: int = 1024) -> np.ndarray:
        """The vector of each history; histories must not be empty."""
        self._model.eval()
        parts = []
        with torch.no_grad():
            for start in range(0, len(sequences), batch_size):
                items, lengths = self._batch(sequences[start : start + batch_size])
                parts.append(self._model.forward(items, lengths).cpu().float().numpy())
        return np.concatenate(parts)

    def check(self, sequences: Sequence[np.ndarray]) -> None:
        """Compare the dot products with the model's own scores.

        Raises:
            SystemExit: they differ, so vectors cannot say what the model says.
        """
        from recbole.data.interaction import Interaction

        self._model.eval()
        try:
            users, items = self.users(sequences), self.items()
        except (AttributeError, TypeError) as error:
            raise SystemExit(f"This model has other parts than a sequential model's: {error}.") from error
        rows, lengths = self._batch(sequences)
        with torch.no_grad():
            question = Interaction({self._model.ITEM_SEQ: rows, self._model.ITEM_SEQ_LEN: lengths})
            wanted = self._model.full_sort_predict(question).view(len(sequences), -1).cpu().float().numpy()
        found, wanted = users @ items[1:].T, wanted[:, self._rows[1:]]
        if not np.allclose(found, wanted, rtol=1e-3, atol=1e-4):
            raise SystemExit("This model's score is no dot product of two vectors, so allmrec cannot import it.")

    def _batch(self, sequences: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """RecBole's layout: the oldest item first, padding behind."""
        device = next(self._model.parameters()).device
        items = np.zeros((len(sequences), self._length), dtype=np.int64)
        lengths = np.array([min(len(sequence), self._length) for sequence in sequences])
        for row, sequence in enumerate(sequences):
            items[row, : lengths[row]] = self._rows[sequence[-self._length :]]
        return torch.from_numpy(items).to(device), torch.from_numpy(lengths).to(device)


def write_vectors(vectors: Vectors, folder: Path, output: Path, users: str) -> None:
    """`items.npy` and, if wanted, `users.npy`, with their ids."""
    np.save(output / "items.npy", vectors.items()[1:])
    shutil.copyfile(folder / "item_ids.txt", output / "item_ids.txt")
    if users == "none":
        return
    sequences = read_sequences(folder)
    names = (folder / "user_ids.txt").read_text(encoding="utf-8").splitlines()
    # Users too short for a test item keep all of their history, as with allmrec.
    until = [len(sequence) - (LAST[users] if len(sequence) > 2 else 0) for sequence in sequences]
    chosen = [user for user, end in enumerate(until) if end]
    np.save(output / "users.npy", vectors.users([sequences[user][: until[user]] for user in chosen]))
    (output / "user_ids.txt").write_text("".join(f"{names[user]}\n" for user in chosen), encoding="utf-8")


def train(folder: Path, output: Path, model: str, changes: Mapping[str, Any], users: str) -> tuple[float, int]:
    """Train until the validation stops improving; write the best weights' vectors.

    Returns:
        RecBole's own NDCG@10 of the validation items, over the whole catalogue, and how many epochs it trained.
    """
    from recbole.utils import get_trainer, init_logger

    output.mkdir(parents=True, exist_ok=True)
    folder, output = folder.resolve(), output.resolve()
    # RecBole logs into the folder in which it runs.
    os.chdir(output)
    config = configuration(folder, output, model, changes)
    init_logger(config)
    dataset, network, training, validation = loaded(config)
    vectors = Vectors(network, dataset, len((folder / "item_ids.txt").read_text(encoding="utf-8").splitlines()))
    vectors.check([sequence for sequence in read_sequences(folder) if len(sequence)][:64])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    best, _ = trainer.fit(training, validation, saved=True, show_progress=False)
    # The file was written a moment ago, and it holds RecBole's settings as Python objects.
    network.load_state_dict(torch.load(trainer.saved_model_file, weights_only=False)["state_dict"])
    write_vectors(vectors, folder, output, users)
    return float(best), len(trainer.train_loss_dict)


def changes(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings as they stand on the command line, in YAML, as in RecBole's own files."""
    import yaml

    return {name: yaml.safe_load(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that export.py wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the vectors")
    parser.add_argument("--model", default="SASRec", help="a sequential model of RecBole's")
    parser.add_argument("--users", choices=("none", *LAST), default="before-test", help="histories of user vectors")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of RecBole's")
    arguments = parser.parse_args()
    best, epochs = train(arguments.data, arguments.output, arguments.model, changes(arguments.set), arguments.users)
    print(f"{arguments.model}: {epochs} epochs, validation NDCG@10 {best:.4f} (whole catalogue)")


if __name__ == "__main__":
    main()

"""Bring your own CF model: vectors that another system made, in the place of a trained backbone; trains nothing."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from allmrec.cf.backbone import SequenceBackbone, check_numbers, row_count, trimmed, with_parameters
from allmrec.cf.fold_in import least_squares, mean_of_items
from allmrec.cf.vector_files import read_vectors
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.config import Config
from allmrec.core.errors import AllmrecWarning, ArtifactError, ConfigError, DataError
from allmrec.core.hashing import content_hash, file_hash
from allmrec.data.batching import SequenceBatch
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split

__all__ = ["Imported", "ImportedConfig", "import_vectors"]

_FOLDED_AT_ONCE = 4096


class ImportedConfig(Config):
    """Which vectors, and what stands in for those that are not there."""

    vectors: str = Field(description="The file that `import_vectors` (`allmrec import-backbone`) wrote.")
    sha256: str | None = Field(None, description="Its SHA-256; none: that of the file as it is when this is read.")
    rule: Literal["least_squares", "mean"] = Field(
        "least_squares",
        description="What a user without an imported vector has: the least-squares vector against the items of the "
        "history, right where scores are dot products, or the mean of the items' vectors.",
    )
    ridge: float = Field(1.0, gt=0, description="Ridge of the least squares.")
    unseen: float = Field(0.1, ge=0, description="Weight of items not interacted with in the least squares.")
    always_fold_in: bool = Field(False, description="Use the rule for users that have a vector too.")
    max_history: int = Field(50, ge=1, description="Most recent items that the rule looks at.")

    @field_validator("vectors")
    @classmethod
    def _whole_path(cls, value: str) -> str:
        # A run may be opened from another folder.
        return str(Path(value).resolve()) if Path(value).is_file() else value

    @model_validator(mode="before")
    @classmethod
    def _hash_file(cls, values: Any) -> Any:
        # A run's stages go by their settings: with the hash among them, other vectors in the same place are noticed.
        if isinstance(values, Mapping) and values.get("sha256") is None and isinstance(values.get("vectors"), str):
            path = Path(values["vectors"])
            if not path.is_file():
                raise ValueError(f"vectors: there is no file {path}; write one with `allmrec import-backbone`")
            return {**values, "sha256": file_hash(path)}
        return values


class Imported(SequenceBackbone):
    """Item vectors and, for some users, user vectors, as they came. Nothing of it is trained.

    A user with an imported vector has it whatever the history holds. Anybody else is folded in from the last
    `max_history` items of the history by `ImportedConfig.rule` (`cf.fold_in`), in which order does not count; an empty
    history has the vector 0.

    Args:
        items: `E`, row 0 pads.
        users: a row for each user number; rows of users without a vector hold 0.
        has_user: which users have one.
        config: the rule.
    """

    items: Tensor
    users: Tensor
    has_user: Tensor

    def __init__(
        self,
        items: Float[Tensor, "rows d"],
        users: Float[Tensor, "n_users d"],
        has_user: Bool[Tensor, " n_users"],
        config: ImportedConfig,
    ) -> None:
        super().__init__(len(items) - 1, items.shape[1], config.max_history)
        self.config = config
        self.register_buffer("items", items.float())
        self.register_buffer("users", users.float())
        self.register_buffer("has_user", has_user)

    @classmethod
    def empty(cls, n_items: int, n_users: int, config: ImportedConfig) -> Imported:
        """One in which everything is 0, of the dim that the file has."""
        dim = _read(config.vectors)["items"].shape[1]
        none = torch.zeros(n_users, dtype=torch.bool)
        return cls(torch.zeros(n_items + 1, dim), torch.zeros(n_users, dim), none, config)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray | Tensor], config: ImportedConfig) -> Imported:
        """Build one from what a run stored.

        Raises:
            ArtifactError: an array is missing, superfluous or of another shape.
        """
        n_items, n_users = (row_count(arrays, word, "set of imported vectors") for word in ("items", "users"))
        dim = int(arrays["items"].shape[-1])

        def made() -> Imported:
            none = torch.zeros(n_users, dtype=torch.bool)
            return cls(torch.zeros(n_items, dim), torch.zeros(n_users, dim), none, config)

        return with_parameters(made, arrays, "set of imported vectors")

    @classmethod
    def of_config(cls, split: Split, config: ImportedConfig) -> Imported:
        """Read the file that the config names and check that it belongs to the split's data.

        Vectors that were trained elsewhere have seen whatever they have seen: where the split holds targets out, that is
        said as an `AllmrecWarning`.

        Raises:
            ArtifactError: the file is missing or damaged.
            ConfigError: it has changed since the config was made, or was made for other data.
        """
        tensors = _read(config.vectors)
        found = file_hash(config.vectors)
        if found != config.sha256:
            raise ConfigError(
                f"{config.vectors} has changed: its SHA-256 is {found[:12]} and the run names {str(config.sha256)[:12]}. "
                "Put the old file back, or set pretrain.model.sha256 to none to take the new one."
            )
        for word, vocabulary in (("items", split.dataset.items), ("users", split.dataset.users)):
            if _fingerprint(vocabulary.ids) != bytes(tensors.pop(f"{word}_hash").numpy()).hex():
                raise ConfigError(
                    f"{config.vectors} was made for other {word} than the {len(vocabulary)} of this data set. Import "
                    "the vectors again with this data set: allmrec import-backbone"
                )
        if (split.prefix_end > split.train_end).any():
            warnings.warn(
                f"held_out_targets withholds items from stage 2's CF model, but {config.vectors} was trained elsewhere and "
                "may have seen them; stage 2 would then trust it too much. Import vectors that were trained without each "
                "user's last items, or set held_out_targets to 0.",
                AllmrecWarning,
                stacklevel=2,
            )
        return cls.from_arrays(tensors, config)

    def item_vectors(self) -> Float[Tensor, "rows d"]:
        """`E`, one row per item number (`items + 1` rows; row 0 pads)."""
        return self.items

    def position_vectors(
        self, histories: Int[Tensor, "batch length"], users: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length d"]:
        """A known user's vector at every position; of anybody else what the items up to there tell."""
        length = histories.shape[1]
        upto = torch.ones(length, length, dtype=torch.bool, device=histories.device).tril()
        prefixes = (histories.unsqueeze(1) * upto).reshape(-1, length)
        return self._of(prefixes, users.repeat_interleave(length)).view(-1, length, self.dim)

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "batch d"]:
        """`x_u`: the imported vector, or what the whole history tells.

        Raises:
            UnknownIdError: a number that is no item or no user of the model; -1 is somebody unknown.
        """
        check_numbers(batch, self.n_items, len(self.users))
        histories, users = trimmed(batch.histories, self.max_history), batch.users
        device = self.items.device
        return self._of(torch.as_tensor(histories, device=device), torch.as_tensor(users, device=device))

    def _of(self, histories: Int[Tensor, "rows length"], users: Int[Tensor, " rows"]) -> Float[Tensor, "rows d"]:
        vectors = self.users[users.clamp(min=0)]
        known = (users >= 0) & self.has_user[users.clamp(min=0)] & (not self.config.always_fold_in)
        rows = (~known).nonzero().squeeze(1)
        for part in torch.split(rows, _FOLDED_AT_ONCE):
            vectors[part] = self._folded_in(histories[part])
        return vectors

    def _folded_in(self, histories: Int[Tensor, "rows length"]) -> Float[Tensor, "rows d"]:
        if self.config.rule == "mean":
            return mean_of_items(self.items, histories)
        return least_squares(self.items, histories, self.config.ridge, self.config.unseen)


def import_vectors(
    dataset: InteractionDataset,
    output: Path,
    items: Path,
    users: Path | None = None,
    item_ids: Path | None = None,
    user_ids: Path | None = None,
    unknown: Literal["fail", "leave_out"] = "fail",
) -> dict[str, int]:
    """Read another system's vectors, check them against a data set, and write them as one file for `imported`.

    Args:
        dataset: whose items and users they are. Every item must have a vector; users need not.
        output: the file to write (safetensors).
        items, users: `.npy`, Parquet or safetensors, see `cf.vector_files.read_vectors`.
        item_ids, user_ids: files of ids, one a line, for formats that hold none.
        unknown: whether ids that the data set does not hold are an error or left out.

    Returns:
        `items`, `users` (with a vector), `dim`, and how many ids were left out (`unknown_items`, `unknown_users`).

    Raises:
        DataError: ids, shapes or numbers that do not fit; the message counts them and names the first.
    """
    E, _, unknown_items = read_vectors(items, item_ids, dataset.items, "item", unknown, every=True)
    X = np.zeros((dataset.n_users, E.shape[1]), dtype=np.float32)
    has_user = np.zeros(dataset.n_users, dtype=bool)
    unknown_users = 0
    if users is not None:
        X, has_user, unknown_users = read_vectors(users, user_ids, dataset.users, "user", unknown, every=False)
        if X.shape[1] != E.shape[1]:
            raise DataError(
                f"users' vectors have {X.shape[1]} numbers and items' {E.shape[1]}; their product must exist", users
            )
    hashes = {
        f"{word}_hash": torch.frombuffer(bytearray.fromhex(_fingerprint(vocabulary.ids)), dtype=torch.uint8)
        for word, vocabulary in (("items", dataset.items), ("users", dataset.users))
    }
    arrays = {"items": E, "users": X, "has_user": has_user}
    write_tensors(output, {name: torch.from_numpy(array) for name, array in arrays.items()} | hashes)
    return {
        "items": dataset.n_items,
        "users": int(has_user.sum()),
        "dim": E.shape[1],
        "unknown_items": unknown_items,
        "unknown_users": unknown_users,
    }


def _read(path: str) -> dict[str, Tensor]:
    """What `import_vectors` wrote.

    Raises:
        ArtifactError: something else did.
    """
    tensors = read_tensors(path)
    names = {"items", "users", "has_user", "items_hash", "users_hash"}
    if set(tensors) != names:
        raise ArtifactError(
            f"{path} holds {sorted(tensors)}; expected {sorted(names)}. Write it with: allmrec import-backbone"
        )
    return tensors


def _fingerprint(ids: tuple[str, ...]) -> str:
    """A hash of ids in the order of their numbers."""
    return content_hash(*ids)

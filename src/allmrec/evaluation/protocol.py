"""Who is tested on what: users, targets and candidates drawn once, frozen in a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64

from allmrec.core.artifacts import atomic_write, read_json
from allmrec.core.errors import ArtifactError, ConfigError, DataError
from allmrec.core.hashing import content_hash
from allmrec.core.seeding import numpy_generator
from allmrec.data.negatives import room_for_negatives, sample_negatives
from allmrec.data.splitting import Split
from allmrec.evaluation.files import readable_json
from allmrec.ranking import Query

__all__ = ["EvaluationProtocol", "Part", "draw_protocol"]

Part = Literal["test", "validation"]

_KIND, _FORMAT = "allmrec evaluation protocol", 1


@dataclass(frozen=True, eq=False)
class EvaluationProtocol:
    """What every system is asked, the same for all of them.

    Attributes:
        dataset_hash: content hash of the data set that the numbers belong to.
        part: whether targets are test or validation items.
        seed: what it was drawn with.
        users: user numbers in random order, so that the first n are a fair sample of them.
        targets: the item that each user really took.
        candidates: in the order in which systems see them; each row contains its target exactly once.

    Raises:
        DataError: the parts do not fit one another.
    """

    dataset_hash: str
    part: Part
    seed: int
    users: Int64[np.ndarray, " users"]
    targets: Int32[np.ndarray, " users"]
    candidates: Int32[np.ndarray, "users candidates"]

    def __post_init__(self) -> None:
        if len(np.unique(self.users)) < len(self.users):
            raise DataError("A protocol asks the same user twice; each user counts once.")
        ordered = np.sort(self.candidates, axis=1)
        if np.any(self.candidates < 1) or np.any(ordered[:, 1:] == ordered[:, :-1]):
            raise DataError("A protocol's candidates hold padding or the same item twice in a row.")
        if np.any((self.candidates == self.targets[:, None]).sum(axis=1) != 1):
            raise DataError("A protocol's candidates lack their target; each row contains it exactly once.")

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all of it; figures compare where this is equal."""
        head = f"{_KIND} {_FORMAT} {self.dataset_hash} {self.part} {self.seed}"
        return content_hash(head, self.users, self.targets, self.candidates)

    def first(self, n: int) -> EvaluationProtocol:
        """The first n users, a fair sample; for systems too slow for all of them."""
        return self.select(np.arange(len(self)) < n)

    def select(self, mask: Bool[np.ndarray, " users"]) -> EvaluationProtocol:
        """The users where `mask` is true, in the same order."""
        return EvaluationProtocol(
            self.dataset_hash, self.part, self.seed, self.users[mask], self.targets[mask], self.candidates[mask]
        )

    def queries(self, split: Split) -> list[Query]:
        """What a system is told about each user: the history before the target.

        Raises:
            ArtifactError: `split` is of another data set than the protocol.
        """
        self.check(split.dataset.content_hash)
        history = split.test_history if self.part == "test" else split.validation_history
        return [Query(history(user), user) for user in self.users.tolist()]

    def check(self, dataset_hash: str) -> None:
        """Refuse another data set than the one that this was drawn from.

        Raises:
            ArtifactError: names both hashes.
        """
        if dataset_hash != self.dataset_hash:
            raise ArtifactError(
                f"The evaluation protocol belongs to the data set {self.dataset_hash[:12]}, and this one is "
                f"{dataset_hash[:12]}. Draw a protocol from this data set, or give the one that it was drawn from."
            )

    def check_fits(self, split: Split, where: str) -> None:
        """Refuse users, targets or candidates that the split does not have.

        Args:
            split: of the data set that this says it belongs to.
            where: what it was read from, for the message.

        Raises:
            ArtifactError: says what does not fit.
        """
        targets = split.test if self.part == "test" else split.validation
        problem = ""
        if not len(self) or self.users.min() < 0 or self.users.max() >= len(targets):
            problem = f"its users are not numbers below {len(targets)}"
        elif self.candidates.max() > split.dataset.n_items:
            problem = f"it holds item {self.candidates.max()}, and there are {split.dataset.n_items}"
        elif np.any(targets[self.users] != self.targets):
            problem = f"its targets are not the {self.part} items of its users"
        if problem:
            raise ArtifactError(f"{where} does not fit the data: {problem}. Remove it to draw the protocol again.")

    def save(self, path: Path | str) -> None:
        """Write it as JSON, a line per list of candidates, whole or not at all."""
        rows = zip(self.users.tolist(), self.targets.tolist(), self.candidates.tolist(), strict=True)
        value = {
            "kind": _KIND,
            "format": _FORMAT,
            "hash": self.hash,
            "dataset_hash": self.dataset_hash,
            "part": self.part,
            "seed": self.seed,
            "rows": [{"user": user, "target": target, "candidates": listed} for user, target, listed in rows],
        }
        atomic_write(path, readable_json(value))

    @classmethod
    def load(cls, path: Path | str, dataset_hash: str | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            path: the file.
            dataset_hash: content hash of the data set that it will be used with, where that is known.

        Raises:
            ArtifactError: the file is missing, foreign or changed, or it belongs to another data set.
        """
        value = read_json(path)
        if value.get("kind") != _KIND or value.get("format") != _FORMAT:
            raise ArtifactError(
                f"{path} is {value.get('kind', 'of no kind')!r}, format {value.get('format')!r}; expected {_KIND!r}, "
                f"format {_FORMAT}. Draw the protocol again."
            )
        try:
            protocol = cls(*_parse(value))
        except (DataError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtifactError(f"{path} is damaged ({error}); draw the protocol again or restore the file.") from error
        if protocol.hash != value.get("hash"):
            raise ArtifactError(
                f"{path} has the content {protocol.hash[:12]} and says {str(value.get('hash'))[:12]}: it was changed "
                "after it was drawn, so figures from it compare with no others. Restore it or draw it again."
            )
        if dataset_hash is not None:
            protocol.check(dataset_hash)
        return protocol


def draw_protocol(
    split: Split, part: Part = "test", n_users: int | None = None, n_candidates: int = 20, seed: int = 0
) -> EvaluationProtocol:
    """Draw users, their candidates and the candidates' order.

    Negatives are items that the user interacted with nowhere, not even in the held-out parts. Everybody's candidates are drawn
    before users are chosen, so a protocol of fewer users is the beginning of one of more, and figures on it are a
    preview of the figures on all.

    Where the catalogue is too small for so many candidates there are fewer, the same for everybody, and users who leave
    too few negatives are left out: see `room_for_negatives`.

    Args:
        split: whose users and targets.
        part: whether targets are test items (histories then include the validation item) or validation items.
        n_users: how many users; none: all that have a target.
        n_candidates: the target and so many less one negatives, at the most.
        seed: what everything random depends on.

    Raises:
        ConfigError: more users than there are, or fewer than two candidates.
        DataError: nobody has a target, or nobody leaves an item unseen.
    """
    all_targets = split.test if part == "test" else split.validation
    eligible = np.flatnonzero(all_targets).astype(np.int64)
    if len(eligible) == 0:
        raise DataError(f"No user has a {part} item; expected users with at least three interactions.")
    if n_candidates < 2:
        raise ConfigError(f"{n_candidates} candidates were asked for; expected the target and at least one negative.")
    room = room_for_negatives(split.dataset, eligible, n_candidates - 1)
    if n_users is not None and not 1 <= n_users <= len(room.kept):
        raise ConfigError(f"{n_users} users were asked for; expected 1 to {len(room.kept)}, who have a {part} item.")
    users = numpy_generator(seed, "protocol", part, "users").permutation(room.kept)
    targets = all_targets[users]
    negatives = sample_negatives(split.dataset, users, room.n, numpy_generator(seed, "protocol", part, "negatives"))
    rows = np.concatenate([targets[:, None], negatives], axis=1)
    candidates = numpy_generator(seed, "protocol", part, "order").permuted(rows, axis=1)
    chosen = slice(n_users)
    return EvaluationProtocol(
        split.dataset.content_hash, part, seed, users[chosen], targets[chosen], candidates[chosen]
    )


def _parse(
    value: dict[str, Any],
) -> tuple[str, Part, int, Int[np.ndarray, " users"], Int[np.ndarray, " users"], Int[np.ndarray, "users candidates"]]:
    """The constructor's arguments from JSON."""
    rows, part, seed = value["rows"], value["part"], value["seed"]
    if part not in ("test", "validation"):
        raise ValueError(f"part is {part!r}")
    if type(seed) is not int:
        raise ValueError(f"seed is {seed!r}")
    # What numpy would make numbers of is refused here: texts, fractions, true and false.
    flat = [number for row in rows for number in (row["user"], row["target"], *row["candidates"])]
    if wrong := [number for number in flat if type(number) is not int]:
        raise ValueError(f"{wrong[0]!r} stands where a number of a user or an item is expected")
    candidates = np.array([row["candidates"] for row in rows], dtype=np.int32)
    if candidates.ndim != 2:
        raise ValueError("it has no rows of candidates")
    return (
        str(value["dataset_hash"]),
        part,
        seed,
        np.array([row["user"] for row in rows], dtype=np.int64),
        np.array([row["target"] for row in rows], dtype=np.int32),
        candidates,
    )

"""How far what a stage was trained on has moved since: vectors of a sample of items and users, before and now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float32, Int64

from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ArtifactError
from allmrec.core.seeding import numpy_generator
from allmrec.pipeline.run import Run, StageKind
from allmrec.ranking import Query
from allmrec.recommend.retrieve import BackboneRetriever
from allmrec.stages.align import joint_table
from allmrec.stages.cf import backbone
from allmrec.stages.tune import TUNE

__all__ = ["INPUTS", "Inputs", "mean_cosine_distance", "read_inputs", "write_inputs"]

# What kept stages were trained on, in the folder of the run that keeps them.
INPUTS = "update-inputs.safetensors"

# Known items and users whose vectors are compared.
_ITEMS, _USERS = 10_000, 1000

_PARTS = ("items", "item_vectors", "users", "lengths", "histories", "user_vectors")


@dataclass(frozen=True, eq=False)
class Inputs:
    """Item and user vectors that a stage reads, of up to 10,000 items and 1,000 users.

    Attributes:
        items: item numbers, which stay the same in later runs.
        item_vectors: one row each.
        queries: the users, with the histories that they had.
        user_vectors: one row each, by the CF model.
    """

    items: Int64[np.ndarray, " items"]
    item_vectors: Float32[np.ndarray, "items dim"]
    queries: tuple[Query, ...]
    user_vectors: Float32[np.ndarray, "users d"]

    @classmethod
    def of(cls, run: Run, kind: StageKind) -> Self:
        """What a stage reads in a run.

        Args:
            run: whose seed draws the items and users.
            kind: stage 1 or 2.

        Raises:
            ArtifactError: a stage that it reads is not trained, of other inputs, or damaged.
        """
        data, seed = run.dataset, run.config.seed
        items = np.sort(numpy_generator(seed, "update", "items").permutation(data.n_items)[:_ITEMS]) + 1
        users = numpy_generator(seed, "update", "users").permutation(data.n_users)[:_USERS]
        queries = tuple(Query(data.sequence(int(user)), int(user)) for user in users)
        return cls(items, _item_vectors(run, kind)[items], queries, _user_vectors(run, queries))

    def moved(self, run: Run, kind: StageKind) -> tuple[float, float]:
        """How far the same items' and users' vectors lie away in a later run: two mean cosine distances, from 0 to 2."""
        of_items = mean_cosine_distance(self.item_vectors, _item_vectors(run, kind)[self.items])
        return of_items, mean_cosine_distance(self.user_vectors, _user_vectors(run, self.queries))

    def arrays(self) -> dict[str, np.ndarray]:
        """As it is stored."""
        histories = [np.asarray(query.history, dtype=np.int64) for query in self.queries]
        values = (
            self.items,
            self.item_vectors,
            np.array([query.user for query in self.queries], dtype=np.int64),
            np.array([len(history) for history in histories], dtype=np.int64),
            np.concatenate([np.empty(0, dtype=np.int64), *histories]),
            self.user_vectors,
        )
        return dict(zip(_PARTS, values, strict=True))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """What `arrays` gave."""
        parts = np.split(arrays["histories"], np.cumsum(arrays["lengths"])[:-1]) if len(arrays["lengths"]) else []
        queries = tuple(Query(history, int(user)) for history, user in zip(parts, arrays["users"], strict=True))
        return cls(arrays["items"], arrays["item_vectors"], queries, arrays["user_vectors"])


def write_inputs(folder: Path, inputs: Mapping[str, Inputs]) -> None:
    """Keep what kept stages were trained on; with none, no file stays.

    Args:
        folder: of the run that keeps them.
        inputs: by stage.

    Raises:
        NoSpaceError: the disk is full.
    """
    if not inputs:
        (folder / INPUTS).unlink(missing_ok=True)
        return
    arrays = {f"{name}.{part}": value for name, one in inputs.items() for part, value in one.arrays().items()}
    write_tensors(
        folder / INPUTS, {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    )


def read_inputs(folder: Path, kinds: Iterable[str]) -> dict[str, Inputs]:
    """What `write_inputs` kept of some stages; of none where there is no file.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = folder / INPUTS
    if not path.is_file():
        return {}
    try:
        tensors, found = read_tensors(path), {}
        for kind in kinds:
            own = {part: tensors[f"{kind}.{part}"].numpy() for part in _PARTS if f"{kind}.{part}" in tensors}
            if own:
                found[kind] = Inputs.from_arrays(own)
    except (ArtifactError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{path} is damaged. Restore it, or remove it: the next update then measures movement from {folder}."
        ) from error
    return found


def mean_cosine_distance(before: Float32[np.ndarray, "rows dim"], now: Float32[np.ndarray, "rows dim"]) -> float:
    """How far vectors moved: 1 − cos between each before and now, the mean over the rows, from 0 to 2.

    The mean of the vectors before is taken out of both, since what all share says nothing of how they lie to one another. Rows of
    zeros in both did not move.

    Args:
        before, now: one row a thing, in the same order.
    """
    if not len(before):
        return 0.0
    centre = before.mean(axis=0, dtype=np.float64)
    a, b = before - centre, now - centre
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    same = np.all(a == b, axis=1)
    cosine = np.where(same, 1.0, products / np.maximum(norms, 1e-12))
    return float((1 - cosine.clip(-1, 1)).mean())


def _item_vectors(run: Run, kind: StageKind) -> Float32[np.ndarray, "rows dim"]:
    """Stage 1 reads the CF model's item vectors; stage 2 the joint ones, or what `tune.items` puts in their place."""
    joint = kind is TUNE and run.config.tune.items == "joint"
    vectors = joint_table(run).vectors() if joint else backbone(run).item_vectors()
    found: Float32[np.ndarray, "rows dim"] = vectors.detach().float().cpu().numpy()
    return found


def _user_vectors(run: Run, queries: tuple[Query, ...]) -> Float32[np.ndarray, "users d"]:
    return BackboneRetriever(backbone(run)).of_queries(queries)

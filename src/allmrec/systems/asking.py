"""Whom a program evaluates a run on: the run's frozen users and candidates, or its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from allmrec.core.errors import ConfigError
from allmrec.core.seeding import numpy_generator
from allmrec.evaluation import EvaluationProtocol, draw_protocol
from allmrec.pipeline.run import Run

__all__ = ["Candidates", "Users", "asked_protocol"]

# How many of the protocol's first users, or their ids.
Users = int | Sequence[object]

# How many candidates a user, or by user's id the ids of the items that the user's own is ranked among.
Candidates = int | Mapping[object, Sequence[object]]


def asked_protocol(
    run: Run, own: EvaluationProtocol, users: Users | None = None, candidates: Candidates | None = None
) -> EvaluationProtocol:
    """Some users on some candidates; nothing of it is written into the run.

    Args:
        run: the run.
        own: the run's protocol.
        users: the first so many, or ids of those who are asked about; none: all.
        candidates: how many candidates a user, drawn as the run's own are; or those themselves: by user's id as many item
            ids for everybody, with the user's test item or without it. None: the run's own.

    Raises:
        ConfigError: a user without a test item, a number below 1, or candidates that are not the same number for all.
        UnknownIdError: an id that the data does not hold.
    """
    if isinstance(candidates, Mapping):
        found = _given(run, candidates)
    elif candidates is not None and candidates != own.candidates.shape[1]:
        found = draw_protocol(run.split, "test", None, candidates, run.config.seed)
    else:
        found = own
    if users is None:
        return found
    if isinstance(users, int):
        if users < 1:
            raise ConfigError(f"{users} users were asked for; expected at least one.")
        return found.first(users)
    return found.select(_chosen(run, found, users))


def _chosen(run: Run, protocol: EvaluationProtocol, users: Sequence[object]) -> Bool[np.ndarray, " users"]:
    if isinstance(users, str | bytes) or not len(users):
        raise ConfigError(f"users is {users!r}; expected a number, or a list of one or more user ids.")
    numbers = [run.dataset.users.number(str(user)) for user in users]
    missing = [str(user) for user, number in zip(users, numbers, strict=True) if number not in protocol.users]
    if missing:
        raise ConfigError(
            f"These users are in no evaluation: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}. It takes three "
            "interactions, items that the user has not met, and candidates where they are given."
        )
    return np.isin(protocol.users, numbers)


def _given(run: Run, candidates: Mapping[object, Sequence[object]]) -> EvaluationProtocol:
    """A protocol of candidates that somebody chose; the target stands at a place that is drawn."""
    data, split = run.dataset, run.split
    if not candidates:
        raise ConfigError("candidates is empty; expected item ids by user id.")
    users, rows = [], []
    rng = numpy_generator(run.config.seed, "given candidates")
    for user, items in candidates.items():
        number = data.users.number(str(user))
        target = int(split.test[number])
        if not target:
            raise ConfigError(f"User {str(user)!r} has no test item, which takes three interactions.")
        if isinstance(items, str | bytes):
            raise ConfigError(f"The candidates of user {str(user)!r} are {items!r}; expected a list of item ids.")
        row = [data.items.number(str(item)) for item in items]
        if len(set(row)) < len(row):
            raise ConfigError(f"The candidates of user {str(user)!r} hold an item twice.")
        users.append(number)
        rows.append(rng.permutation([target, *(item for item in row if item != target)]))
    sizes = sorted({len(row) for row in rows})
    if len(sizes) > 1 or sizes[0] < 2:
        raise ConfigError(
            f"There are {' or '.join(map(str, sizes))} candidates a user, the test item included; expected the same number, "
            "at least 2, for everybody, so that figures are means of like things."
        )
    numbers = np.array(users, dtype=np.int64)
    return EvaluationProtocol(
        data.content_hash, "test", run.config.seed, numbers, split.test[numbers], np.stack(rows).astype(np.int32)
    )

"""Scenarios: functions from a data set to who trains, who is asked about what, and which users count for which figure.

A scenario never hides data from a training by asking it not to look. It makes the data set that a run is trained on, and users
who may not train are not in it. Items keep their numbers, so what was trained ranks the candidates of the whole data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int, Int64

from allmrec.core.errors import DataError
from allmrec.core.seeding import numpy_generator
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.data.vocabulary import Vocabulary
from allmrec.evaluation import CatalogueRecommender, EvaluationProtocol, draw_protocol
from allmrec.evaluation.scenarios import cold_and_warm_items
from allmrec.experiments.scenario_config import (
    ALL,
    COLD,
    WARM,
    ColdItemsConfig,
    ColdUsersConfig,
    CrossDomainConfig,
    FewShotConfig,
    ScenarioConfig,
    StandardConfig,
)
from allmrec.ranking import Query, Ranker, Ranking

__all__ = [
    "Asking",
    "Renumbered",
    "RenumberedRecommender",
    "Situation",
    "asked_of",
    "known_users",
    "renumbered",
    "shuffled_training",
    "situation",
    "training_data",
]

# Who is asked about which candidates does not depend on a cell's seed, so that seeds are paired user by user.
_PROTOCOL_SEED = 0


@dataclass(frozen=True, eq=False)
class Asking:
    """Who is asked about what, and what it says of them.

    Attributes:
        split: of the data set that is asked about; gives the histories.
        protocol: users, targets and candidates, the same for every system and seed.
        groups: for each group whether each of the protocol's users counts for it.
        there: how many users could have been asked; the others were left out to save time.
    """

    split: Split
    protocol: EvaluationProtocol
    groups: Mapping[str, Bool[np.ndarray, " users"]]
    there: int


@dataclass(frozen=True, eq=False)
class Situation:
    """A scenario on a data set.

    Attributes:
        train: the data set that a run is trained on, by its own split; its test items are held out of it as ever.
        asking: who is asked.
        known: for each user number of the data asked about the number in `train`, -1 where that does not hold the user.
        new_items: whether what is asked about are other items than those of `train`.
    """

    train: InteractionDataset
    asking: Asking
    known: Int64[np.ndarray, " users"]
    new_items: bool = False


def situation(
    config: ScenarioConfig,
    dataset: InteractionDataset,
    seed: int,
    users: int | None = None,
    candidates: int = 20,
    other: InteractionDataset | None = None,
    able: Callable[[Split], Bool[np.ndarray, " users"]] | None = None,
    shuffled: bool = False,
) -> Situation:
    """A scenario on a data set.

    Args:
        config: which.
        dataset: the data.
        seed: of the cell; draws who trains in `few-shot`, and the order of shuffled histories.
        users: how many test users to ask, drawn once for all seeds; none: all.
        candidates: of each, the target included.
        other: of `cross-domain`, the data that is asked about.
        able: of the data asked about, says which users can be asked; none: all can.
        shuffled: whether training sees histories in random order, see `shuffled_training`.

    Raises:
        DataError: the data has nobody of the kind that the scenario asks about, or fewer users than are to train.
    """
    train = training_data(config, dataset, seed, shuffled)
    if isinstance(config, CrossDomainConfig):
        if other is None:
            raise DataError("A cross-domain scenario asks about a second data set, and none came.")
        return Situation(
            train, asked_of(config, other, users, candidates, able), np.full(other.n_users, -1), new_items=True
        )
    asking = asked_of(config, dataset, users, candidates, able)
    return Situation(train, asking, known_users(train, dataset))


def training_data(
    config: ScenarioConfig, dataset: InteractionDataset, seed: int, shuffled: bool = False
) -> InteractionDataset:
    """The data that a scenario trains on: all items with their numbers, and the users who may train; see `situation`."""
    found = _who_train(config, dataset, seed)
    return shuffled_training(found, seed) if shuffled else found


def shuffled_training(dataset: InteractionDataset, seed: int) -> InteractionDataset:
    """The same data with each user's training items in random order; validation and test items stay in their places.

    Times would say the order, so the result has none.
    """
    user, place = dataset.user_of_interaction(), np.arange(dataset.n_interactions)
    last_two = place >= np.repeat(dataset.offsets[1:] - 2, dataset.lengths)
    random = numpy_generator(seed, "shuffled training").random(dataset.n_interactions)
    order = np.lexsort((np.where(last_two, 1.0 + place, random), user))
    return replace(dataset, item_numbers=dataset.item_numbers[order], times=None)


def _who_train(config: ScenarioConfig, dataset: InteractionDataset, seed: int) -> InteractionDataset:
    """The data of the users who may train."""
    match config:
        case StandardConfig() | ColdItemsConfig() | CrossDomainConfig():
            return dataset
        case ColdUsersConfig():
            cold = dataset.lengths == config.interactions
            if not cold.any():
                raise DataError(
                    f"Nobody has exactly {config.interactions} interactions, so there are no cold users. Filtering by a core "
                    "removes them; prepare the data without `--core`."
                )
            if cold.all():
                raise DataError(
                    f"Everybody has exactly {config.interactions} interactions, so nobody is left to train."
                )
            return _only(dataset, np.flatnonzero(~cold))
        case FewShotConfig():
            able = np.flatnonzero(dataset.lengths >= 3)
            if len(able) <= config.users:
                raise DataError(
                    f"{config.users} users are to train and {len(able)} have three interactions; expected more of these."
                )
            drawn = numpy_generator(seed, "few-shot users").permutation(able)[: config.users]
            return _only(dataset, np.sort(drawn))


def asked_of(
    config: ScenarioConfig,
    dataset: InteractionDataset,
    users: int | None = None,
    candidates: int = 20,
    able: Callable[[Split], Bool[np.ndarray, " users"]] | None = None,
) -> Asking:
    """Who is asked about what; the same for every seed. Users stand in random order, so the first so many are a fair sample.

    Raises:
        DataError: nobody can be asked.
    """
    split = leave_one_out(dataset)
    drawn = draw_protocol(split, "test", None, candidates, _PROTOCOL_SEED)
    if able is not None:
        drawn = drawn.select(able(split)[drawn.users])
    first = np.arange(len(drawn)) < (len(drawn) if users is None else users)
    if isinstance(config, ColdUsersConfig):
        cold = dataset.lengths[drawn.users] == config.interactions
        chosen = cold & (np.cumsum(cold) <= (len(drawn) if users is None else users))
        asked = drawn.select(chosen)
        return Asking(split, asked, {ALL: np.ones(len(asked), dtype=bool)}, int(cold.sum()))
    if isinstance(config, ColdItemsConfig):
        cold_items, warm_items = cold_and_warm_items(split, config.share)
        cold, warm = cold_items[drawn.targets], warm_items[drawn.targets]
        chosen = first | (cold & (np.cumsum(cold) <= (len(drawn) if config.more is None else config.more)))
        groups = {ALL: first, COLD: cold, WARM: warm & first}
        return Asking(split, drawn.select(chosen), {name: mask[chosen] for name, mask in groups.items()}, len(drawn))
    return Asking(split, drawn.select(first), {ALL: np.ones(int(first.sum()), dtype=bool)}, len(drawn))


def _only(dataset: InteractionDataset, users: Int[np.ndarray, " kept"]) -> InteractionDataset:
    """Some users of a data set, numbered anew; items and their numbers stay."""
    kept = np.zeros(dataset.n_users, dtype=bool)
    kept[users] = True
    rows = kept[dataset.user_of_interaction()]
    return replace(
        dataset,
        users=Vocabulary(tuple(dataset.users.id(int(user)) for user in users), first=0, kind="user"),
        offsets=np.concatenate([[0], np.cumsum(dataset.lengths[users])]).astype(np.int64),
        item_numbers=dataset.item_numbers[rows],
        times=None if dataset.times is None else dataset.times[rows],
    )


def known_users(train: InteractionDataset, asked: InteractionDataset) -> Int64[np.ndarray, " users"]:
    """For each user of the data asked about the number in the data trained on; -1: a stranger."""
    if train is asked:
        return np.arange(asked.n_users, dtype=np.int64)
    numbers = (train.users.get(name) for name in asked.users)
    return np.array([-1 if number is None else number for number in numbers], dtype=np.int64)


class Renumbered:
    """A `Ranker` that is asked about users of another data set than its own: their numbers are changed into its own.

    Args:
        system: ranks candidates.
        known: as of `Situation`.
    """

    def __init__(self, system: Ranker, known: Int64[np.ndarray, " users"]) -> None:
        self._system, self._known = system, known
        self.name = system.name

    def rank(self, queries: Sequence[Query], candidates: Sequence[Int[np.ndarray, " _candidates"]]) -> list[Ranking]:
        """See `Ranker`."""
        return self._system.rank(renumbered(queries, self._known), candidates)


class RenumberedRecommender:
    """The same of a `CatalogueRecommender`.

    Args:
        system: names the best of the whole catalogue.
        known: as of `Situation`.
    """

    def __init__(self, system: CatalogueRecommender, known: Int64[np.ndarray, " users"]) -> None:
        self._system, self._known = system, known
        self.name = system.name

    def top(self, queries: Sequence[Query], exclude: Sequence[Int[np.ndarray, " _seen"]], k: int) -> list[Ranking]:
        """See `CatalogueRecommender`."""
        return self._system.top(renumbered(queries, self._known), exclude, k)


def renumbered(queries: Sequence[Query], known: Int64[np.ndarray, " users"]) -> list[Query]:
    """The same queries by the users' numbers in the data trained on; see `Situation.known`."""
    return [Query(query.history, int(known[query.user])) for query in queries]

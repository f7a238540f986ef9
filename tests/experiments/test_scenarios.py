"""Each scenario on an example that was worked out by hand, and that no training sees what tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import TinyWorld

from allmrec.core.errors import DataError
from allmrec.data.interactions import InteractionDataset
from allmrec.experiments.cells import needed_stages
from allmrec.experiments.scenario_config import (
    ALL,
    ColdItemsConfig,
    ColdUsersConfig,
    CrossDomainConfig,
    FewShotConfig,
    ScenarioConfig,
    StandardConfig,
)
from allmrec.experiments.scenarios import Renumbered, shuffled_training, situation, training_data
from allmrec.pipeline.run import Run
from allmrec.ranking import Query, Ranking
from allmrec.recipes.files import load_recipe
from allmrec.store.stages import read_stage
from allmrec.systems.registry import train_systems
from allmrec.testing.worlds import taste_world

# Six items, five users. Training parts are all but the last two of each.
SHOP = InteractionDataset.from_sequences(
    {
        "ann": ["i1", "i2", "i3", "i4", "i5"],
        "bob": ["i1", "i2", "i3"],
        "cid": ["i1", "i2", "i4", "i3"],
        "dot": ["i1", "i5", "i2"],
        "eve": ["i6", "i1"],
    },
    items=[f"i{n}" for n in range(1, 7)],
)


def targets(config: ScenarioConfig, data: InteractionDataset = SHOP) -> dict[str, str]:
    """Who is asked about which item, by their names."""
    asking = situation(config, data, seed=0, users=None, candidates=2).asking
    pairs = zip(asking.protocol.users.tolist(), asking.protocol.targets.tolist(), strict=True)
    return {data.users.id(user): data.items.id(item) for user, item in pairs}


def in_group(config: ScenarioConfig, group: str) -> set[str]:
    """Names of the users of a group."""
    asking = situation(config, SHOP, seed=0, users=None, candidates=2).asking
    return {SHOP.users.id(int(user)) for user in asking.protocol.users[asking.groups[group]]}


def test_standard_asks_everybody_about_the_last_item() -> None:
    assert targets(StandardConfig()) == {"ann": "i5", "bob": "i3", "cid": "i3", "dot": "i2"}
    assert training_data(StandardConfig(), SHOP, 0) is SHOP


def test_cold_items_are_those_with_fewest_training_interactions() -> None:
    """Training: ann i1 i2 i3, bob i1, cid i1 i2, dot i1, eve i6 i1. So i1 has 5, i2 2, i3 1, i6 1, i4 and i5 none.

    A third of six items is two: i4 and i5 are cold, i1 and i2 warm. Ann's test item i5 is cold and dot's i2 warm.
    """
    third = ColdItemsConfig(share=0.34, more=None)
    assert in_group(third, "cold items") == {"ann"}
    assert in_group(third, "warm items") == {"dot"}
    assert in_group(third, ALL) == {"ann", "bob", "cid", "dot"}
    assert training_data(third, SHOP, 0) is SHOP


def test_cold_items_may_ask_further_users_who_count_for_nothing_else() -> None:
    """With one user drawn from everybody, and as many more with a cold item as there are."""
    found = situation(ColdItemsConfig(share=0.34, more=None), SHOP, seed=0, users=1, candidates=2).asking
    asked = {SHOP.users.id(int(user)) for user in found.protocol.users}
    assert "ann" in asked
    assert len(asked) <= 2
    assert found.groups[ALL].sum() == 1
    assert (found.groups["warm items"] & ~found.groups[ALL]).sum() == 0


def test_cold_users_are_asked_and_do_not_train() -> None:
    """Bob and dot have exactly three interactions. The others train, eve with her two as well."""
    assert targets(ColdUsersConfig()) == {"bob": "i3", "dot": "i2"}
    found = situation(ColdUsersConfig(), SHOP, seed=0, users=None, candidates=2)
    assert found.train.users.ids == ("ann", "cid", "eve")
    assert [found.train.items.id(int(i)) for i in found.train.sequence(1)] == ["i1", "i2", "i4", "i3"]
    assert found.train.items.ids == SHOP.items.ids
    assert found.known.tolist() == [0, -1, 1, -1, 2]


def test_shuffled_training_leaves_validation_and_test_items_in_their_places() -> None:
    """Of ann's five items the first three change places; of whom fewer than four are known nothing can."""
    orders = set()
    for seed in range(20):
        found = shuffled_training(SHOP, seed)
        assert found.times is None
        assert [found.sequence(n).tolist() for n in (1, 3, 4)] == [SHOP.sequence(n).tolist() for n in (1, 3, 4)]
        ann = [found.items.id(int(item)) for item in found.sequence(0)]
        assert ann[3:] == ["i4", "i5"]
        assert sorted(ann[:3]) == ["i1", "i2", "i3"]
        orders.add(tuple(ann))
    assert len(orders) > 3
    # Who is asked, and with which history, stays.
    plain = situation(StandardConfig(), SHOP, 0, None, 2)
    shuffled = situation(StandardConfig(), SHOP, 0, None, 2, shuffled=True)
    assert shuffled.asking.protocol.hash == plain.asking.protocol.hash
    assert shuffled.known.tolist() == plain.known.tolist()
    assert shuffled.train.content_hash != plain.train.content_hash


def test_only_who_can_be_asked_is_drawn() -> None:
    """Ann and dot can; of these two the first is asked."""
    asking = situation(
        StandardConfig(), SHOP, 0, 1, 2, able=lambda split: np.array([True, False, False, True, True])
    ).asking
    assert asking.there == 2
    assert len(asking.protocol) == 1
    assert SHOP.users.id(int(asking.protocol.users[0])) in ("ann", "dot")


def test_few_shot_trains_on_so_many_and_asks_everybody() -> None:
    """Three of the four who have three interactions train; which, the seed says."""
    found = situation(FewShotConfig(users=3), SHOP, seed=0, users=None, candidates=2)
    assert len(found.train.users) == 3
    assert set(found.train.users) < {"ann", "bob", "cid", "dot"}
    assert targets(FewShotConfig(users=3)) == targets(StandardConfig())
    drawn = {tuple(training_data(FewShotConfig(users=3), SHOP, seed).users) for seed in range(20)}
    assert len(drawn) == 4  # all ways to leave one out
    for name in found.train.users:
        number = found.known[SHOP.users.number(name)]
        assert found.train.sequence(int(number)).tolist() == SHOP.sequence(SHOP.users.number(name)).tolist()


def test_across_domains_trains_on_one_and_asks_about_the_other() -> None:
    other = taste_world(users=6, tastes=2, items_per_taste=4, length=3)
    found = situation(CrossDomainConfig(), SHOP, seed=0, users=None, candidates=3, other=other)
    assert found.train is SHOP
    assert found.asking.protocol.dataset_hash == other.content_hash
    assert len(found.asking.protocol) == 6
    assert (found.known == -1).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ColdUsersConfig(interactions=9), "Nobody has exactly 9 interactions"),
        (FewShotConfig(users=4), "4 users are to train and 4 have three interactions"),
        (CrossDomainConfig(), "none came"),
    ],
)
def test_data_without_such_users_is_refused(config: ScenarioConfig, message: str) -> None:
    with pytest.raises(DataError, match=message):
        situation(config, SHOP, seed=0, users=None, candidates=2)


def test_a_system_is_asked_by_the_numbers_that_it_knows() -> None:
    class Echo:
        name = "echo"

        def rank(self, queries: list[Query], candidates: list[np.ndarray]) -> list[Ranking]:
            return [Ranking(np.array([query.user]), np.zeros(1)) for query in queries]

    queries = [Query(np.array([1]), user) for user in range(5)]
    found = Renumbered(Echo(), np.array([0, -1, 1, -1, 2])).rank(queries, [np.array([1])] * 5)
    assert [int(ranking.items[0]) for ranking in found] == [0, -1, 1, -1, 2]


# --- the leak check ---

# Everything that is trained for these: CF models with and without held-out targets, texts, both stages, the adapted language
# model, and models on texts. Late fusion is left out: its three weights are fitted on validation candidates, whose negatives
# spare everything that the user interacted with, the test item too. No candidate is one, yet the draw of the others is another.
SYSTEMS = ("allmrec-select", "text-tower", "morec", "tallrec")
TINY = {
    "systems.text-tower": {"training": {"epochs": 1, "batch_size": 16}},
    "systems.morec": {"pretrain": {"training": {"epochs": 1, "batch_size": 16}}, "encoder": {"tune": 1}},
    "systems.tallrec": {"training": {"epochs": 1, "batch_size": 8}, "samples_per_epoch": 8},
}


def crowd() -> InteractionDataset:
    """Two dozen users of one taste each, eight of whom have three interactions."""
    data = taste_world(users=24, tastes=3, items_per_taste=12, length=6)
    lengths = {name: 3 if number % 3 == 0 else 6 for number, name in enumerate(data.users)}
    sequences = {
        name: [data.items.id(int(i)) for i in data.sequence(n)][: lengths[name]] for n, name in enumerate(data.users)
    }
    titles = {name: f"Item {number}" for number, name in enumerate(data.items)}
    return InteractionDataset.from_sequences(sequences, titles=titles, items=list(data.items))


def with_other_items(data: InteractionDataset, places: np.ndarray) -> InteractionDataset:
    """The same with another item, new to the user, at some places of `item_numbers`."""
    items = data.item_numbers.copy()
    for place in places:
        user = int(data.user_of_interaction()[place])
        behind = (int(items[place]) + np.arange(data.n_items)) % data.n_items + 1
        items[place] = behind[~np.isin(behind, data.sequence(user))][0]
    return replace(data, item_numbers=items)


def trained(folder: Path, data: InteractionDataset, recipe: Path) -> dict[str, torch.Tensor]:
    """All weights of all systems, by stage."""
    run = Run.create(folder, data, load_recipe(str(recipe), TINY))
    train_systems(run, SYSTEMS, lambda line: None)
    stages = {stage.label: stage for system in SYSTEMS for stage in needed_stages(run, system).values()}
    return {
        f"{label}/{name}": tensor
        for label, stage in stages.items()
        for name, tensor in read_stage(run.path, stage).items()
    }


@pytest.mark.parametrize(
    "config",
    [StandardConfig(), ColdUsersConfig(), FewShotConfig(users=12)],
    ids=lambda config: config.kind,
)
def test_no_training_depends_on_a_test_item(config: ScenarioConfig, tiny_world: TinyWorld, tmp_path: Path) -> None:
    """With another test item for everybody all weights are the same, bit for bit, so no batch held one; text models too.

    `cold-items` and `cross-domain` train on the data as `standard` does (above), the second on nothing of the data that it asks about.
    """
    data = crowd()
    tested = data.lengths >= 3
    twin = with_other_items(data, data.offsets[1:][tested] - 1)
    first, second = (
        trained(tmp_path / n, training_data(config, one, 0), tiny_world.recipe) for n, one in (("a", data), ("b", twin))
    )
    assert first.keys() == second.keys()
    assert len({name.partition("/")[0] for name in first}) >= 7
    different = [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]
    assert different == []


def test_the_leak_check_sees_a_training_item(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """The same with another first item for everybody: every trained stage is another one, so the check can fail."""
    data = crowd()
    twin = with_other_items(data, data.offsets[:-1])
    first, second = (trained(tmp_path / name, one, tiny_world.recipe) for name, one in (("a", data), ("b", twin)))
    changed = {name.partition("/")[0] for name, tensor in first.items() if not torch.equal(tensor, second[name])}
    assert changed >= {"pretrain", "reference", "align", "tune", "text-tower", "morec", "tallrec"}

"""Every backbone of ours passes the conformance suite; a wrong one fails the check that is about its mistake."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allmrec.cf import BACKBONES, BackboneKind, SequenceBackbone
from allmrec.core.config import Config
from allmrec.core.errors import ConfigError
from allmrec.core.seeding import seeded_torch
from allmrec.data import SequenceBatch, Split
from allmrec.testing.conformance import BackboneConformance, ConformanceError, check_backbone


class TestSASRec(BackboneConformance):
    subject = "sasrec"


class TestReleasedSASRec(BackboneConformance):
    """Its attention sees padding, but it always pads to its full length itself, so a caller's padding changes nothing."""

    subject = "sasrec"
    settings = {"mask_padding": False}  # noqa: RUF012  # a plain dict is what the class documents


class TestGRU4Rec(BackboneConformance):
    subject = "gru4rec"


class TestNextItNet(BackboneConformance):
    subject = "nextitnet"


class TestNCF(BackboneConformance):
    subject = "ncf"


class Mean(SequenceBackbone):
    """A right one, untrained: the mean of the items so far, with vectors that know the world's tastes."""

    def __init__(self, n_items: int = 48) -> None:
        super().__init__(n_items, 8, 6)
        with seeded_torch(0, "mean"):
            self.items = nn.Embedding(n_items + 1, 8, padding_idx=0)

    def item_vectors(self) -> Tensor:
        return self.items.weight

    def position_vectors(self, histories: Tensor, users: Tensor) -> Tensor:
        seen = (histories != 0).cumsum(1).clamp(min=1).unsqueeze(-1)
        return self.items(histories).cumsum(1) / seen


class Peeking(Mean):
    def position_vectors(self, histories: Tensor, users: Tensor) -> Tensor:
        whole = super().position_vectors(histories, users)[:, -1:]
        return whole.expand(-1, histories.shape[1], -1)


class CountsPadding(Mean):
    def position_vectors(self, histories: Tensor, users: Tensor) -> Tensor:
        return self.items(histories).cumsum(1) / torch.arange(1, histories.shape[1] + 1).unsqueeze(-1)


class NothingForNobody(Mean):
    def position_vectors(self, histories: Tensor, users: Tensor) -> Tensor:
        return self.items(histories).cumsum(1) / (histories != 0).cumsum(1).unsqueeze(-1)


class Unchecked(Mean):
    def user_vectors(self, batch: SequenceBatch) -> Tensor:
        histories = torch.from_numpy(batch.histories[:, -self.max_history :] % (self.n_items + 1))
        return self.position_vectors(histories, torch.from_numpy(batch.users))[:, -1]


class SeesAll(Mean):
    def user_vectors(self, batch: SequenceBatch) -> Tensor:
        return self.position_vectors(torch.from_numpy(batch.histories), torch.from_numpy(batch.users))[:, -1]


class Misshapen(Mean):
    def item_vectors(self) -> Tensor:
        return self.items.weight[1:]


class Drifts(Mean):
    """Whoever asks changes it, and no freezing of parameters helps."""

    def user_vectors(self, batch: SequenceBatch) -> Tensor:
        with torch.no_grad():
            self.items.weight += 0.01
        return super().user_vectors(batch)


WRONG: dict[str, type[Mean]] = {
    "test_a_later_item_moves_no_earlier_state": Peeking,
    "test_padding_makes_no_difference": CountsPadding,
    "test_empty_and_short_histories_have_vectors": NothingForNobody,
    "test_unknown_items_are_a_clear_error": Unchecked,
    "test_only_the_most_recent_items_count": SeesAll,
    "test_vectors_have_the_promised_shapes": Misshapen,
    "test_stage_1_leaves_it_as_it_is": Drifts,
    "test_a_known_world_is_recovered": Mean,  # nobody trained it
}


def suite(subject: Callable[[Split], SequenceBackbone]) -> BackboneConformance:
    return type("Suite", (BackboneConformance,), {"subject": staticmethod(subject)})()


@pytest.mark.parametrize("check", list(WRONG))
def test_a_wrong_backbone_fails_the_check(check: str) -> None:
    with pytest.raises(ConformanceError):
        suite(lambda split: WRONG[check]()).run(check)


@pytest.mark.parametrize("check", [name for name in WRONG if name != "test_a_known_world_is_recovered"])
def test_a_right_one_passes_what_the_wrong_ones_fail(check: str) -> None:
    assert suite(lambda split: Mean()).run(check) == "passed"


class SizeConfig(Config):
    """No settings."""


def test_a_backbone_that_forgets_fails_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets(arrays: object, config: SizeConfig) -> Mean:
        model = Mean()
        nn.init.ones_(model.items.weight)
        return model.eval()

    kind = BackboneKind("Forgets", SizeConfig, lambda n_items, n_users, config: Mean(n_items), forgets)
    monkeypatch.setitem(BACKBONES, "forgets", kind)
    members = {"subject": "forgets", "training": {"epochs": 1}}
    checks = type("Suite", (BackboneConformance,), members)()
    with pytest.raises(ConformanceError, match="changed by saving"):
        checks.run("test_saved_and_loaded_it_is_the_same")


def test_every_check_has_been_seen_to_fail() -> None:
    assert {*WRONG, "test_saved_and_loaded_it_is_the_same"} == set(BackboneConformance.checks())


def test_check_backbone_collects_what_failed_and_what_was_exempt() -> None:
    def peeks_and_counts(split: Split) -> Mean:
        return type("Both", (CountsPadding, Peeking), {})(split.dataset.n_items)

    reasons = {"test_a_known_world_is_recovered": "nobody trained it", "test_padding_makes_no_difference": "counts it"}
    with pytest.raises(ConformanceError) as error:
        check_backbone(peeking, exempt=reasons)
    assert str(error.value).count("\n") == 0
    assert "test_a_later_item_moves_no_earlier_state: the state at position 0 moved by" in str(error.value)
    with pytest.raises(ConformanceError) as error:
        check_backbone(peeks_and_counts, exempt={"test_a_known_world_is_recovered": "nobody trained it"})
    assert "test_padding_makes_no_difference: " in str(error.value)
    found = check_backbone(lambda split: Mean(), exempt=reasons)
    assert found["test_padding_makes_no_difference"] == "exempt: counts it"
    assert sorted(set(found.values())) == ["exempt: counts it", "exempt: nobody trained it", "passed"]


def peeking(split: Split) -> Mean:
    return Peeking(split.dataset.n_items)


def test_an_exemption_from_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no check 'padding'"):
        check_backbone("sasrec", exempt={"padding": "?"})


@pytest.mark.slow
def test_it_needs_no_pytest() -> None:
    program = "import sys; sys.modules['pytest'] = None; import allmrec.testing.conformance"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_world_has_histories_for_the_checks() -> None:
    split, backbone = suite(lambda split: Mean())._world()
    assert split.dataset.n_items == backbone.n_items
    assert np.all(split.test > 0)

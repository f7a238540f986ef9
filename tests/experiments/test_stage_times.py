"""Seconds and devices of stages that cells share, from what the cells say together."""

from __future__ import annotations

from typing import Any

from allmrec.experiments.stage_times import StageTimes

CPU, CARD = "x86_64 CPU, 1 thread", "NVIDIA H200"


def cell(made_of: dict[str, str], train: float, seconds: float, device: str, **more: Any) -> dict[str, Any]:
    return {"made_of": made_of, "costs": {"train_seconds": train}, "seconds": seconds, "device": device, **more}


def parts(about: dict[str, Any], *others: dict[str, Any]) -> list[tuple[tuple[str, ...], float, str]]:
    found = StageTimes([about, *others]).parts(about)
    assert sum(part.seconds for part in found) == about["costs"]["train_seconds"]
    return [(part.labels, part.seconds, part.machine) for part in found]


SASREC = cell({"pretrain": "p"}, 300, 2, CPU)


def test_a_model_that_was_trained_before_is_told_apart_from_what_a_card_trained() -> None:
    """SASRec's own cells say what it took; the rest of A-LLMRec's seconds is of its stages, which no cell tells apart."""
    ours = cell({"pretrain": "p", "align": "a", "tune": "t"}, 470, 60, f"{CARD}, 16 cells at a time")
    assert parts(ours, SASREC) == [(("pretrain",), 300, CPU), (("align", "tune"), 170, CARD)]
    third = cell({"pretrain": "p", "align": "a"}, 350, 20, f"{CARD}, 12 cells at a time")
    assert parts(ours, SASREC, third) == [(("pretrain",), 300, CPU), (("align",), 50, CARD), (("tune",), 120, CARD)]


def test_a_cell_that_took_as_long_as_its_training_did_all_of_it() -> None:
    """Though the same stage was trained elsewhere too, and took another time there."""
    ours = cell({"pretrain": "p", "tune": "t"}, 310, 320, CARD)
    assert parts(ours, SASREC) == [(("pretrain", "tune"), 310, CARD)]


def test_where_a_cf_model_cannot_be_told_apart_no_device_is_named() -> None:
    assert parts(cell({"pretrain": "p", "align": "a"}, 900, 20, CARD)) == [(("pretrain", "align"), 900, "")]
    assert parts(cell({"pretrain": "p"}, 900, 20, CPU), cell({"pretrain": "p"}, 900, 20, CARD)) == [
        (("pretrain",), 900, "")
    ]


def test_newer_cells_say_it_themselves() -> None:
    first = cell({"pretrain": "p"}, 300, 310, CPU, stage_seconds={"pretrain": 300}, trained_here=["pretrain"])
    ours = cell(
        {"pretrain": "p", "tune": "t"},
        310,
        20,
        CARD,
        stage_seconds={"pretrain": 300, "tune": 10},
        trained_here=["tune"],
    )
    assert parts(ours, first) == [(("pretrain",), 300, CPU), (("tune",), 10, CARD)]
    assert parts(ours) == [(("pretrain",), 300, ""), (("tune",), 10, CARD)]


def test_nothing_is_said_of_a_system_that_is_not_trained() -> None:
    none = {"made_of": {}, "costs": {}, "seconds": 1.0, "device": CPU}
    assert StageTimes([none]).parts(none) == []


def test_each_training_counts_once_whoever_did_it() -> None:
    ours = cell({"pretrain": "p", "align": "a", "tune": "t"}, 470, 60, CARD)
    other = cell({"pretrain": "p", "x.tune": "x"}, 340, 20, CARD)
    assert StageTimes([SASREC, ours, other]).together([SASREC, SASREC, ours, other]) == 300 + 170 + 40

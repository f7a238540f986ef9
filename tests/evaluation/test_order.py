"""The order test: what reads the last item falls to chance when histories are shuffled, what reads a set stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from allmrec.core.errors import ArtifactError
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split, leave_one_out
from allmrec.evaluation import Report, draw_protocol, evaluate_rankers, markdown, render
from allmrec.evaluation.order import shuffled_histories
from allmrec.evaluation.partial import PartialResults
from allmrec.evaluation.report import _content
from allmrec.ranking import Query

from .conftest import Scored

N = 24


@pytest.fixture
def chain() -> Split:
    """Everybody walks around a circle of items, so that the last item of a history alone says what comes next."""
    rng = np.random.default_rng(0)
    sequences = {
        f"u{n}": [f"i{(start + step) % N:02d}" for step in range(8)] for n, start in enumerate(rng.integers(N, size=60))
    }
    return leave_one_out(InteractionDataset.from_sequences(sequences, items=[f"i{n:02d}" for n in range(N)]))


def follows(query: Query, item: int) -> float:
    return float(item == query.history[-1] % N + 1)


def far_from_all(query: Query, item: int) -> float:
    return -float(np.min((item - query.history) % N))


def test_what_reads_the_order_loses_by_it_and_what_reads_a_set_does_not(chain: Split, tmp_path: Path) -> None:
    systems = [Scored("Last", follows), Scored("Set", far_from_all)]
    report = evaluate_rankers(systems, draw_protocol(chain, n_candidates=5), chain, {"Set": 40}, order_test=True)
    last, bag = report.by_name["Last"], report.by_name["Set"]
    assert last.order is not None
    assert bag.order is not None
    assert last.metrics["Hit@1"].value == 1
    lost = last.order.differences["Hit@1"]
    # One of seven items of a history comes last by chance, and then nothing is lost; else ties leave one of five.
    assert lost.value == pytest.approx(-6 / 7 * 4 / 5, abs=0.2)
    assert lost.high < 0
    assert bag.order.ranks == bag.ranks
    assert len(bag.order.ranks) == 40
    assert {(d.value, d.low, d.high) for d in bag.order.differences.values()} == {(0.0, 0.0, 0.0)}
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report


def test_the_shuffle_is_a_users_own(chain: Split) -> None:
    queries = draw_protocol(chain).queries(chain)
    whole, part = shuffled_histories(queries, 3), shuffled_histories(queries[5:9], 3)
    for one, other in zip(whole[5:9], part, strict=True):
        assert one.history.tolist() == other.history.tolist()
    for before, after in zip(queries, whole, strict=True):
        assert after.user == before.user
        assert sorted(after.history) == sorted(before.history)
    assert any(a.history.tolist() != b.history.tolist() for a, b in zip(queries, whole, strict=True))
    other = shuffled_histories(queries, 4)
    assert any(a.history.tolist() != b.history.tolist() for a, b in zip(other, whole, strict=True))


def test_every_form_of_the_report_shows_it_where_it_was_asked(chain: Split) -> None:
    protocol = draw_protocol(chain, n_candidates=5)
    with_it = evaluate_rankers([Scored("Last", follows)], protocol, chain, order_test=True)
    without = evaluate_rankers([Scored("Last", follows)], protocol, chain)
    order = with_it.systems[0].order
    assert order is not None
    figure = order.differences["NDCG@10"]
    assert f"| Last | {order.differences['Hit@1'].value:+.4f} [" in markdown(with_it)
    assert f"{figure.value:+.4f} [{figure.low:+.4f}, {figure.high:+.4f}] |" in markdown(with_it)
    assert "shuffled" not in markdown(without)
    assert len(render(with_it).renderables) == len(render(without).renderables) + 1


def test_what_was_found_before_a_kill_is_kept_for_both_orders(chain: Split, tmp_path: Path) -> None:
    protocol, system = draw_protocol(chain, n_candidates=5), Scored("Last", follows)

    def asked() -> Report:
        kept = PartialResults(tmp_path, protocol.hash, {})
        return evaluate_rankers([system], protocol, chain, kept=kept, order_test=True)

    first = asked()
    before = len(system.asked)
    again = asked()
    assert len(system.asked) == before, "nobody is asked again"
    assert again.systems[0].order == first.systems[0].order
    assert again.systems[0].ranks == first.systems[0].ranks != again.systems[0].order.ranks


@pytest.mark.parametrize(
    "damage",
    [
        lambda order: order["ranks"].pop(),
        lambda order: order["ranks"].__setitem__(0, 0),
        lambda order: order["differences"].pop("MRR"),
        lambda order: order["differences"]["MRR"].__setitem__("low", float("nan")),
    ],
)
def test_a_damaged_order_test_is_refused(chain: Split, tmp_path: Path, damage) -> None:
    report = evaluate_rankers([Scored("Last", follows)], draw_protocol(chain, n_candidates=5), chain, order_test=True)
    value = json.loads(report.to_json())
    damage(value["systems"][0]["order"])
    value.pop("hash")
    (tmp_path / "report.json").write_text(json.dumps(value | {"hash": _content(value)}))
    with pytest.raises(ArtifactError, match="damaged"):
        Report.load(tmp_path / "report.json")

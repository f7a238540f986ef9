"""Text similarity: cosines worked out by hand, items without a title, a world that titles alone explain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from allmrec.baselines.text_similarity import TextSimilarity
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ArtifactError, ConfigError
from allmrec.data.splitting import leave_one_out
from allmrec.evaluation import draw_protocol, evaluate_rankers
from allmrec.ranking import Query, Ranker
from allmrec.testing.tiny_encoder import save_tiny_encoder
from allmrec.testing.worlds import THEMES, title_world
from allmrec.text import EncoderConfig, TextBank, TitleSimilarity, load_encoder

# Item 4 has no title. Lengths differ on purpose: only directions may count.
VECTORS = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 0.5], [3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]])
PRESENT = np.array([False, True, True, True, False, True])


def system(max_history: int = 10) -> TextSimilarity:
    return TextSimilarity(TitleSimilarity(VECTORS, PRESENT, max_history))


def scores(made: TextSimilarity, history: list[int], items: list[int]) -> dict[int, float]:
    (ranking,) = made.rank([Query(np.array(history, dtype=np.int64))], [np.array(items)])
    assert ranking.scores.tolist() == sorted(ranking.scores.tolist(), reverse=True)
    return dict(zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True))


def test_the_best_cosine_counts() -> None:
    assert isinstance(system(), Ranker)
    found = scores(system(), [1, 2], [3, 5])
    # Item 3 points to (0.6, 0.8): 0.6 from item 1 and 0.8 from item 2. Item 5 is opposite to 1 and square to 2.
    assert found == pytest.approx({3: 0.8, 5: 0.0})


def test_only_the_last_items_count() -> None:
    assert scores(system(max_history=1), [2, 1], [3, 5]) == pytest.approx({3: 0.6, 5: -1.0})


def test_a_candidate_without_title_scores_as_the_mean_of_the_others() -> None:
    assert scores(system(), [1], [3, 4, 5]) == pytest.approx({3: 0.6, 4: -0.2, 5: -1.0})


def test_centred_vectors_leave_out_what_all_have_in_common() -> None:
    """One part is common to all: without it items 1 and 2 are opposite to 3, and alike."""
    vectors = torch.tensor([[0.0, 0.0], [9.0, 1.0], [9.0, 1.0], [9.0, -2.0]])
    present = np.array([False, True, True, True])
    plain = scores(TextSimilarity(TitleSimilarity(vectors, present)), [1], [2, 3])
    centred = scores(TextSimilarity(TitleSimilarity(vectors, present, centred=True)), [1], [2, 3])
    assert plain[3] > 0.9
    assert centred == pytest.approx({2: 1.0, 3: -1.0}, abs=1e-6)


def test_items_that_come_later_are_compared_around_the_same_centre() -> None:
    whole = torch.cat([VECTORS, torch.tensor([[1.0, 1.0], [0.0, 0.0]])])
    made = TitleSimilarity(VECTORS, PRESENT, centred=True).extended(whole[6:], torch.tensor([True, False]))
    centre = VECTORS[PRESENT].mean(0)
    apart = whole - centre
    expected = torch.nn.functional.cosine_similarity(apart[6], apart[1], dim=0)
    found = made.scores(np.array([1]), np.array([6, 7]))
    assert found.tolist() == pytest.approx([float(expected)] * 2, abs=1e-6)


def test_where_nothing_is_known_the_order_stays() -> None:
    for history in ([], [4], [2, 4]):
        found = scores(system(max_history=1), history, [5, 3, 1])
        assert list(found.items()) == [(5, 0.0), (3, 0.0), (1, 0.0)]
    assert list(scores(system(), [1], [4])) == [4]


def test_a_bank_of_titles_and_a_file_give_the_same_ranking(tmp_path: Path) -> None:
    encoder = load_encoder(EncoderConfig(name=str(save_tiny_encoder(tmp_path / "encoder")), tune="frozen"))
    titles = [None, "a red lamp", "a red lamp shade", "ten green chairs", None, "a red lamp"]
    bank = TextBank(encoder, titles)
    made = TextSimilarity(TitleSimilarity.of(bank))
    found = scores(made, [1], [2, 3, 4, 5])
    assert found[5] == pytest.approx(1.0, abs=1e-6)
    assert next(iter(found)) == 5
    tensors = {"vectors": bank.all_vectors(), "present": torch.from_numpy(bank.present)}
    write_tensors(tmp_path / "text.safetensors", tensors)
    again = TextSimilarity(TitleSimilarity.from_tensors(read_tensors(tmp_path / "text.safetensors")))
    assert scores(again, [1, 3], [2, 3, 4, 5]) == scores(made, [1, 3], [2, 3, 4, 5])
    with pytest.raises(ArtifactError, match="present"):
        TitleSimilarity.from_tensors({})
    with pytest.raises(ConfigError, match="max_history is 0"):
        TitleSimilarity(VECTORS, PRESENT, max_history=0)


def test_titles_explain_the_title_world() -> None:
    split = leave_one_out(title_world())
    titles = split.dataset.catalogue.titles
    themes = [-1, *([title is not None and title.startswith(t) for t in THEMES].index(True) for title in titles[1:])]
    # Vectors that a perfect encoder would give: one direction a theme.
    vectors = torch.eye(len(THEMES))[themes]
    protocol = draw_protocol(split, n_candidates=5)
    alone = [
        sum(themes[i] == themes[t] for i in c) == 1 for t, c in zip(protocol.targets, protocol.candidates, strict=True)
    ]
    ranks = (
        evaluate_rankers([TextSimilarity(TitleSimilarity(vectors, np.array(themes) >= 0))], protocol, split)
        .systems[0]
        .ranks
    )
    assert sum(alone) > 50
    assert np.all(np.asarray(ranks)[alone] == 1)

"""Stage 1 on small worlds: it learns to match, matching alone collapses, frozen parts stay, seeds decide."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allmrec.alignment import AlignConfig, Alignment, JointItemTable, align, joint_items, joint_text_vectors
from allmrec.alignment.align import AlignTask
from allmrec.alignment.samples import UserSamples
from allmrec.cf import SASRec, SASRecConfig
from allmrec.core.errors import DataError
from allmrec.core.seeding import seeded_torch
from allmrec.core.training import TrainingConfig
from allmrec.data import InteractionDataset, SequenceBatch, Split, leave_one_out
from allmrec.text import SentenceEncoder, TextBank
from allmrec.text.tokens import TokenisedTexts

N_ITEMS, USERS = 30, 60


class WordMean(nn.Module):
    """A sentence encoder as somebody else might write one: the mean of trained word vectors."""

    frozen = "nothing"

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.dim = dim
        with seeded_torch(0, "words"):
            self.words = nn.Embedding(512, dim)
        self.texts_seen = 0

    def tokenise(self, texts: Sequence[str | None]) -> TokenisedTexts:
        def number(word: str) -> int:
            return hashlib.sha256(word.encode()).digest()[0] * 2 + len(word) % 2

        return TokenisedTexts.of([[number(word) for word in (text or "").split()] for text in texts])

    def states(self, ids: Tensor, real: Tensor) -> Tensor:
        raise NotImplementedError

    from_states = states

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        self.texts_seen += len(ids)
        weights = real.unsqueeze(-1).float()
        return (self.words(ids) * weights).sum(1) / weights.sum(1)


def world(hold_out: int = 0, missing: Sequence[int] = ()) -> tuple[Split, list[str | None], SASRec]:
    """Users walk round a ring of items; an item's text is its place on it."""
    rng = np.random.default_rng(0)
    names = [f"{number:02d}" for number in range(N_ITEMS)]
    named = {
        f"u{u}": [names[(s + t) % N_ITEMS] for t in range(8)] for u, s in enumerate(rng.integers(0, N_ITEMS, USERS))
    }
    split = leave_one_out(InteractionDataset.from_sequences(named, items=names), hold_out)
    texts = [None, *(f"place p{number} of ring{number // 6}" for number in range(N_ITEMS))]
    for item in missing:
        texts[item] = None
    with seeded_torch(5, "world"):
        backbone = SASRec(N_ITEMS, SASRecConfig(dim=8, max_history=6)).eval()
    # Random vectors of a trained model's size: what is tested is the alignment, not the backbone.
    backbone.item_emb.weight.data[1:] = 0.5 * torch.randn(N_ITEMS, 8, generator=torch.Generator().manual_seed(1))
    return split, texts, backbone


def config(epochs: int = 3, **changes: object) -> AlignConfig:
    training = TrainingConfig(learning_rate=1e-2, batch_size=16, epochs=epochs)
    return AlignConfig(
        **{"joint_dim": 16, "validation_negatives": 5, "positions": "all", "training": training, **changes}
    )


def test_items_and_texts_find_each_other() -> None:
    split, texts, backbone = world()
    alignment, table, log = align(split, backbone, texts, WordMean(), config(45), seed=0)
    best = next(record for record in log.records if record["step"] == log.best_step)
    assert log.records[0]["matching_mrr"] < 0.35
    assert best["matching_mrr"] > 0.9
    assert best["matching_accuracy"] > 0.85
    nearest = torch.cdist(table.cf[1:], table.text[1:]).argmin(1)
    assert float((nearest == torch.arange(N_ITEMS)).double().mean()) == pytest.approx(best["matching_accuracy"])
    assert not alignment.training


def test_matching_alone_collapses_and_reconstruction_keeps_the_variance() -> None:
    split, texts, backbone = world()
    lone = {"item_reconstruction_weight": 0.0, "text_reconstruction_weight": 0.0, "recommendation_weight": 0.0}
    spread, collapsed = (
        # The last weights, not the best of a validation: a collapse is what training ends in.
        _trained(split, texts, backbone, config(28, **changes))
        for changes in ({}, lone)
    )
    for source in ("cf", "text"):
        kept = getattr(spread, source)[1:].std(0).mean()
        lost = getattr(collapsed, source)[1:].std(0).mean()
        assert lost < 0.02
        assert kept > 0.05
        assert kept > 5 * lost


def _trained(split: Split, texts: list[str | None], backbone: SASRec, config: AlignConfig) -> JointItemTable:
    """Joint vectors after the last step of plain training, whatever validation says."""
    encoder = WordMean()
    with seeded_torch(0, "collapse"):
        alignment = Alignment(backbone.dim, encoder, config.joint_dim)
    bank = TextBank(encoder, texts)
    task = AlignTask(alignment, split, backbone, bank, config, seed=0)
    optimizer = torch.optim.Adam(alignment.parameters(), lr=config.training.learning_rate)
    for epoch in range(config.training.epochs):
        for batch in task.batches(epoch):
            optimizer.zero_grad()
            torch.stack(list(task.losses(batch).values())).sum().backward()
            optimizer.step()
    return joint_items(alignment.eval(), backbone, bank)


def test_the_backbone_stays_byte_for_byte_and_in_evaluation_mode() -> None:
    split, texts, backbone = world()
    backbone.train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    alignment, _, _ = align(split, backbone, texts, WordMean(), config(), seed=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())
    assert not backbone.training
    assert all(parameter.grad is None for parameter in backbone.parameters())
    parts = {name.split(".")[0] for name in alignment.state_dict()}
    assert parts == {"items", "texts", "encoder"}


def test_seeds_decide_the_weights() -> None:
    split, texts, backbone = world()
    runs = [align(split, backbone, texts, WordMean(), config(), seed=seed)[1] for seed in (1, 1, 2)]
    assert torch.equal(runs[0].cf, runs[1].cf)
    assert torch.equal(runs[0].text, runs[1].text)
    assert not torch.equal(runs[0].cf, runs[2].cf)


def test_stored_weights_give_the_same_table() -> None:
    split, texts, backbone = world()
    alignment, table, _ = align(split, backbone, texts, WordMean(), config(), seed=0)
    fresh = Alignment(backbone.dim, WordMean(), joint_dim=16)
    fresh.load_state_dict(alignment.state_dict())
    again = joint_items(fresh.eval(), backbone, TextBank(fresh.encoder, texts))
    for name, tensor in table.tensors().items():
        assert torch.equal(getattr(again, name), tensor)


def test_items_without_text_fall_back_to_the_mean() -> None:
    split, texts, backbone = world(missing=(3, 4))
    _, table, _ = align(split, backbone, texts, WordMean(), config(), seed=0)
    assert (~table.has_text).nonzero().flatten().tolist() == [0, 3, 4]
    assert torch.equal(table.text[3], table.text[4])
    torch.testing.assert_close(table.text[3], table.text[table.has_text].mean(0))


def test_a_catalogue_without_any_text_still_trains() -> None:
    split, texts, backbone = world()
    _, table, log = align(split, backbone, [None] * len(texts), WordMean(), config(), seed=0)
    assert not table.has_text.any()
    assert next(iter(set(log.records[-1]) & {"recommendation_ndcg@10"}))


def test_new_items_from_text_alone() -> None:
    split, texts, backbone = world()
    alignment, table, _ = align(split, backbone, texts, WordMean(), config(), seed=0)
    q, has_text = joint_text_vectors(alignment, TextBank(alignment.encoder, [texts[7], None]))
    more = table.with_text_rows(q, has_text)
    torch.testing.assert_close(more.vectors()[N_ITEMS + 1], table.text[7])
    assert more.has_text[N_ITEMS + 1 :].tolist() == [True, False]


def test_each_text_of_a_batch_is_encoded_once() -> None:
    split, texts, backbone = world()
    encoder = WordMean()
    alignment = Alignment(backbone.dim, encoder, 16)
    task = AlignTask(alignment, split, backbone, TextBank(encoder, texts), config(reconstructed="both"), seed=0)
    batch = task.batches(0)[0]
    task.losses(batch)
    assert encoder.texts_seen == len(set(batch.positives) | set(batch.negatives))
    assert isinstance(encoder, SentenceEncoder)


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("hold_out", [0, 2])
def test_samples_equal_a_plain_loop(positions: str, hold_out: int) -> None:
    split, _, backbone = world(hold_out)
    samples = UserSamples(split, backbone, positions)
    wanted = []
    for user in range(USERS):
        sequence = split.train(user).tolist()
        ends = range(len(sequence) - 1, 0, -1)
        wanted += [
            (user, sequence[:end][-6:], sequence[end]) for end in (list(ends)[:1] if positions == "last" else ends)
        ]
    rows = np.arange(len(samples))
    histories = samples.histories(rows)
    found = [
        (int(user), history[history != 0].tolist(), int(item))
        for user, history, item in zip(samples.users, histories, samples.positives, strict=True)
    ]
    assert found == wanted
    vectors = backbone.user_vectors(SequenceBatch(samples.users, histories)).detach()
    some = np.array([4, 1, 7])
    torch.testing.assert_close(samples.user_vectors(some), vectors[some])
    torch.testing.assert_close(samples.user_vectors(rows, batch_size=7), vectors)


def test_samples_per_epoch_are_drawn_anew_each_epoch() -> None:
    split, texts, backbone = world()
    encoder = WordMean()
    task = AlignTask(
        Alignment(backbone.dim, encoder, 16),
        split,
        backbone,
        TextBank(encoder, texts),
        config(samples_per_epoch=40),
        seed=0,
    )
    first, second = (np.concatenate([batch.rows for batch in task.batches(epoch)]) for epoch in (0, 1))
    assert len(first) == len(set(first)) == len(second) == 40
    assert set(first) != set(second)
    for batch in task.batches(0):
        for row, negative in zip(batch.rows, batch.negatives, strict=True):
            assert negative not in split.train(int(task._samples.users[row]))


def test_texts_that_do_not_fit_the_backbone_are_refused() -> None:
    split, texts, backbone = world()
    with pytest.raises(DataError, match=f"{N_ITEMS} texts came with {N_ITEMS} items"):
        align(split, backbone, texts[1:], WordMean(), config(), seed=0)

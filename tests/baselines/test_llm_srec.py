"""LLM-SRec: losses by plain formulas, what is trained and what is not, vectors kept and new, killed and resumed, what it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from allmrec.baselines.llm_srec import LLMSRec, LLMSRecConfig
from allmrec.baselines.llm_srec_losses import distillation, log_presence, retrieval, uniformity
from allmrec.baselines.llm_srec_training import LLMSRecTask, train_llm_srec
from allmrec.cf.backbone import Backbone
from allmrec.cf.recommender import BackboneRecommender
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.core.artifacts import read_tensors, write_tensors
from allmrec.core.errors import ArtifactError, ConfigError, DataError, UnknownIdError
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import seeded_torch
from allmrec.data import Split, leave_one_out
from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.evaluation import draw_protocol, evaluate_rankers
from allmrec.llm.fingerprint import fingerprint
from allmrec.llm.transformers_lm import TransformersLM
from allmrec.ranking import Query
from allmrec.testing.tiny_lm import tiny_language_model
from allmrec.testing.worlds import taste_world

SMALL = {
    "max_history": 4,
    "title_tokens": 6,
    "dim": 8,
    "hidden": 16,
    "validation_users": 12,
    "validation_items": 10,
    "training": {"learning_rate": 3e-3, "batch_size": 8, "epochs": 2},
}
CONFIG = LLMSRecConfig.model_validate(SMALL)


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(taste_world(users=24, tastes=3, items_per_taste=8, length=6))


@pytest.fixture(scope="module")
def backbone(split: Split) -> Backbone:
    with seeded_torch(0, "backbone"):
        return SASRec(split.dataset.n_items, SASRecConfig(dim=6, max_history=8)).eval()


@pytest.fixture(scope="module")
def lm() -> TransformersLM:
    return tiny_language_model()


@pytest.fixture(scope="module")
def trained(split: Split, backbone: Backbone, lm: TransformersLM) -> LLMSRec:
    return train_llm_srec(split, lm, backbone, split.dataset.catalogue.titles, CONFIG, seed=0)[0]


def made(split: Split, backbone: Backbone, lm: TransformersLM, seed: int = 0, **changes: object) -> LLMSRec:
    config = CONFIG.model_validate(CONFIG.model_dump() | changes)
    return LLMSRec(lm, backbone, split.dataset.catalogue.titles, config, seed)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


# --- losses ---


def test_uniformity_is_the_mean_over_pairs() -> None:
    vectors = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    unit = [v / v.norm() for v in vectors]
    pairs = [torch.exp(-2 * (unit[a] - unit[b]).square().sum()) for a in range(7) for b in range(a)]
    close(uniformity(vectors), torch.stack(pairs).mean())
    # Opposite ones are 2 apart, equal ones 0.
    close(uniformity(torch.tensor([[1.0, 0.0], [-3.0, 0.0]])), torch.tensor(float(np.exp(-8))))
    close(uniformity(torch.tensor([[1.0, 0.0], [5.0, 0.0]])), torch.tensor(1.0))
    assert float(uniformity(vectors[:1]).detach()) == 0
    uniformity(vectors).backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()


def test_distillation_is_the_mean_square_of_unit_vectors() -> None:
    generator = torch.Generator().manual_seed(1)
    mine, theirs = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    wanted = 0.0
    for a, b in zip(mine.numpy(), theirs.numpy(), strict=True):
        wanted += float(((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2).sum()) / (4 * 6)
    close(distillation(mine, theirs), torch.tensor(wanted))
    close(distillation(mine, 7 * mine), torch.tensor(0.0))


def test_retrieval_is_the_cross_entropy_over_what_competes() -> None:
    generator = torch.Generator().manual_seed(2)
    users, items = torch.randn(3, 4, generator=generator), torch.randn(6, 4, generator=generator)
    targets, log_q = torch.tensor([1, 5, 0]), torch.linspace(-3, -1, 6)
    competing = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 1]], dtype=torch.bool)
    terms = []
    for row in range(3):
        scores = (items @ users[row] / 0.5 - log_q)[competing[row]]
        place = int(competing[row][: targets[row]].sum())
        terms.append(-torch.log_softmax(scores, dim=0)[place])
    close(retrieval(users, items, targets, competing, 0.5, log_q), torch.stack(terms).mean())


def test_presence_is_what_drawing_shows() -> None:
    shares = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    rng = np.random.default_rng(0)
    seen = np.zeros(4)
    for _ in range(20_000):
        drawn = np.concatenate([rng.choice(4, 3, p=shares.numpy()), rng.integers(0, 4, 2)])
        seen[np.unique(drawn)] += 1
    found = log_presence(shares, 3, 1 / 4, 2).exp().numpy()
    np.testing.assert_allclose(found, seen / 20_000, atol=0.01)


# --- what it is made of ---


@pytest.mark.parametrize("compete", ["own", "batch"])
def test_gradients_reach_what_is_trained_and_nothing_else(
    split: Split, backbone: Backbone, lm: TransformersLM, compete: str
) -> None:
    name, weights = fingerprint(lm.frozen.module), lm.frozen.snapshot()
    model = made(split, backbone, lm, compete=compete)
    task = LLMSRecTask(model, backbone, split, model.config, seed=0)
    losses = task.losses(task.batches(0)[0])
    assert list(losses) == ["retrieval", "distillation", "uniformity"]
    torch.stack(list(losses.values())).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    names = {n.split(".")[0] for n in model.state_dict()}
    assert names == {"user_out", "item_out", "items", "user_head", "item_head", "cf_head"}
    assert isinstance(backbone, SASRec)
    assert not [p for p in (*lm.frozen.module.parameters(), *backbone.parameters()) if p.grad is not None]
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    model, _ = train_llm_srec(split, lm, backbone, split.dataset.catalogue.titles, model.config, seed=0)
    assert fingerprint(lm.frozen.module) == name
    assert all(torch.equal(weights[key], tensor) for key, tensor in lm.frozen.module.state_dict().items())
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.state_dict().items())


def test_a_prompt_is_words_titles_vectors_and_the_token(split: Split, backbone: Backbone, lm: TransformersLM) -> None:
    """Against tokens put together by hand, read by the language model in one row."""
    model = made(split, backbone, lm)
    words = model.config.words
    item = 5
    before, behind = words.item.format(noun="item", title="\0", item="\1").split("\0\1")
    with torch.no_grad():
        slot = model.items(backbone.item_vectors()[item])
        parts = [
            lm.embed(torch.tensor([*lm.prefix_ids, *lm.tokenize(before)])),
            lm.embed(torch.tensor(lm.tokenize(f" {split.dataset.catalogue.titles[item]}")[:6])),
            slot[None],
            lm.embed(torch.tensor(lm.tokenize(behind))),
            model.item_out[None],
        ]
        row = torch.cat(parts)[None]
        hidden = lm.hidden(row, None, torch.arange(row.shape[1])[None])[0, -1]
        close(model.encode_items(np.array([item]))[0], model.item_head(hidden))
    history = np.array([1, 2, 3, 4, 5, 6])
    prompt = model.prompts.of_user(history)
    assert prompt.history.tolist() == [3, 4, 5, 6]
    assert prompt.user_at == len(prompt) - 1
    assert not len(model.prompts.of_user(history[:0]).history)


def test_the_oldest_history_gives_way_and_words_that_do_not_fit_are_named(
    split: Split, backbone: Backbone, lm: TransformersLM
) -> None:
    whole = made(split, backbone, lm).prompts.of_user(np.arange(1, 5))
    less = made(split, backbone, lm, prompt_tokens=len(whole) - 1).prompts.of_user(np.arange(1, 5))
    assert less.history.tolist() == [2, 3, 4]
    with pytest.raises(ConfigError, match=r"A user's prompt takes \d+ tokens, and 16 fit"):
        made(split, backbone, lm, prompt_tokens=16).prompts.of_user(np.arange(1, 5))
    with pytest.raises(ConfigError, match="has 3 layers; 4 cannot be run"):
        made(split, backbone, lm, layers=4)
    for wrong, message in (
        ({"user": "no list"}, "user must hold {history}"),
        ({"item": "{title}"}, "item must hold {item} once"),
        ({"entry": "{title}{item}{user}"}, "entry holds {user}"),
    ):
        with pytest.raises(ValidationError, match=message):
            LLMSRecConfig.model_validate({"words": wrong})


# --- vectors ---


def test_kept_item_vectors_are_those_that_are_computed(trained: LLMSRec) -> None:
    table = trained.item_vectors()
    assert table is trained.item_vectors()
    assert not table[0].any()
    with torch.no_grad():
        each = [trained.encode_items(np.array([item]))[0] for item in range(1, trained.n_items + 1)]
    close(table[1:], torch.stack(each))


def test_cosines_are_dot_products_of_unit_vectors(split: Split, backbone: Backbone, lm: TransformersLM) -> None:
    plain, unit = made(split, backbone, lm), made(split, backbone, lm, similarity="cosine")
    batch = SequenceBatch(np.array([-1]), np.array([[3, 1]]))
    for dot, cosine in (
        (plain.user_vectors(batch), unit.user_vectors(batch)),
        (plain.item_vectors()[1:], unit.item_vectors()[1:]),
    ):
        close(cosine, dot / dot.norm(dim=1, keepdim=True))


def test_who_else_is_asked_about_changes_no_vector(trained: LLMSRec) -> None:
    histories = [np.array([3, 1, 2, 9, 4]), np.array([7]), np.array([], dtype=np.int64), np.array([2, 2, 5])]
    users = np.full(4, -1)
    together = trained.user_vectors(SequenceBatch(users, left_pad(histories, 9)))
    alone = [trained.user_vectors(SequenceBatch(users[:1], left_pad([h], max(1, len(h)))))[0] for h in histories]
    close(together, torch.stack(alone))
    assert torch.isfinite(together).all()
    # Order counts, and what lies before the last four does not.
    (turned,) = trained.user_vectors(SequenceBatch(users[:1], np.array([[9, 1, 2, 3, 4]])))
    (short,) = trained.user_vectors(SequenceBatch(users[:1], np.array([[1, 2, 9, 4]])))
    assert not torch.allclose(turned, together[0], atol=1e-3)
    close(short, together[0])
    with pytest.raises(UnknownIdError, match="item number 25"):
        trained.user_vectors(SequenceBatch(users[:1], np.array([[25]])))


def test_ranking_everything_is_the_score_of_each_pair(trained: LLMSRec) -> None:
    query, items = Query(np.array([3, 8, 1])), np.arange(1, trained.n_items + 1)
    (ranking,) = BackboneRecommender(trained, "LLM-SRec").rank([query], [items])
    assert isinstance(trained, Backbone)
    with torch.no_grad():
        x = trained.encode_users([query.history])[0]
        scores = np.array([float(x @ trained.encode_items(np.array([item]))[0]) for item in items])
    np.testing.assert_allclose(ranking.scores, np.sort(scores)[::-1], atol=1e-4)
    np.testing.assert_allclose(scores[ranking.items - 1], ranking.scores, atol=1e-4)


def test_a_new_item_is_known_by_its_title(trained: LLMSRec) -> None:
    more = trained.with_new_items(["Item 3", None])
    assert (more.n_items, trained.n_items) == (26, 24)
    assert len(trained.item_vectors()) == 25
    table = more.item_vectors()
    assert torch.equal(table[:25], trained.item_vectors())
    assert torch.isfinite(table).all()
    assert not torch.allclose(table[25], table[26], atol=1e-3)
    # In place of its CF vector stands the mean, which the projection reads as 0.
    with torch.no_grad():
        close(more.items(more.cf_items[25]), more.items(more.items.centre))
    x = more.user_vectors(SequenceBatch(np.array([-1]), np.array([[1, 25, 26]])))
    assert torch.isfinite(x).all()


# --- kept, and trained again ---


def test_what_is_stored_gives_it_back(
    split: Split, backbone: Backbone, lm: TransformersLM, trained: LLMSRec, tmp_path: Path
) -> None:
    titles, file = split.dataset.catalogue.titles, tmp_path / "llm-srec.safetensors"
    write_tensors(file, trained.tensors())
    stored = read_tensors(file)
    again = LLMSRec.from_arrays(stored, lm, backbone, titles, CONFIG)
    assert not again.training
    assert torch.equal(again.item_vectors(), trained.item_vectors())
    again.embed_catalogue()
    close(again.item_vectors(), trained.item_vectors())
    batch = SequenceBatch(np.array([-1]), np.array([[4, 9]]))
    assert torch.equal(again.user_vectors(batch), trained.user_vectors(batch))
    with pytest.raises(ArtifactError, match="it has no 'table'"):
        LLMSRec.from_arrays(trained.state_dict(), lm, backbone, titles, CONFIG)
    with pytest.raises(ArtifactError, match="user_out is missing"):
        LLMSRec.from_arrays({k: t for k, t in stored.items() if k != "user_out"}, lm, backbone, titles, CONFIG)
    with pytest.raises(ArtifactError, match="call embed_catalogue"):
        made(split, backbone, lm).tensors()
    with pytest.raises(DataError, match="2 texts came with 24 items"):
        train_llm_srec(split, lm, backbone, [None, "Heat"], CONFIG, seed=0)


def test_seeds_decide_the_weights(split: Split, backbone: Backbone, lm: TransformersLM) -> None:
    config = CONFIG.model_copy(update={"samples_per_epoch": 16})
    titles = split.dataset.catalogue.titles
    first, same, other = (train_llm_srec(split, lm, backbone, titles, config, seed)[0].tensors() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["table"], other["table"])


@pytest.mark.parametrize("compete", ["own", "batch"])
def test_killed_and_started_again_it_is_the_same_run(
    split: Split, backbone: Backbone, lm: TransformersLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compete: str
) -> None:
    titles, file = split.dataset.catalogue.titles, tmp_path / "resume.safetensors"
    config = LLMSRecConfig.model_validate(SMALL | {"compete": compete, "dropout": 0.2})
    whole, log = train_llm_srec(split, lm, backbone, titles, config, seed=3)
    losses, calls = LLMSRecTask.losses, []

    def dying(self: LLMSRecTask, batch: object) -> object:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return losses(self, batch)  # type: ignore[arg-type]  # any function of the method's shape

    monkeypatch.setattr(LLMSRecTask, "losses", dying)
    with pytest.raises(KeyboardInterrupt):
        train_llm_srec(split, lm, backbone, titles, config, seed=3, resume=Checkpoint(file))
    monkeypatch.setattr(LLMSRecTask, "losses", losses)
    assert file.exists()
    resumed, again = train_llm_srec(split, lm, backbone, titles, config, seed=3, resume=Checkpoint(file))
    assert again.records == log.records
    assert len(log.records) == 2
    wanted = whole.tensors()
    assert all(torch.equal(wanted[key], tensor) for key, tensor in resumed.tensors().items())


# --- what it learns ---


def hit_at_1(model: Backbone, split: Split) -> float:
    system = BackboneRecommender(model, "one")
    protocol = draw_protocol(split, n_candidates=8)
    ranks = evaluate_rankers([system], protocol, split, reference="one").systems[0].ranks
    return float(np.mean(np.asarray(ranks) == 1))


class Tastes:
    """A CF model that knows each item's taste, and a user's by the items of the history."""

    dim, max_history = 4, 8

    def __init__(self, items: Tensor) -> None:
        self._items, self.n_items = items, len(items) - 1

    @classmethod
    def of(cls, split: Split, tastes: int) -> Tastes:
        """Users of a `taste_world` have their number's taste."""
        table = torch.zeros(split.dataset.n_items + 1, cls.dim)
        for user in range(split.dataset.n_users):
            table[split.dataset.sequence(user).astype(np.int64), user % tastes] = 1
        return cls(table)

    def item_vectors(self) -> Tensor:
        return self._items

    def user_vectors(self, batch: SequenceBatch) -> Tensor:
        return self._items[torch.from_numpy(batch.histories)].mean(dim=1)


@pytest.mark.parametrize(("compete", "scores"), [("own", {}), ("batch", {"similarity": "cosine", "temperature": 0.1})])
def test_collaboration_that_only_the_cf_model_shows_comes_through(compete: str, scores: dict[str, object]) -> None:
    """Titles say nothing here, so what is right has come through the slots of a random language model."""
    split = leave_one_out(taste_world(users=48, tastes=4, items_per_taste=8, length=7))
    cf = Tastes.of(split, tastes=4)
    assert isinstance(cf, Backbone)
    training = {"learning_rate": 5e-3, "batch_size": 24, "epochs": 4, "clip_norm": 1.0}
    config = LLMSRecConfig.model_validate(
        SMALL
        | {"positions": "all", "compete": compete, "max_history": 3, "title_tokens": 3, "training": training}
        | scores
    )
    lm, titles = tiny_language_model(layers=1), split.dataset.catalogue.titles
    before = hit_at_1(LLMSRec(lm, cf, titles, config), split)
    model, log = train_llm_srec(split, lm, cf, titles, config, seed=0)
    assert log.records[-1]["loss/retrieval"] < log.records[0]["loss/retrieval"]
    found = hit_at_1(model, split)
    print(f"Hit@1 of 8 by {compete}: {before:.2f} before, {found:.2f} after")
    assert found > max(0.6, before + 0.3)

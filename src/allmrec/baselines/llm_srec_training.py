"""How LLM-SRec is trained: a batch's items read once for all of its users, three losses, validation by rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from allmrec.baselines.llm_srec import LLMSRec, LLMSRecConfig
from allmrec.baselines.llm_srec_losses import distillation, log_presence, retrieval, uniformity
from allmrec.baselines.morec import check_texts
from allmrec.cf.backbone import Backbone
from allmrec.core.frozen import Frozen
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import numpy_generator
from allmrec.core.training import TrainingLog, fit
from allmrec.data.interactions import InteractionDataset
from allmrec.data.splitting import Split
from allmrec.llm.language_model import LanguageModel
from allmrec.ranking import Query
from allmrec.recommend.prior_scores import user_states
from allmrec.recommend.samples import SampleConfig, StageTwoBatch, StageTwoSamples, rank_figures, training_positions

__all__ = ["LLMSRecTask", "train_llm_srec"]

# Users and items whose hidden states say how the heads' inputs are standardised.
_SAMPLE = 256


class LLMSRecTask:
    """What `fit` needs.

    Args:
        model: what is trained.
        backbone: the frozen CF model whose user vectors are distilled.
        split: its training part is learned from, its validation items are watched.
        config: samples, losses and validation.
        seed: names every draw.
    """

    def __init__(self, model: LLMSRec, backbone: Backbone, split: Split, config: LLMSRecConfig, seed: int) -> None:
        self._model, self._backbone, self._config = model, backbone, config
        self._samples = StageTwoSamples(
            split, config, config.training, model.prompts.titles, config.max_history, seed=seed
        )
        self._known = split.training_part()
        self._shares = _target_shares(split, config)
        self._validation = _Validation.drawn(split, config, seed)

    def batches(self, epoch: int) -> Sequence[StageTwoBatch]:
        """The epoch's batches: histories, each with its target and negatives."""
        return self._samples.batches(epoch)

    def losses(self, batch: StageTwoBatch) -> Mapping[str, Tensor]:
        """Retrieval, and what the CF model's user vectors are wanted for."""
        model, config = self._model, self._config
        rows = np.stack(list(batch.candidates))
        items, places = np.unique(rows, return_inverse=True)
        places = places.reshape(rows.shape)
        targets = places[np.arange(len(rows)), batch.targets]
        users = model.encode_users([query.history for query in batch.queries])
        competing, log_q = self._competition(batch.queries, items, places, targets)
        found = {
            "retrieval": retrieval(
                users,
                model.encode_items(items),
                torch.from_numpy(targets).to(users.device),
                torch.from_numpy(competing).to(users.device),
                config.temperature,
                None if log_q is None else log_q.to(users.device),
            )
        }
        teachers = model.cf_head(user_states(self._backbone, batch.queries).to(users.device).float())
        if config.distillation_weight > 0:
            found["distillation"] = config.distillation_weight * distillation(users, teachers)
        if config.uniformity_weight > 0:
            found["uniformity"] = config.uniformity_weight * (uniformity(users) + uniformity(teachers))
        return found

    def validate(self) -> Mapping[str, float]:
        """NDCG, Hit@1 and margin of validation items among one another and random items; nothing where nobody has one."""
        if self._validation is None:
            return {}
        asked = self._validation
        scores = self._model.encode_users(asked.histories) @ self._model.encode_items(asked.items).T
        seen = torch.from_numpy(asked.seen).to(scores.device)
        return rank_figures([(scores.masked_fill(seen, -torch.inf), asked.targets)])

    def _competition(
        self,
        queries: Sequence[Query],
        items: Int[np.ndarray, " items"],
        places: Int[np.ndarray, "batch candidates"],
        targets: Int[np.ndarray, " batch"],
    ) -> tuple[Bool[np.ndarray, "batch items"], Float[Tensor, " items"] | None]:
        """Which items compete for whom, and how likely each was to be among them."""
        rows = np.arange(len(queries))
        if self._config.compete == "own":
            competing = np.zeros((len(queries), len(items)), dtype=bool)
            competing[rows[:, None], places] = True
            return competing, None
        competing = ~_met(self._known, [query.user for query in queries], items)
        competing[rows, targets] = True
        drawn = len(queries) * (places.shape[1] - 1)
        if self._config.pool is not None:
            drawn = min(drawn, self._config.pool)
        as_target = torch.from_numpy(self._shares[items])
        return competing, log_presence(as_target, len(queries), 1 / self._known.n_items, drawn).float()


class _Validation:
    """Users with their validation items, and the items that compete for them.

    Attributes:
        histories: before the validation item.
        items: all users' validation items and random ones, each once.
        targets: place of each user's own among `items`.
        seen: which of the items each user interacted with at any time, the target left out.
    """

    def __init__(
        self,
        histories: Sequence[Int[np.ndarray, " _length"]],
        items: Int[np.ndarray, " items"],
        targets: Int[np.ndarray, " users"],
        seen: Bool[np.ndarray, "users items"],
    ) -> None:
        self.histories, self.items, self.targets, self.seen = histories, items, targets, seen

    @classmethod
    def drawn(cls, split: Split, config: LLMSRecConfig, seed: int) -> _Validation | None:
        """Drawn once; None where nobody is to be asked about, or has a validation item."""
        rng = numpy_generator(seed, "llm-srec validation")
        users = np.sort(rng.permutation(split.validated())[: config.validation_users])
        if not len(users):
            return None
        wanted = split.validation[users]
        others = rng.permutation(split.dataset.n_items)[: config.validation_items] + 1
        items = np.unique(np.concatenate([wanted, others])).astype(np.int64)
        targets = np.searchsorted(items, wanted)
        seen = _met(split.dataset, users.tolist(), items)
        seen[np.arange(len(users)), targets] = False
        return cls([split.validation_history(int(user)) for user in users], items, targets, seen)


def train_llm_srec(
    split: Split,
    lm: LanguageModel,
    backbone: Backbone,
    titles: Sequence[str | None],
    config: LLMSRecConfig,
    seed: int,
    resume: Checkpoint | None = None,
) -> tuple[LLMSRec, TrainingLog]:
    """Train LLM-SRec and keep the best validation's weights; then every item's vector is computed.

    It is trained where the language model is. Gradients go through the layers that are run, so memory grows with the tokens of a
    batch: those of `training.batch_size` histories and of their items, each item once. `tensors` is what to store.

    Args:
        split: its training part is learned from, its validation items are watched.
        lm: the language model; it is left as it is.
        backbone: the CF model; it is frozen, and left as it is.
        titles: by item number, entry 0 unused.
        config: prompts, samples, losses and training.
        seed: names every draw.
        resume: where to keep the resume state, if the run is to survive being killed.

    Returns:
        The system in evaluation mode, and what happened.

    Raises:
        ConfigError: the language model cannot be cut after so many layers, a prompt does not fit, or no user has a position to
            train on.
        DataError: the number of titles does not fit the data.
    """
    check_texts(titles, split)
    if isinstance(backbone, nn.Module):
        Frozen(backbone)
    model = LLMSRec(lm, backbone, titles, config, seed)
    task = LLMSRecTask(model, backbone, split, config, seed)
    if config.standardise:
        model.standardise(*_drawn_inputs(split, config, seed))
    log = fit(model, task, config.training, "train LLM-SRec", resume, seed=seed)
    model.embed_catalogue()
    return model, log


def _drawn_inputs(
    split: Split, config: SampleConfig, seed: int
) -> tuple[list[Int[np.ndarray, " _length"]], Int[np.ndarray, " items"]]:
    """Histories before training positions, and items, to standardise the heads' inputs by."""
    rng = numpy_generator(seed, "llm-srec standardise")
    users, places = training_positions(split, config.positions)
    chosen = rng.permutation(len(users))[:_SAMPLE]
    histories = [split.dataset.sequence(int(u))[:p] for u, p in zip(users[chosen], places[chosen], strict=True)]
    return histories, rng.permutation(split.dataset.n_items)[:_SAMPLE] + 1


def _target_shares(split: Split, config: SampleConfig) -> Float[np.ndarray, " items_and_padding"]:
    """Each item's share of the training targets."""
    users, places = training_positions(split, config.positions)
    targets = split.dataset.item_numbers[split.dataset.offsets[users] + places]
    counts = np.bincount(targets, minlength=split.dataset.n_items + 1)
    return counts / max(1, len(targets))


def _met(
    dataset: InteractionDataset, users: Sequence[int], items: Int[np.ndarray, " items"]
) -> Bool[np.ndarray, "users items"]:
    """Which of the items each user interacted with."""
    rows = [np.isin(items, dataset.sequence(user)) for user in users]
    return np.stack(rows)

"""Stage 1: trains the alignment of a frozen CF model's items with their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from allmrec.alignment.autoencoders import Alignment
from allmrec.alignment.joint_items import JointItemTable
from allmrec.alignment.objective import AlignConfig, ItemSide, alignment_terms
from allmrec.alignment.samples import UserSamples
from allmrec.cf.backbone import Backbone
from allmrec.cf.samples import NegativeSampler
from allmrec.cf.validation import ValidationSample
from allmrec.core.devices import chosen_device
from allmrec.core.distributed import slices
from allmrec.core.errors import DataError
from allmrec.core.frozen import Frozen
from allmrec.core.resume import Checkpoint
from allmrec.core.seeding import numpy_generator, seeded_torch
from allmrec.core.training import TrainingLog, fit
from allmrec.data.splitting import Split
from allmrec.text.bank import TextBank
from allmrec.text.encoder import SentenceEncoder

__all__ = ["AlignBatch", "AlignTask", "align", "joint_items", "joint_text_vectors"]


@dataclass(frozen=True)
class AlignBatch:
    """Samples of one step: rows of the sample table, their items, and one sampled item each."""

    rows: Int[np.ndarray, " batch"]
    positives: Int[np.ndarray, " batch"]
    negatives: Int[np.ndarray, " batch"]


class AlignTask:
    """Stage 1's batches, losses and validation, for `core.training.fit`.

    Args:
        alignment: what is trained.
        split: the data.
        backbone: the CF model; frozen here.
        bank: the catalogue's texts, one per item number.
        config: objective and samples.
        seed: names every draw.
    """

    def __init__(
        self,
        alignment: Alignment,
        split: Split,
        backbone: Backbone,
        bank: TextBank,
        config: AlignConfig,
        seed: int,
    ) -> None:
        if isinstance(backbone, nn.Module):
            self.frozen = Frozen(backbone)
        self._alignment, self._bank, self._config, self._seed = alignment, bank, config, seed
        self._vectors = backbone.item_vectors().detach()
        self._sampler = NegativeSampler(split)
        self._samples = UserSamples(split, backbone, config.positions, self._sampler.without)
        sample = ValidationSample(
            split, config.validation_users, config.validation_negatives, backbone.max_history, seed
        )
        with torch.no_grad():
            self._validation = sample, sample.user_vectors(backbone)
        having = np.flatnonzero(bank.present)
        drawn = numpy_generator(seed, "alignment", "validation").permutation(having)
        self._validation_items = np.sort(drawn[: config.validation_items])

    def batches(self, epoch: int) -> Sequence[AlignBatch]:
        """The epoch's samples in its own order with its own negatives."""
        order = self._samples.order(epoch, self._seed, self._config.samples_per_epoch)
        rng = numpy_generator(self._seed, "alignment", "negatives", epoch)
        negatives = self._sampler.draw(self._samples.users[order], 1, rng)[:, 0]
        positives = self._samples.positives[order]
        size = self._config.training.batch_size
        return [
            AlignBatch(order[i : i + size], positives[i : i + size], negatives[i : i + size])
            for i in range(0, len(order), size)
        ]

    def losses(self, batch: AlignBatch) -> Mapping[str, Tensor]:
        """The weighted terms; each text of the batch is encoded once."""
        config = self._config
        text = config.matching_weight or config.text_reconstruction_weight
        roles = [batch.positives] + ([batch.negatives] if config.reconstructed == "both" else [])
        texts: list[Tensor] = []
        if text:
            vectors = self._bank.vectors(np.concatenate(roles))
            texts = [vectors[role * len(batch.rows) :][: len(batch.rows)] for role in range(len(roles))]
        sides = []
        for role, items in enumerate((batch.positives, batch.negatives)):
            cf = self._vectors[torch.from_numpy(items).to(self._vectors.device)]
            if role < len(texts):
                has_text = torch.from_numpy(self._bank.present[items]).to(cf.device)
                sides.append(ItemSide(cf, texts[role], has_text))
            else:
                sides.append(ItemSide(cf))
        users = self._samples.user_vectors(batch.rows)
        return alignment_terms(self._alignment.items, self._alignment.texts, users, sides[0], sides[1], config)

    def shares(self, batch: AlignBatch, count: int) -> list[tuple[AlignBatch, dict[str, float]]] | None:
        """The batch's rows for `count` processes: the text terms are means over rows that have a text, others over all.

        With `reconstructed = "both"` the text terms are sums of two means, over positives and over negatives. Where some
        item lacks a text these have different divisors, and a part has no one share of them.
        """
        config, present = self._config, self._bank.present
        having = present[batch.positives]
        if config.reconstructed == "both" and not (having.all() and present[batch.negatives].all()):
            return None
        weights = {
            "item_reconstruction": config.item_reconstruction_weight,
            "matching": config.matching_weight,
            "text_reconstruction": config.text_reconstruction_weight,
            "recommendation": config.recommendation_weight,
        }
        shared = []
        for rows in slices(len(batch.rows), count):
            part = AlignBatch(batch.rows[rows], batch.positives[rows], batch.negatives[rows])
            of_all = len(part.rows) / len(batch.rows)
            of_texts = float(having[rows].sum() / max(1, having.sum()))
            shares = {
                name: of_texts if name in ("matching", "text_reconstruction") else of_all
                for name, weight in weights.items()
                if weight
            }
            shared.append((part, shares))
        return shared

    def validate(self) -> Mapping[str, float]:
        """How well items and texts find each other, and how well reconstructed items still recommend.

        `matching_mrr`: mean reciprocal rank of an item's own text vector among those of all drawn items, by distance
        from its CF vector; `matching_accuracy`: share in which it is the nearest. The first figure is watched:
        matching or recommendation as configured; recommendation where the objective has no matching.
        """
        items = self._alignment.items
        decoded = items.decode(items.encode(self._vectors))
        sample, users = self._validation
        recommendation = {f"recommendation_{k}": v for k, v in sample.figures(users, decoded).items()}
        if len(self._validation_items) < 2:
            return recommendation
        chosen = torch.from_numpy(self._validation_items).to(self._vectors.device)
        e = items.encode(self._vectors[chosen])
        q = self._alignment.texts.encode(self._bank.all_vectors(self._validation_items))
        matching = _matching_figures(e, q)
        watched = self._config.watch == "matching" and self._config.matching_weight
        return matching | recommendation if watched else recommendation | matching


def _matching_figures(e: Float[Tensor, "items joint"], q: Float[Tensor, "items joint"]) -> dict[str, float]:
    """Mean reciprocal rank and accuracy of finding row i of q from row i of e; a tie counts against it."""
    distance = torch.cdist(e, q)
    own = distance.diagonal()[:, None]
    rank = (distance <= own).sum(1).clamp(min=1).double()
    return {"matching_mrr": float((1 / rank).mean()), "matching_accuracy": float((rank == 1).double().mean())}


def align(
    split: Split,
    backbone: Backbone,
    texts: Sequence[str | None],
    encoder: SentenceEncoder,
    config: AlignConfig,
    seed: int,
    resume: Checkpoint | None = None,
    device: torch.device | str = "auto",
    earlier: Mapping[str, Tensor] | None = None,
) -> tuple[Alignment, JointItemTable, TrainingLog]:
    """Train stage 1 and make the joint item table.

    Args:
        split: the data; only training prefixes are used (`split.train_end`).
        backbone: the trained CF model; stays as it is.
        texts: one per item number, `items + 1` of them; entry 0 is the padding's, None where an item has no text. Such
            items take no part in the text terms, and their text vector is the mean of the others' (`JointItemTable`).
        encoder: the sentence encoder; its tunable part is trained in place.
        config: objective, samples and training.
        seed: names every draw; it takes the place of the training config's own.
        resume: where to keep the resume state, if the run is to survive being killed.
        device: where to train; auto: the GPU where there is one.
        earlier: weights of an earlier alignment of the same settings to go on from.

    Returns:
        The alignment in evaluation mode, the joint vectors of all items (CF vectors counting), and what happened.

    Raises:
        DataError: the number of texts does not fit the backbone, or there is nothing to train or validate on.
    """
    if len(texts) != backbone.n_items + 1:
        raise DataError(
            f"{len(texts)} texts came with {backbone.n_items} items; expected {backbone.n_items + 1}, entry 0 for padding."
        )
    with seeded_torch(seed, "alignment", "initialisation"):
        alignment = Alignment(backbone.dim, encoder, config.joint_dim)
    if earlier is not None:
        alignment.load_state_dict(earlier)
    device = chosen_device(str(device))
    alignment.to(device)
    if isinstance(backbone, nn.Module):
        backbone.to(device)
    bank = TextBank(encoder, [None, *texts[1:]], config.cache_bytes, device)
    task = AlignTask(alignment, split, backbone, bank, config, seed)
    log = fit(alignment, task, config.training, "align items with texts", resume, earlier is not None, seed=seed)
    alignment.eval()
    return alignment, joint_items(alignment, backbone, bank), log


@torch.no_grad()
def joint_text_vectors(
    alignment: Alignment, bank: TextBank
) -> tuple[Float[Tensor, "texts joint"], Bool[Tensor, " texts"]]:
    """`q` of every text of a bank, and which rows have a text; the alignment is in evaluation mode."""
    q = alignment.texts.encode(bank.all_vectors(description="joint text vectors"))
    return q, torch.from_numpy(bank.present).to(q.device)


@torch.no_grad()
def joint_items(alignment: Alignment, backbone: Backbone, bank: TextBank) -> JointItemTable:
    """The joint vectors of all items of a backbone, on the CPU, CF vectors counting."""
    q, has_text = joint_text_vectors(alignment, bank)
    e = alignment.items.encode(backbone.item_vectors())
    return JointItemTable.of(e, q, has_text).to("cpu")

"""The stage `texts`: the untouched sentence encoder's vector of each title, and their similarity."""

from __future__ import annotations

import torch

from allmrec.pipeline.frozen import check_encoder, try_encoder, untouched_encoder
from allmrec.pipeline.run import Run, StageKind
from allmrec.store.stages import Stage, StageResult
from allmrec.text.bank import TextBank
from allmrec.text.similarity import TitleSimilarity

__all__ = ["TEXTS", "item_texts", "title_similarity"]


def _train(run: Run, stage: Stage) -> StageResult:
    bank = TextBank(untouched_encoder(run), run.dataset.catalogue.titles, device=run.device)
    vectors = bank.all_vectors(description="encode titles").cpu()
    return StageResult({"vectors": vectors, "present": torch.from_numpy(bank.present)}, {})


TEXTS = StageKind(
    "texts",
    lambda config: {"encoder": config.encoder.untouched.deciding},
    _train,
    seeded=False,
    check=check_encoder,
    load=try_encoder,
)


def title_similarity(run: Run, last: int = 10, centred: bool = False) -> TitleSimilarity:
    """Of titles, by the untouched sentence encoder; see `TitleSimilarity`.

    Raises:
        ArtifactError: the stage is not trained, of other inputs, or damaged.
    """
    return TitleSimilarity.from_tensors(run.tensors(TEXTS), last, centred)


def item_texts(run: Run) -> list[str | None]:
    """Each item's text by number, as `item_text` puts it together; none where there is none."""
    return [text or None for text in run.dataset.catalogue.item_texts(run.config.item_text)]

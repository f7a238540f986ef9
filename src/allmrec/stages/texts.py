"""The stage `texts`: the untouched sentence encoder's vector of each title, and their similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from allmrec.core.tensors import expected
from allmrec.pipeline.continuing import earlier_run
from allmrec.pipeline.run import Continuation, Run, StageKind
from allmrec.recipes.config import RunConfig
from allmrec.stages.frozen import check_encoder, try_encoder, untouched_encoder
from allmrec.store.stages import Stage, StageResult
from allmrec.text.bank import TextBank
from allmrec.text.similarity import TitleSimilarity

__all__ = ["TEXTS", "item_texts", "title_similarity"]


def _train(run: Run, stage: Stage) -> StageResult:
    encoder, titles = untouched_encoder(run), run.dataset.catalogue.titles
    bank = TextBank(encoder, titles, device=run.device)
    vectors = torch.zeros(len(bank), encoder.dim)
    kept = np.zeros(len(bank), dtype=bool)
    if (earlier := earlier_run(run, TEXTS)) is not None:
        theirs = earlier.tensors(TEXTS)["vectors"]
        numbers = {title: number for number, title in enumerate(earlier.dataset.catalogue.titles) if title}
        kept = np.array([title in numbers for title in titles])
        vectors[torch.from_numpy(kept)] = theirs[[numbers[title] for title in titles if title in numbers]]
    fresh = np.flatnonzero(~kept)
    vectors[torch.from_numpy(fresh)] = bank.all_vectors(fresh, description="encode titles").cpu()
    log = {"kept": int(kept.sum())} if earlier is not None else {}
    return StageResult({"vectors": vectors, "present": torch.from_numpy(bank.present)}, log)


def _settings(config: RunConfig) -> dict[str, Any]:
    return {"encoder": config.encoder.untouched.model_dump(mode="json")}


TEXTS = StageKind(
    "texts",
    _settings,
    _train,
    seeded=False,
    check=check_encoder,
    load=try_encoder,
    continuation=Continuation(_settings),
)


def title_similarity(run: Run, max_history: int = 10, centred: bool = False) -> TitleSimilarity:
    """Of titles, by the untouched sentence encoder; see `TitleSimilarity`.

    Raises:
        ArtifactError: the stage is not trained, of other inputs, or damaged.
    """
    tensors, rows = run.tensors(TEXTS), run.dataset.n_items + 1
    with run.content(TEXTS):
        expected(tensors, {"vectors": ("float", (rows, None)), "present": ("bool", (rows,))})
        return TitleSimilarity.from_tensors(tensors, max_history, centred)


def item_texts(run: Run) -> list[str | None]:
    """Each item's text by number, as `item_text` puts it together; none where there is none."""
    return [text or None for text in run.dataset.catalogue.item_texts(run.config.item_text)]

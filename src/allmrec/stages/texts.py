"""The stage `texts`: vectors of items' texts by what nobody tuned, and their similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from allmrec.core.tensors import expected
from allmrec.data.catalogue import Catalogue
from allmrec.pipeline.continuing import earlier_run
from allmrec.pipeline.run import Continuation, Run, StageKind
from allmrec.recipes.config import RunConfig
from allmrec.stages.frozen import (
    check_encoder,
    check_language_model,
    language_model,
    language_model_input,
    try_encoder,
    try_language_model,
    untouched_encoder,
)
from allmrec.store.stages import Stage, StageResult
from allmrec.text.bank import TextBank
from allmrec.text.causal import CausalEncoder
from allmrec.text.encoder import EncoderConfig
from allmrec.text.similarity import TitleSimilarity

__all__ = [
    "TEXTS",
    "item_texts",
    "new_text_vectors",
    "text_encoder",
    "text_vectors",
    "title_similarity",
]

Vectors = tuple[Float[Tensor, "rows dim"], Bool[Tensor, " rows"]]


def _by_llm(config: RunConfig) -> bool:
    return config.texts.source == "llm"


def text_encoder(config: RunConfig) -> EncoderConfig | None:
    """The sentence encoder that text vectors take; None where they come from the language model."""
    return None if _by_llm(config) else config.encoder


def _texts(config: RunConfig, catalogue: Catalogue) -> list[str | None]:
    """What is encoded of each item."""
    if config.texts.of == "title":
        return list(catalogue.titles)
    return [text or None for text in catalogue.item_texts(config.item_text)]


def _encoded(run: Run, texts: Sequence[str | None]) -> Vectors:
    """Vectors of texts as their source gives them."""
    if _by_llm(run.config):
        return CausalEncoder(language_model(run), run.config.texts.llm).vectors(texts)
    bank = TextBank(untouched_encoder(run), texts, device=run.device)
    return bank.all_vectors(description="encode texts").cpu(), torch.from_numpy(bank.present)


def _train(run: Run, stage: Stage) -> StageResult:
    texts = _texts(run.config, run.dataset.catalogue)
    earlier = earlier_run(run, TEXTS)
    if earlier is None or not _same_model(run, earlier):
        vectors, present = _encoded(run, texts)
        return StageResult({"vectors": vectors, "present": present}, {} if earlier is None else {"kept": 0})
    theirs, before = earlier.tensors(TEXTS), _texts(earlier.config, earlier.dataset.catalogue)
    numbers = {text: number for number, text in enumerate(before) if text}
    from_there = torch.tensor([numbers.get(text or "", 0) for text in texts])
    fresh = np.flatnonzero(from_there.numpy() == 0)
    vectors, present = theirs["vectors"][from_there], theirs["present"][from_there]
    vectors[torch.from_numpy(fresh)], present[torch.from_numpy(fresh)] = _encoded(run, [texts[n] for n in fresh])
    return StageResult({"vectors": vectors, "present": present}, {"kept": len(texts) - len(fresh)})


def _same_model(run: Run, earlier: Run) -> bool:
    """Whether an earlier run's texts were read by the very same weights."""
    config = run.config
    name = f"llm {language_model_input(config)['llm']}" if _by_llm(config) else f"encoder {config.encoder.name}"
    _load(run)
    return earlier.folder.fingerprints().get(name) == run.fingerprints[name]


def _settings(config: RunConfig) -> dict[str, Any]:
    own: dict[str, Any] = {"encoder": config.encoder.untouched.model_dump(mode="json")}
    if _by_llm(config):
        own = {"llm": config.texts.llm.model_dump(mode="json")}
    if config.texts.of == "item_text":
        own["item_text"] = config.item_text.model_dump(mode="json")
    return own


def _inputs(config: RunConfig) -> dict[str, str]:
    return language_model_input(config) if _by_llm(config) else {}


def _check(run: Run) -> None:
    (check_language_model if _by_llm(run.config) else check_encoder)(run)


def _load(run: Run) -> None:
    (try_language_model if _by_llm(run.config) else try_encoder)(run)


TEXTS: StageKind = StageKind(
    "texts",
    _settings,
    _train,
    inputs=_inputs,
    seeded=False,
    check=_check,
    load=_load,
    continuation=Continuation(lambda config: _settings(config) | _inputs(config)),
)


def text_vectors(run: Run) -> Vectors:
    """The vector of each item's text by number, zeros where there is none, and which have one.

    Raises:
        ArtifactError: the stage is not trained, of other inputs, or damaged.
    """
    tensors, rows = run.tensors(TEXTS), run.dataset.n_items + 1
    with run.content(TEXTS):
        found = expected(tensors, {"vectors": ("float", (rows, None)), "present": ("bool", (rows,))})
    return found["vectors"], found["present"]


def new_text_vectors(
    run: Run,
    titles: Sequence[str | None],
    descriptions: Sequence[str | None],
    categories: Sequence[Sequence[str]],
) -> Vectors:
    """The same of items that are no part of the data.

    Raises:
        ArtifactError: as of `text_vectors`; or the model has other weights than the one that the run was trained with.
    """
    added = Catalogue.without_texts(0).extended(titles, descriptions, [tuple(each) for each in categories])
    vectors, present = _encoded(run, _texts(run.config, added))
    # Row 0 is the padding's.
    return vectors[1:], present[1:]


def title_similarity(run: Run, max_history: int = 10, centred: bool = False) -> TitleSimilarity:
    """Of items' texts; see `TitleSimilarity`.

    Raises:
        ArtifactError: the stage is not trained, of other inputs, or damaged.
    """
    vectors, present = text_vectors(run)
    return TitleSimilarity(vectors, present.numpy().astype(bool), max_history, centred)


def item_texts(run: Run) -> list[str | None]:
    """Each item's text by number, as `item_text` puts it together; none where there is none."""
    return [text or None for text in run.dataset.catalogue.item_texts(run.config.item_text)]

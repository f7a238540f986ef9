"""What behaviour, text and popularity alone say of recommended items: each system's own score, and the item's place by it.

These are other systems' answers to the same request, not shares of the score: a network's score has no such shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from allmrec.recommend.request import Recommendations, ResolvedRequest
from allmrec.serve.served import Offer, Served

__all__ = ["parts_of"]

# By the kind of system, in this order.
_WORDS = {"cf": "behaviour", "popularity": "popularity"}


def parts_of(
    served: Served, offer: Offer, request: ResolvedRequest, items: Sequence[int], scored: Recommendations
) -> list[list[dict[str, Any]]]:
    """For each item, what each of the simple systems says.

    Args:
        served: the version.
        offer: who answered.
        request: what was asked.
        items: numbers of the recommended items.
        scored: all items that the one who answered gave a score.
    """
    data = served.dataset
    numbers = np.arange(1, data.n_items + 1) if request.allow is None else np.asarray(request.allow)
    able = numbers[~np.isin(numbers, request.exclude)].astype(np.int64)
    columns: list[list[dict[str, Any]]] = []
    for one in served.offers.values():
        if one.part in _WORDS:
            scores = one.scores(request.query, able)
            columns.append([_part(_WORDS[one.part], one.title, scores, item, len(able)) for item in items])
    similar = _by_texts(served, request, able)
    if similar is not None:
        columns.append(
            [_part("text", "similarity of texts to the history's", similar, item, len(able)) for item in items]
        )
    if offer.slow:
        own = {data.items.number(one.item_id): one.score for one in scored}
        columns.append([_part("language model", offer.title, own, item, len(own)) for item in items])
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in items]


def _part(part: str, system: str, scores: dict[int, float], item: int, of: int) -> dict[str, Any]:
    if item not in scores:
        return {"part": part, "system": system, "score": None, "place": None, "of": of}
    own = scores[item]
    place = 1 + sum(score > own for score in scores.values())
    return {"part": part, "system": system, "score": own, "place": place, "of": of}


def _by_texts(served: Served, request: ResolvedRequest, able: np.ndarray) -> dict[int, float] | None:
    """Cosine of each item's text vector to the mean of the history's latest; none where no text vectors are served."""
    speaker = served.speaker
    if speaker is None or not len(request.query.history):
        return None
    table = speaker.ranker.joint
    vectors = table.text.float().cpu().numpy()
    vectors = vectors - vectors[1:].mean(axis=0)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    latest = request.query.history[-served.run.config.answer.retrieve.max_history :]
    has_text = table.has_text.cpu().numpy()
    wanted = vectors[latest].mean(axis=0)
    scores = vectors[able] @ wanted
    return {int(item): float(score) for item, score in zip(able, scores, strict=True) if has_text[item]}

"""allmrec: gives an existing recommender a language model (A-LLMRec, KDD 2024).

Names are imported when they are first used, so that `import allmrec` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmrec.core.first_use import first_used

if TYPE_CHECKING:
    from allmrec.client import AsyncClient, Client
    from allmrec.core.callbacks import Callback
    from allmrec.data import InteractionDataset
    from allmrec.data.build import read_movielens, read_table
    from allmrec.data.memory import dataset
    from allmrec.evaluation import Report
    from allmrec.export.pretrained import TrainedALLMRec as ALLMRec
    from allmrec.library import Run, evaluate, open_run, train
    from allmrec.recommend.request import Recommendations, Request

__all__ = [
    "ALLMRec",
    "AsyncClient",
    "Callback",
    "Client",
    "InteractionDataset",
    "Recommendations",
    "Report",
    "Request",
    "Run",
    "dataset",
    "evaluate",
    "open_run",
    "read_movielens",
    "read_table",
    "train",
]

_HOMES = {
    "ALLMRec": "allmrec.export.pretrained:TrainedALLMRec",
    "AsyncClient": "allmrec.client",
    "Callback": "allmrec.core.callbacks",
    "Client": "allmrec.client",
    "InteractionDataset": "allmrec.data",
    "Recommendations": "allmrec.recommend.request",
    "Report": "allmrec.evaluation",
    "Request": "allmrec.recommend.request",
    "Run": "allmrec.library",
    "dataset": "allmrec.data.memory",
    "evaluate": "allmrec.library",
    "open_run": "allmrec.library",
    "read_movielens": "allmrec.data.build",
    "read_table": "allmrec.data.build",
    "train": "allmrec.library",
}

__getattr__, __dir__ = first_used(__name__, _HOMES)

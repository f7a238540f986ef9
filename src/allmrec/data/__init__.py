"""Interactions and item texts: sources, cleaning, splits, negatives and batches.

Names are imported when they are first used, so that a module of this package costs what it needs itself: processes that read files load
no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmrec.core.first_use import first_used

if TYPE_CHECKING:
    from allmrec.data.batching import SequenceBatch, left_pad
    from allmrec.data.build import PrepareConfig, build_dataset, prepare, prepare_source, read_movielens, read_table
    from allmrec.data.catalogue import Catalogue, ItemTextTemplate
    from allmrec.data.interactions import InteractionDataset
    from allmrec.data.negatives import sample_negatives
    from allmrec.data.provenance import Provenance, SourceFile, Step, Summary
    from allmrec.data.sources import SOURCES, MovieLensConfig, RawData, Source, TableConfig
    from allmrec.data.splitting import Split, leave_one_out
    from allmrec.data.texts import clean_text
    from allmrec.data.vocabulary import Vocabulary

__all__ = [
    "SOURCES",
    "Catalogue",
    "InteractionDataset",
    "ItemTextTemplate",
    "MovieLensConfig",
    "PrepareConfig",
    "Provenance",
    "RawData",
    "SequenceBatch",
    "Source",
    "SourceFile",
    "Split",
    "Step",
    "Summary",
    "TableConfig",
    "Vocabulary",
    "build_dataset",
    "clean_text",
    "leave_one_out",
    "left_pad",
    "prepare",
    "prepare_source",
    "read_movielens",
    "read_table",
    "sample_negatives",
]

_HOMES = {
    "Catalogue": "allmrec.data.catalogue",
    "InteractionDataset": "allmrec.data.interactions",
    "ItemTextTemplate": "allmrec.data.catalogue",
    "MovieLensConfig": "allmrec.data.sources",
    "PrepareConfig": "allmrec.data.build",
    "Provenance": "allmrec.data.provenance",
    "RawData": "allmrec.data.sources",
    "SOURCES": "allmrec.data.sources",
    "SequenceBatch": "allmrec.data.batching",
    "Source": "allmrec.data.sources",
    "SourceFile": "allmrec.data.provenance",
    "Split": "allmrec.data.splitting",
    "Step": "allmrec.data.provenance",
    "Summary": "allmrec.data.provenance",
    "TableConfig": "allmrec.data.sources",
    "Vocabulary": "allmrec.data.vocabulary",
    "build_dataset": "allmrec.data.build",
    "clean_text": "allmrec.data.texts",
    "leave_one_out": "allmrec.data.splitting",
    "left_pad": "allmrec.data.batching",
    "prepare": "allmrec.data.build",
    "prepare_source": "allmrec.data.build",
    "read_movielens": "allmrec.data.build",
    "read_table": "allmrec.data.build",
    "sample_negatives": "allmrec.data.negatives",
}

__getattr__, __dir__ = first_used(__name__, _HOMES)

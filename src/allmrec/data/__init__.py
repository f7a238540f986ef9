"""Interactions and item texts: sources, cleaning, splits, negatives and batches."""

from __future__ import annotations

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

"""Interactions and item texts: sources, cleaning, splits, negatives and batches; knows no model."""

from __future__ import annotations

from allmrec.data.batching import SequenceBatch, left_pad
from allmrec.data.catalogue import Catalogue, ItemTextTemplate
from allmrec.data.interactions import InteractionDataset
from allmrec.data.negatives import sample_negatives
from allmrec.data.provenance import Provenance, SourceFile, Step, Summary
from allmrec.data.splitting import Split, leave_one_out
from allmrec.data.vocabulary import Vocabulary

__all__ = [
    "Catalogue",
    "InteractionDataset",
    "ItemTextTemplate",
    "Provenance",
    "SequenceBatch",
    "SourceFile",
    "Split",
    "Step",
    "Summary",
    "Vocabulary",
    "leave_one_out",
    "left_pad",
    "sample_negatives",
]

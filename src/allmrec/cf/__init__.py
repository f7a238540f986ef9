"""Collaborative filtering: the backbone protocol, models, pre-training and ranking by them."""

from __future__ import annotations

from allmrec.cf.backbone import Backbone, SequenceBackbone, check_numbers, with_parameters
from allmrec.cf.gru4rec import GRU4Rec, GRU4RecConfig
from allmrec.cf.imported import Imported, ImportedConfig, import_vectors
from allmrec.cf.losses import Objective, binary_cross_entropy
from allmrec.cf.ncf import NCF, NCFConfig
from allmrec.cf.nextitnet import NextItNet, NextItNetConfig
from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.recommender import BackboneRecommender, query_batch
from allmrec.cf.registry import BACKBONES, BackboneKind, backbone_kind
from allmrec.cf.samples import NegativeSampler, TrainingBatch, TrainingWindows, training_windows
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.cf.validation import ValidationSample
from allmrec.cf.vector_files import read_vectors

__all__ = [
    "BACKBONES",
    "NCF",
    "Backbone",
    "BackboneKind",
    "BackboneRecommender",
    "GRU4Rec",
    "GRU4RecConfig",
    "Imported",
    "ImportedConfig",
    "NCFConfig",
    "NegativeSampler",
    "NextItNet",
    "NextItNetConfig",
    "Objective",
    "PretrainConfig",
    "SASRec",
    "SASRecConfig",
    "SequenceBackbone",
    "TrainingBatch",
    "TrainingWindows",
    "ValidationSample",
    "backbone_kind",
    "binary_cross_entropy",
    "check_numbers",
    "import_vectors",
    "pretrain",
    "query_batch",
    "read_vectors",
    "training_windows",
    "with_parameters",
]

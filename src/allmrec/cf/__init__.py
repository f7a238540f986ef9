"""Collaborative filtering: the backbone protocol, SASRec, pre-training and ranking by it; knows no text."""

from __future__ import annotations

from allmrec.cf.backbone import Backbone, SequenceBackbone
from allmrec.cf.losses import binary_cross_entropy
from allmrec.cf.pretrain import PretrainConfig, pretrain
from allmrec.cf.recommender import BackboneRecommender, query_batch
from allmrec.cf.registry import BACKBONES, BackboneKind, backbone_kind
from allmrec.cf.samples import NegativeSampler, TrainingWindows, training_windows
from allmrec.cf.sasrec import SASRec, SASRecConfig
from allmrec.cf.validation import ValidationSample

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneKind",
    "BackboneRecommender",
    "NegativeSampler",
    "PretrainConfig",
    "SASRec",
    "SASRecConfig",
    "SequenceBackbone",
    "TrainingWindows",
    "ValidationSample",
    "backbone_kind",
    "binary_cross_entropy",
    "pretrain",
    "query_batch",
    "training_windows",
]

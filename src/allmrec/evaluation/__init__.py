"""How systems are compared: frozen protocols, metrics with intervals, reports."""

from __future__ import annotations

from allmrec.evaluation.catalogue import CatalogueRecommender, evaluate_recommenders
from allmrec.evaluation.either import Either
from allmrec.evaluation.evaluator import evaluate_rankers
from allmrec.evaluation.intervals import Estimate, bootstrap_mean, paired_difference
from allmrec.evaluation.metrics import hit, metric_values, ndcg, reciprocal_rank, target_rank, target_ranks
from allmrec.evaluation.order import OrderTest
from allmrec.evaluation.protocol import EvaluationProtocol, draw_protocol
from allmrec.evaluation.rendering import markdown, render, verdict
from allmrec.evaluation.report import Pair, PairedDifference, Report, SystemResult
from allmrec.evaluation.scenarios import cold_and_warm_items, scenario_masks

__all__ = [
    "CatalogueRecommender",
    "Either",
    "Estimate",
    "EvaluationProtocol",
    "OrderTest",
    "Pair",
    "PairedDifference",
    "Report",
    "SystemResult",
    "bootstrap_mean",
    "cold_and_warm_items",
    "draw_protocol",
    "evaluate_rankers",
    "evaluate_recommenders",
    "hit",
    "markdown",
    "metric_values",
    "ndcg",
    "paired_difference",
    "reciprocal_rank",
    "render",
    "scenario_masks",
    "target_rank",
    "target_ranks",
    "verdict",
]

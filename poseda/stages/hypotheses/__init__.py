"""Many hypotheses of a pose, and one pose of them: see stage.py."""

from poseda.stages.hypotheses.aggregation import aggregate, aggregate_by_reprojection, reprojection_errors
from poseda.stages.hypotheses.stage import Hypotheses, HypothesesConfig

STAGE = Hypotheses

__all__ = [
    "STAGE",
    "Hypotheses",
    "HypothesesConfig",
    "aggregate",
    "aggregate_by_reprojection",
    "reprojection_errors",
]

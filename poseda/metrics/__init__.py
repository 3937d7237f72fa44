"""Pose errors, protocols, evaluation by sums and counts, domain statistics and distribution gaps."""

from poseda.metrics.accumulate import Evaluation, PoseErrors, evaluate_poses, measure_poses
from poseda.metrics.gaps import domain_gap, rbf_mmd, sliced_wasserstein, wasserstein_1d, wasserstein_circle
from poseda.metrics.pose import auc, joint_errors, mpjpe, mpjve, n_mpjpe, pa_mpjpe, pck
from poseda.metrics.protocols import PROTOCOLS, Protocol, get_protocol, with_options
from poseda.metrics.statistics import DomainStatistics, domain_statistics, view_direction

__all__ = [
    "PROTOCOLS",
    "DomainStatistics",
    "Evaluation",
    "PoseErrors",
    "Protocol",
    "auc",
    "domain_gap",
    "domain_statistics",
    "evaluate_poses",
    "get_protocol",
    "joint_errors",
    "measure_poses",
    "mpjpe",
    "mpjve",
    "n_mpjpe",
    "pa_mpjpe",
    "pck",
    "rbf_mmd",
    "sliced_wasserstein",
    "view_direction",
    "wasserstein_1d",
    "wasserstein_circle",
    "with_options",
]

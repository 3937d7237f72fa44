"""How far stated uncertainties can be trusted: coverage, NLL, sharpness, sparsification, binned errors."""

from poseda.metrics.calibration.densities import DENSITIES, Density, Stated, get_density
from poseda.metrics.calibration.evaluation import Calibration, evaluate_calibration
from poseda.metrics.calibration.sparsification import Sparsification, sparsify

__all__ = [
    "DENSITIES",
    "Calibration",
    "Density",
    "Sparsification",
    "Stated",
    "evaluate_calibration",
    "get_density",
    "sparsify",
]

"""Calibration of stated uncertainties against true errors, in one pass over whole tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from poseda.errors import DataError, ShapeError
from poseda.metrics.calibration.densities import Stated
from poseda.metrics.calibration.sparsification import sparsify

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Levels 0.05, ..., 0.95 at which coverage is looked at."""
BINS = 15
"""Equal-count bins of ENCE."""


@dataclass(frozen=True)
class Calibration:
    """Numbers of one evaluation of uncertainties; joints count alike.

    `values`: "calibration_error" (%, mean over levels of |coverage - level|, all joints together; Kuleshov et al., ICML
    2018, with the absolute value), "calibration_error_max" (%), "calibration_error_joint" (%, mean over joints of each
    joint's own), "nll" (nats, mm; see Stated.nll), "sharpness" (mm, mean sigma), "mean_error" (mm), "ause" and "aurg"
    over joints, "ause_frame" and "aurg_frame" over frames (shares of the mean error; see Sparsification), "ence" (%,
    mean over bins of equal count in sigma of |RMSE - RMV| / RMV; Levi et al., Sensors 2022), "coverage90" (%, PICP:
    errors inside the 90 % ball) and "radius90" (mm, MPIW: its mean radius).
    """

    values: dict[str, float]
    levels: tuple[float, ...]
    coverage: tuple[float, ...]
    """Share of joints whose error lies inside the region of each level."""
    sparsification: dict[str, list[float]]
    """"removed", "curve" and "oracle" over joints, mm."""
    frames: int

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return asdict(self)


@torch.no_grad()
def evaluate_calibration(error: Tensor, stated: Stated, level: Tensor, radius90: Tensor) -> Calibration:
    """Calibration of what is stated of errors (F, J, 3) mm; without the root, whose error is 0 by definition.

    level (F, J): mass of the smallest stated region that holds each error (Density.level, or as recalibrated);
    radius90 (F, J) mm: ball said to hold 90 %. Raises ShapeError, and DataError for what is empty or not finite.
    """
    _check(error, stated, level, radius90)
    norm = error.double().norm(dim=-1)
    covered = coverage(level)  # (19, J)
    miss = covered - torch.tensor(LEVELS, dtype=covered.dtype, device=covered.device)[:, None]
    away, mean = miss.mean(1).abs(), covered.mean(1)
    joints = sparsify(norm.flatten(), stated.sigma.flatten())
    frames = sparsify(norm.mean(-1), stated.sigma.mean(-1))
    values = {
        "calibration_error": 100 * away.mean(),
        "calibration_error_max": 100 * away.max(),
        "calibration_error_joint": 100 * miss.abs().mean(),
        "nll": stated.nll(error).mean(),
        "sharpness": stated.sigma.double().mean(),
        "mean_error": norm.mean(),
        "ause": joints.ause,
        "aurg": joints.aurg,
        "ause_frame": frames.ause,
        "aurg_frame": frames.aurg,
        "ence": 100 * ence(norm.flatten(), stated.mean_square().flatten()),
        "coverage90": 100 * (norm <= radius90).double().mean(),
        "radius90": radius90.double().mean(),
    }
    curves = {name: getattr(joints, name).tolist() for name in ("removed", "curve", "oracle")}
    return Calibration({k: float(v) for k, v in values.items()}, LEVELS, tuple(mean.tolist()), curves, len(error))


def coverage(level: Tensor) -> Tensor:
    """Share of frames inside the region of each of LEVELS, joint by joint: (F, J) -> (19, J), float64."""
    edges = torch.tensor(LEVELS, dtype=torch.float64, device=level.device)
    place = torch.bucketize(level.double(), edges)  # the first of LEVELS that is not below the error's own
    counts = torch.zeros(len(LEVELS) + 1, level.shape[1], dtype=torch.float64, device=level.device)
    counts.scatter_add_(0, place, torch.ones_like(place, dtype=torch.float64))
    return counts.cumsum(0)[:-1] / len(level)


def ence(error: Tensor, mean_square: Tensor) -> Tensor:
    """Expected normalised calibration error: errors (N,) mm and stated E[error²] (N,) mm² -> scalar, 0 = perfect.

    Mean over BINS bins, of as many joints each, of |RMSE - RMV| / RMV with RMV the root of the bin's mean stated square
    (Levi et al., Sensors 2022). Fewer than BINS values make a bin each.
    """
    order = mean_square.argsort(stable=True)
    bins = min(BINS, len(error))
    owner = torch.arange(len(error), device=error.device) * bins // len(error)
    sums = torch.zeros(2, bins, dtype=torch.float64, device=error.device)
    pairs = torch.stack([error.double().square()[order], mean_square.double()[order]])
    rmse, rmv = sums.index_add_(1, owner, pairs).sqrt()  # both of the same count, which cancels
    away: Tensor = (rmse - rmv).abs() / rmv
    return away.mean()


def _check(error: Tensor, stated: Stated, level: Tensor, radius90: Tensor) -> None:
    shapes = [tuple(t.shape) for t in (stated.sigma, level, radius90)]
    if error.dim() != 3 or error.shape[-1] != 3 or any(shape != tuple(error.shape[:2]) for shape in shapes):
        raise ShapeError(
            f"Expected errors (F, J, 3) with sigma, level and radius (F, J): got {tuple(error.shape)}, {shapes}."
        )
    if error.numel() == 0:
        raise DataError("There is no error to compare uncertainties with.")
    for name, values in (("error", error), ("sigma", stated.sigma), ("level", level), ("radius", radius90)):
        if not bool(values.isfinite().all()):
            raise DataError(f"A stated uncertainty cannot be scored: some {name} is not finite.")
    if not bool((stated.sigma > 0).all()):
        raise DataError("A stated uncertainty cannot be scored: some sigma is not above 0.")

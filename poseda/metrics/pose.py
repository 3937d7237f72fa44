"""Pose errors as pure functions on tensors (..., J, 3) in mm, root-relative unless said otherwise."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.errors import ShapeError
from poseda.geometry.alignment import procrustes, scale_align

PCK_THRESHOLD = 150.0
AUC_THRESHOLDS = tuple(float(step) for step in range(0, 151, 5))


def joint_errors(pred: Tensor, target: Tensor) -> Tensor:
    """Euclidean distance of each joint. pred, target: (..., J, 3) mm -> (..., J) mm."""
    _check_pair(pred, target)
    errors: Tensor = torch.linalg.vector_norm(pred - target, dim=-1)
    return errors


def mpjpe(pred: Tensor, target: Tensor) -> Tensor:
    """Mean per-joint position error ("Protocol 1"). pred, target: (..., J, 3) mm -> scalar mm."""
    return joint_errors(pred, target).mean()


def pa_mpjpe(pred: Tensor, target: Tensor) -> Tensor:
    """MPJPE after similarity alignment of each frame, no reflection ("Protocol 2"). (..., J, 3) mm -> mm."""
    _check_pair(pred, target)
    return mpjpe(procrustes(pred, target), target)


def n_mpjpe(pred: Tensor, target: Tensor) -> Tensor:
    """MPJPE after the best scale of each frame alone (Rhodin et al. 2018). (..., J, 3) mm -> scalar mm."""
    _check_pair(pred, target)
    return mpjpe(scale_align(pred, target), target)


def velocity_errors(pred: Tensor, target: Tensor) -> Tensor:
    """Error of each joint's step to the next frame. pred, target: (F, J, 3) mm -> (F-1, J) mm a frame."""
    return joint_errors(pred.diff(dim=0), target.diff(dim=0))


def within_sequence(bounds: Tensor) -> Tensor:
    """Whether the next frame is of the same sequence. bounds: (S+1,) increasing, 0 to F -> (F-1,) bool."""
    frames = int(bounds[-1])
    inside = torch.ones(max(frames - 1, 0), dtype=torch.bool, device=bounds.device)
    inside[bounds[1:-1] - 1] = False
    return inside


def mpjve(pred: Tensor, target: Tensor, bounds: Tensor | None = None) -> Tensor:
    """Mean per-joint velocity error within sequences. pred, target: (F, J, 3) mm -> scalar mm per frame.

    `bounds` (S+1,) marks where the sequences begin and end; without it all frames are one sequence. NaN where
    no sequence has two frames.
    """
    errors = velocity_errors(pred, target)
    return errors.mean() if bounds is None else errors[within_sequence(bounds)].mean()


def pck(errors: Tensor, threshold: float = PCK_THRESHOLD) -> Tensor:
    """Percentage of correct keypoints: errors strictly below `threshold`. errors: (...) mm -> scalar %."""
    return 100.0 * (errors < threshold).to(errors.dtype).mean()


def auc(errors: Tensor, thresholds: tuple[float, ...] = AUC_THRESHOLDS) -> Tensor:
    """Area under the PCK curve: mean PCK over `thresholds` (3DHP: 0:5:150). errors: (...) mm -> scalar %."""
    return 100.0 * threshold_shares(errors, thresholds).mean()


def threshold_shares(errors: Tensor, thresholds: tuple[float, ...] = AUC_THRESHOLDS) -> Tensor:
    """Share of the increasing `thresholds` strictly above each error. errors: (...) mm -> (...) in [0, 1].

    Its mean is the AUC, so that one number a joint stands for the whole curve and sums over frames can be
    merged.
    """
    limits = torch.tensor(thresholds, dtype=errors.dtype, device=errors.device)
    not_above = torch.bucketize(errors, limits, right=True)
    return 1.0 - not_above.to(errors.dtype) / len(thresholds)


def _check_pair(pred: Tensor, target: Tensor) -> None:
    if pred.shape != target.shape or pred.dim() < 2 or pred.shape[-1] != 3:
        raise ShapeError(
            "Predictions and targets must both be (..., joints, 3) and alike: "
            f"got {tuple(pred.shape)} and {tuple(target.shape)}."
        )

"""What can be said of predictions without any label: how they fit their 2D, and how much they are one body."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from poseda.errors import ShapeError
from poseda.geometry.bones import bone_lengths
from poseda.geometry.camera import Camera
from poseda.geometry.root import place_by_keypoints
from poseda.metrics.pose import within_sequence
from poseda.skeleton import Skeleton

DESCRIPTION = "no labels: reprojection after the closed-form root; bones and jitter of the predictions alone"


@dataclass(frozen=True)
class LabelFreeEvaluation:
    """Numbers of one evaluation without labels. None of them is an accuracy: a wrong pose can score well on all."""

    values: dict[str, float]
    """"reprojection" (px), "symmetry" (mm between left and right bones), "constancy" (mm, deviation of a bone's length
    inside a sequence), "jitter" (mm per squared frame, mean acceleration of joints about the root); without those that
    are not defined, such as the fit of poses that no root brings before the camera."""
    frames: int

    def describe(self) -> str:
        """How the numbers are computed, in a sentence."""
        return DESCRIPTION

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and numbers."""
        return {**asdict(self), "describe": DESCRIPTION}


@torch.no_grad()
def evaluate_without_labels(
    poses: Tensor, keypoints: Tensor, confidence: Tensor, cameras: Camera, bounds: Tensor, skeleton: Skeleton
) -> LabelFreeEvaluation:
    """Fit, symmetry, constancy and jitter of predictions that have no labels.

    poses: (F, J, 3) mm, root-relative in camera axes; keypoints: (F, J, 2) px; confidence: (F, J), 0 = missing;
    cameras: (F,); bounds: (S + 1,). A joint's reprojection error counts with its confidence. Raises ShapeError.
    """
    if poses.shape[:2] != keypoints.shape[:2] or len(cameras) != len(poses):
        raise ShapeError(
            f"Expected poses, keypoints and cameras of the same frames, got {tuple(poses.shape)}, "
            f"{tuple(keypoints.shape)} and {len(cameras)}."
        )
    lengths = bone_lengths(poses, skeleton).double()  # (F, E)
    values = {
        "reprojection": reprojection_error(poses, keypoints, confidence, cameras),
        "symmetry": _symmetry(lengths, skeleton),
        "constancy": _constancy(lengths, bounds),
        "jitter": _jitter(poses, bounds),
    }
    known = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    return LabelFreeEvaluation(known, len(poses))


def reprojection_error(poses: Tensor, keypoints: Tensor, confidence: Tensor, cameras: Camera) -> float:
    """Mean distance in px between keypoints and the projected pose, its root solved for; arguments as above.

    Weighted by confidence; frames whose root cannot be found are left out. NaN where there is none.
    """
    _, valid, place = place_by_keypoints(poses, cameras.unproject(keypoints), confidence)
    weight = (confidence * valid.unsqueeze(-1)).double()
    error = (cameras.project(place) - keypoints).norm(dim=-1).double()
    total = float(weight.sum())
    return float(torch.where(weight > 0, weight * error, 0.0).sum()) / total if total else float("nan")


def _symmetry(lengths: Tensor, skeleton: Skeleton) -> float | None:
    left, right = ([pair[side] for pair in skeleton.bone_pairs] for side in (0, 1))
    return float((lengths[:, left] - lengths[:, right]).abs().mean()) if left else None


def _constancy(lengths: Tensor, bounds: Tensor) -> float:
    counts = bounds.diff()
    owner = torch.arange(len(counts), device=bounds.device).repeat_interleave(counts)
    sums = lengths.new_zeros(len(counts), lengths.shape[1]).index_add_(0, owner, lengths)
    away = lengths - (sums / counts.unsqueeze(-1))[owner]
    squares = lengths.new_zeros(sums.shape).index_add_(0, owner, away.square())
    deviation = (squares / counts.unsqueeze(-1)).sqrt()  # (S, E)
    return float((deviation * counts.unsqueeze(-1)).sum(0).div(counts.sum()).mean())


def _jitter(poses: Tensor, bounds: Tensor) -> float | None:
    step = within_sequence(bounds)  # (F - 1,) a frame and the next are of one sequence
    inside = step[1:] & step[:-1]
    if not bool(inside.any()):
        return None
    bend = poses[2:] - 2 * poses[1:-1] + poses[:-2]
    return float(bend.norm(dim=-1).mean(-1)[inside].double().mean())

"""Where a teacher's poses stand, and what they look like turned about the vertical."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.data.batches import TargetBatch
from poseda.data.checks import MINIMUM_VISIBLE
from poseda.geometry.boxes import box_scale
from poseda.geometry.camera import vertical
from poseda.geometry.root import place_by_keypoints
from poseda.geometry.rotations import rotate, rotate_about_axis
from poseda.lifters.base import Lifter

NEAREST_MM = 300.0
"""A turned pose that comes nearer to the camera is not used."""


def place_poses(pose: Tensor, target: TargetBatch, residual: float) -> tuple[Tensor, Tensor]:
    """Roots (B, T', 3) mm at which poses (B, T', J, 3) fit the target's 2D, and the weight (B,) of each window.

    Poses, in camera axes, may be those of the middle frames alone. Weight exp(-(r / residual)²), r the mean distance
    to the visible keypoints in boxes; 0 where a frame has no box or no root.
    """
    keypoints, visible = frames_of(target.keypoints, pose), frames_of(target.visible, pose)
    seen = visible.to(pose.dtype)
    root, valid, place = place_by_keypoints(pose, target.cameras.unproject(keypoints), seen)
    distance = torch.where(visible, (target.cameras.project(place) - keypoints).norm(dim=-1), 0.0)
    box = box_scale(keypoints, visible)
    usable = (valid & (box > 1.0) & (visible.sum(-1) >= MINIMUM_VISIBLE)).all(1)
    share = (distance.sum(-1) / seen.sum(-1).clamp_min(1.0) / box.clamp_min(1.0)).mean(1)
    return root, torch.where(usable, torch.exp(-((share / residual) ** 2)), 0.0)


def frames_of(windows: Tensor, pose: Tensor) -> Tensor:
    """The frames (B, T', ...) of windows (B, T, ...) that poses (B, T', ...) belong to: all, or the middle one."""
    if windows.shape[1] == pose.shape[1]:
        return windows
    middle = windows.shape[1] // 2
    return windows[:, middle : middle + 1]


def turn_poses(
    lifter: Lifter, target: TargetBatch, pose: Tensor, root: Tensor, angle: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Windows turned about the vertical through the root: what the lifter sees of them (B, T, J, inputs), their poses
    (B, T, J, 3) mm in the axes of its view, and which (B,) bool can be used.

    pose (B, T, J, 3) and root (B, T, 3) mm are in camera axes; angle (B, 1) rad. The 2D is the projection of the
    placed, turned pose; joints that the target misses are missing in it too. A window that comes too near to the
    camera cannot be used.
    """
    cameras = target.cameras
    turned = rotate_about_axis(pose, vertical(cameras)[:, None, None], angle[..., None])
    place = turned + root.unsqueeze(-2)
    in_front = (place[..., 2] > NEAREST_MM).flatten(1).all(1)
    seen = lifter.see(cameras.project(place), target.visible, cameras)
    return seen.keypoints, turned if seen.rotation is None else rotate(seen.rotation, turned), in_front

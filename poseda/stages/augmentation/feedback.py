"""PoseAug's feedback: how much harder the lifter finds augmented poses than those that they were made of."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.geometry.camera import Camera
from poseda.lifters.base import MM_PER_METRE, Lifter, evaluation_mode
from poseda.skeleton import Skeleton, index_tensor
from poseda.stages.augmentation.adversarial import frozen

Framed = tuple[Tensor, Tensor, Camera]
"""Windows of screen-normalised 2D (B, T, J, 2), poses (B, T, J, 3) mm, and their cameras (B,)."""
GROUPS = (("hip", "shoulder"), ("knee", "elbow", "head"), ("ankle", "wrist"))
"""Joints near, further from and far from the trunk (PoseAug); its weights within a group cancel in the ratio."""
FLOOR = 1e-4
"""Smallest error of a plain pose that counts, m² (1 cm): a pose that is lifted perfectly gives no infinite ratio."""


def group_joints(skeleton: Skeleton) -> list[tuple[int, ...]]:
    """Indices of the joints of each group that the skeleton has; groups without any are left out."""
    parts = [name[1:] if skeleton.mirror[i] != i else name for i, name in enumerate(skeleton.joints)]
    found = [tuple(i for i, part in enumerate(parts) if part in group) for group in GROUPS]
    return [group for group in found if group]


def group_errors(lifter: Lifter, keypoints: Tensor, poses: Tensor, cameras: Camera | None = None) -> Tensor:
    """Mean squared error in m² of the middle frame, (B, groups), for windows of screen 2D and poses in mm.

    cameras (B,) are needed by a lifter that does not see the screen itself.
    """
    root = lifter.skeleton.root
    with evaluation_mode(lifter), frozen(lifter):
        lifted = lifter.lift_screen(keypoints, cameras).pose
    middle = poses[:, poses.shape[1] // 2]
    error = (lifted[:, lifted.shape[1] // 2] - (middle - middle[:, root : root + 1])) / MM_PER_METRE
    squares = error.square().sum(-1)  # (B, J)
    groups = [index_tensor(group, squares.device) for group in group_joints(lifter.skeleton)]
    return torch.stack([squares.index_select(1, group).mean(1) for group in groups], 1)


@torch.no_grad()
def usual_errors(lifter: Lifter, keypoints: Tensor, poses: Tensor, cameras: Camera | None = None) -> Tensor:
    """`group_errors` of plain windows, at least FLOOR: what hardness is measured by."""
    return group_errors(lifter, keypoints, poses, cameras).clamp_min(FLOOR)


def hardness(lifter: Lifter, made: Framed, plain: Framed) -> Tensor:
    """Ratios (B, groups) of the lifter's errors on made and plain windows.

    The lifter is in evaluation mode meanwhile and learns nothing; gradients reach what made the windows.
    """
    return group_errors(lifter, *made) / usual_errors(lifter, *plain)


def dead_zone(values: Tensor, middle: float, half_width: float) -> Tensor:
    """Mean of (v - middle)² over all values, of those alone that are further than half_width from it -> scalar."""
    away = values - middle
    return (away.square() * (away.abs() > half_width)).mean()

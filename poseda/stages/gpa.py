"""GPA, global position alignment: source poses are re-placed so that they project where and as large as target poses.

PoseDA (Chai et al., ICCV 2023), the authors' published function, with two of its defects mended: each sample has the
intrinsics of its own target camera, and fixed-point steps remove the bias of the closed form, which measures the box
as if all joints were equally deep. Nothing is learned; the root-relative pose does not change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch, TargetBatch
from poseda.data.clips import UnlabelledClips
from poseda.errors import ConfigError
from poseda.geometry.boxes import box_scale
from poseda.geometry.camera import Camera
from poseda.stages.base import Setting, Stage

SMALLEST_BOX = 0.01
"""Boxes below this share of the image width are degenerate: the depth that they ask for tends to infinity."""


@dataclass(frozen=True)
class GPAConfig:
    """Options of global position alignment."""

    refine_iters: int = 2
    """Fixed-point steps after the closed form; 0 is PoseDA as published, 2 matches the box within 0.2 %."""
    nearest_joint_mm: float = 300.0
    """Poses that come closer to the camera than this are left out of the step."""

    def __post_init__(self) -> None:
        if self.refine_iters < 0:
            raise ConfigError(f"gpa.refine_iters={self.refine_iters}: must be 0 or more.")
        if self.nearest_joint_mm < 0:
            raise ConfigError(f"gpa.nearest_joint_mm={self.nearest_joint_mm}: must be 0 or more.")


def aligned_root(
    pose: Tensor, keypoints: Tensor, visible: Tensor, cameras: Camera, *, root: int, refine_iters: int = 2,
    nearest_joint_mm: float = 300.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Root positions (N, 3) mm at which poses project with the place and size of target keypoints; (N,) bool: found.

    pose (N, J, 3) mm in the camera frame, its own position does not matter; keypoints (N, J, 2) px and visible (N, J)
    bool of the paired target people, whose cameras (N,) are used with their full lens model. Box and root are measured
    on the visible joints; where the root joint is missing the centre of the box stands for it.

    Depth in closed form (PoseDA): Z = (fx dX + fy dY) / 2s with s the mean side of the target's box and dX, dY the
    extents of the pose, then `refine_iters` times Z <- Z s_projected / s. The root lies on the target root's ray.
    Where a joint comes nearer than `nearest_joint_mm` the depth stays: the box of a pose that surrounds the camera says
    nothing about its size, and would throw it out to kilometres.
    """
    relative = pose - pose[:, root : root + 1]
    target_scale = box_scale(keypoints, visible)  # (N,)
    found = (target_scale > SMALLEST_BOX * cameras.width) & (visible.sum(-1) >= 2)
    target_scale = torch.where(found, target_scale, cameras.width)
    ray = _homogeneous(cameras.unproject(_root_pixel(keypoints, visible, root)))  # (N, 3) with z = 1
    focal = torch.stack([cameras.fx, cameras.fy], -1).unsqueeze(-2)  # (N, 1, 2)
    depth = box_scale(relative[..., :2] * focal, visible) / target_scale
    least = nearest_joint_mm - relative[..., 2].amin(-1)
    for _ in range(refine_iters):
        projected = cameras.project(relative + (depth.unsqueeze(-1) * ray).unsqueeze(-2))
        refined = depth * box_scale(projected, visible) / target_scale
        depth = torch.where(depth > least, refined, depth)
    return depth.unsqueeze(-1) * ray, found


def _root_pixel(keypoints: Tensor, visible: Tensor, root: int) -> Tensor:
    """(N, 2) px: the root joint, or the centre of the box of visible joints where the root is missing."""
    seen = visible.unsqueeze(-1)
    low = keypoints.masked_fill(~seen, torch.inf).amin(-2)
    high = keypoints.masked_fill(~seen, -torch.inf).amax(-2)
    centre = torch.where(visible.any(-1, keepdim=True), (low + high) / 2, torch.zeros_like(low))
    return torch.where(visible[:, root, None], keypoints[:, root], centre)


def _homogeneous(ray: Tensor) -> Tensor:
    return torch.cat([ray, torch.ones_like(ray[..., :1])], -1)


class GPA(Stage):
    """Align each drawn source window with a random target window: its middle frame decides, the clip moves rigidly."""

    Config = GPAConfig
    name = "gpa"
    label = "GPA"

    def __init__(self, config: GPAConfig | None = None) -> None:
        self.config = config or GPAConfig()
        self.root = 0

    def prepare(self, setting: Setting) -> str:
        """Count the target frames that cannot be aligned to."""
        self.root = setting.target.skeleton.root
        dropped = int((~self.usable(setting.target)).sum())
        if not dropped:
            return ""
        return f"{dropped} of {setting.target.num_frames} target frames are degenerate and are not used"

    def usable(self, target: UnlabelledClips) -> Tensor:
        """(F,) bool: at least two visible joints and a box that is more than a point."""
        scale = box_scale(target.keypoints, target.visible)
        width = target.cameras.width[target.camera_index]
        return (target.visible.sum(-1) >= 2) & (scale > SMALLEST_BOX * width)

    def align(self, source: SourceBatch, target: TargetBatch, generator: torch.Generator) -> SourceBatch:
        """Windows in the paired target cameras; those that stay too close to the camera get weight 0."""
        middle = source.poses.shape[1] // 2
        pose = source.poses[:, middle]
        place, found = aligned_root(
            pose,
            target.keypoints[:, middle],
            target.visible[:, middle],
            target.cameras,
            root=self.root,
            refine_iters=self.config.refine_iters,
            nearest_joint_mm=self.config.nearest_joint_mm,
        )
        shift = place - pose[:, self.root]  # (B, 3): one shift for all frames of a window
        poses = source.poses + shift[:, None, None]
        in_front = (poses[..., 2] > self.config.nearest_joint_mm).flatten(1).all(-1)
        # a window behind the camera has weight 0, and is put before it so that its projection stays finite
        poses = torch.where(in_front[:, None, None, None], poses, _far(source.poses, self.root))
        weight = source.weight * (found & in_front).to(source.weight.dtype)
        return replace(source, poses=poses, cameras=target.cameras, weight=weight)


def _far(poses: Tensor, root: int) -> Tensor:
    """The same clips with the middle root 10 m before the camera, on its axis."""
    middle = poses.shape[1] // 2
    away = poses.new_tensor([0.0, 0.0, 10_000.0])
    return poses - poses[:, middle : middle + 1, root : root + 1] + away


STAGE = GPA

"""What a domain looks like: size and place of people in the image, view direction, depth, bone lengths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.errors import DataError, ShapeError
from poseda.geometry.bones import bone_lengths
from poseda.geometry.boxes import box_scale
from poseda.skeleton import Skeleton

ANGLES = ("yaw",)
"""Quantities that live on a circle of 360 degrees."""


@dataclass(frozen=True)
class DomainStatistics:
    """One value a frame and quantity, over the frames whose root and at least one other joint are visible.

    2D quantities are in screen-normalised units (both axes divided by half the image width, origin in the
    middle). The 3D ones are None where there are no poses, `depth` also where the poses are root-relative.
    """

    scale: Tensor
    """(F,) mean side (width + height) / 2 of the box round the 2D pose."""
    root_u: Tensor
    """(F,) horizontal place of the root, rightward."""
    root_v: Tensor
    """(F,) vertical place of the root, downward."""
    yaw: Tensor | None
    """(F,) degrees in (-180, 180]: where the camera stands round the body; 0 in front of it, 90 at its left.
    """
    pitch: Tensor | None
    """(F,) degrees in [-90, 90]: how high the camera stands above the body's own horizontal plane."""
    depth: Tensor | None
    """(F,) metres from the camera plane to the root."""
    bone_lengths: Tensor | None
    """(F, E) mm, one column a bone of `bone_names`."""
    bone_names: tuple[str, ...]
    """The child joint of each bone."""
    bone_groups: dict[str, tuple[int, ...]]
    """Anatomical name -> the columns of its bones, left and right together."""

    def quantities(self) -> dict[str, Tensor]:
        """Return every quantity that is known by name, (F,) each; bones as "bone_<child joint>"."""
        named = {name: getattr(self, name) for name in ("scale", "root_u", "root_v", "yaw", "pitch", "depth")}
        if self.bone_lengths is not None:
            named |= {f"bone_{b}": self.bone_lengths[:, i] for i, b in enumerate(self.bone_names)}
        return {name: values for name, values in named.items() if values is not None}

    def placement(self) -> Tensor:
        """Return 2D scale, root u, root v as points. (F, 3)"""
        return torch.stack([self.scale, self.root_u, self.root_v], dim=1)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return "mean" and "std" (population) of every quantity; for yaw the circular ones, in degrees."""
        rows = {}
        for name, values in self.quantities().items():
            mean, std = circular_moments(values) if name in ANGLES else (values.mean(), values.std(correction=0))
            rows[name] = {"mean": float(mean), "std": float(std)}
        return rows


def domain_statistics(
    keypoints: Tensor, poses: Tensor | None, skeleton: Skeleton, visible: Tensor | None = None
) -> DomainStatistics:
    """Statistics of screen-normalised keypoints (F, J, 2) and poses (F, J, 3) mm in the camera frame.

    `visible` (F, J) says which keypoints are known. Poses are absolute, or root-relative (root at the
    origin), in which case the camera is taken to be far away along -z. Raises DataError where no frame has
    its root and another joint visible.
    """
    if keypoints.dim() != 3 or keypoints.shape[1:] != (skeleton.num_joints, 2):
        raise ShapeError(f"Keypoints must be (frames, {skeleton.num_joints}, 2): got {tuple(keypoints.shape)}.")
    if visible is None:
        visible = torch.ones(keypoints.shape[:2], dtype=torch.bool, device=keypoints.device)
    usable = visible[:, skeleton.root] & (visible.sum(dim=1) >= 2)
    if not bool(usable.any()):
        raise DataError("No frame has its root and another joint visible: there is nothing to take statistics of.")
    points, seen = keypoints[usable], visible[usable]
    root = points[:, skeleton.root]
    bodies = None if poses is None else poses[usable]
    yaw, pitch = (None, None) if bodies is None else view_direction(bodies, skeleton)
    return DomainStatistics(
        scale=box_scale(points, seen),
        root_u=root[:, 0],
        root_v=root[:, 1],
        yaw=yaw,
        pitch=pitch,
        depth=None if bodies is None else _root_depth(bodies, skeleton),
        bone_lengths=None if bodies is None else bone_lengths(bodies, skeleton),
        bone_names=skeleton.bone_names,
        bone_groups=dict(skeleton.bone_groups),
    )


def body_frame(poses: Tensor, skeleton: Skeleton) -> Tensor:
    """Axes of the trunk: left, up, forward as rows. poses: (..., J, 3) camera frame (y down) -> (..., 3, 3).

    Left is from the right hip to the left hip; up is from the pelvis to the thorax, made square to it.
    """
    left = poses[..., skeleton.index("lhip"), :] - poses[..., skeleton.index("rhip"), :]
    spine = poses[..., skeleton.index("thorax"), :] - poses[..., skeleton.root, :]
    left = torch.nn.functional.normalize(left, dim=-1)
    up = torch.nn.functional.normalize(spine - (spine * left).sum(-1, keepdim=True) * left, dim=-1)
    return torch.stack([left, up, torch.linalg.cross(left, up)], dim=-2)


def view_direction(poses: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Where the camera stands as the body sees it. poses: (..., J, 3) camera frame -> yaw, pitch in degrees.

    The direction runs from the root to the camera centre; for root-relative poses it is -z, a camera far
    away.
    """
    root = poses[..., skeleton.root, :]
    far = poses.new_tensor([0.0, 0.0, -1.0])
    at_origin = (root == 0).all(dim=-1, keepdim=True)
    toward = torch.where(at_origin, far, torch.nn.functional.normalize(-root, dim=-1))
    left, up, forward = (body_frame(poses, skeleton) @ toward.unsqueeze(-1)).squeeze(-1).unbind(-1)
    return torch.atan2(left, forward).rad2deg(), up.clamp(-1.0, 1.0).asin().rad2deg()


def circular_moments(degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Circular mean and standard deviation sqrt(-2 ln R). degrees: (N,) -> two scalars in degrees."""
    angle = degrees.deg2rad()
    x, y = angle.cos().mean(), angle.sin().mean()
    length = torch.hypot(x, y).clamp(min=torch.finfo(angle.dtype).tiny, max=1.0)
    return torch.atan2(y, x).rad2deg(), (-2 * length.log()).sqrt().rad2deg()


def _root_depth(poses: Tensor, skeleton: Skeleton) -> Tensor | None:
    """Depth of the root in metres, or None for root-relative poses. (F, J, 3) mm -> (F,)"""
    depth = poses[:, skeleton.root, 2]
    return None if bool((depth == 0).all()) else depth / 1000.0

"""Pre-defined changes of poses: bones turn, bones lengthen, the body turns, the body moves. All frames of a window keep
one set of bone lengths, and turns of bones are the same in all of them or grow smoothly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from poseda.errors import choose
from poseda.geometry.bones import bone_vectors, joints_from_bones, unit_bones
from poseda.geometry.rotations import axis_angle_to_matrix
from poseda.skeleton import Skeleton, get_skeleton

TRUNK = ("spine", "torso")
"""Bone groups whose direction stays: the trunk carries the pose (PoseAug's code freezes these)."""


def ramp(frames: int, like: Tensor) -> Tensor:
    """(T,) factors of a change that grows evenly along a window, 1 in the middle and for a single frame."""
    middle = max(frames // 2, 1)
    return torch.arange(frames, dtype=like.dtype, device=like.device) / middle if frames > 1 else like.new_ones(1)


def bend(poses: Tensor, angles: Tensor, skeleton: Skeleton, form: str = "axis_angle", clip: str = "constant") -> Tensor:
    """Windows (B, T, J, 3) mm with bones turned by angles (B, E, 3); roots and bone lengths stay.

    axis_angle: rotation vectors in rad (AdaptPose); additive: added to the unit bone, which is made a unit again
    (PoseAug's code). Each bone turns about its own start: children keep their directions.
    """
    bones = bone_vectors(poses, skeleton)  # (B, T, E, 3)
    change = angles[:, None]
    if clip == "ramp":
        change = change * ramp(poses.shape[1], angles)[:, None, None]
    if form == "axis_angle":
        turned = (axis_angle_to_matrix(change) @ bones.unsqueeze(-1)).squeeze(-1)
    else:
        turned = unit_bones(unit_bones(bones) + change) * bones.norm(dim=-1, keepdim=True)
    return joints_from_bones(turned, skeleton, poses[:, :, skeleton.root])


def bone_turns(pose: Tensor, angles: Tensor, skeleton: Skeleton, form: str) -> Tensor:
    """1 - cos of how far each bone (B, E) of a pose (B, J, 3) mm turns, PoseAug's measure, at most for axis_angle."""
    if form == "axis_angle":
        return 1 - torch.cos(angles.norm(dim=-1))
    unit = unit_bones(bone_vectors(pose, skeleton))
    return 1 - (unit * unit_bones(unit + angles)).sum(-1)


def stretch(poses: Tensor, ratios: Tensor, skeleton: Skeleton) -> Tensor:
    """Windows (B, T, J, 3) mm with each bone's length changed by the share (B, E) in all frames; roots stay."""
    bones = bone_vectors(poses, skeleton) * (1 + ratios)[:, None, :, None]
    return joints_from_bones(bones, skeleton, poses[:, :, skeleton.root])


def turn(poses: Tensor, rotation: Tensor, skeleton: Skeleton) -> Tensor:
    """Windows (B, T, J, 3) mm turned by (B, 3, 3) about the root of their middle frame, which stays."""
    pivot = poses[:, poses.shape[1] // 2, skeleton.root][:, None, None]  # (B, 1, 1, 3)
    return (poses - pivot) @ rotation.mT.unsqueeze(1) + pivot


def move(poses: Tensor, place: Tensor, skeleton: Skeleton) -> Tensor:
    """Windows (B, T, J, 3) mm shifted so that the root of their middle frame is at `place` (B, 3) mm."""
    middle = poses[:, poses.shape[1] // 2, skeleton.root]
    return poses + (place - middle)[:, None, None]


def group_index(skeleton: Skeleton) -> Tensor:
    """(E,) number of the symmetric group that each bone belongs to, in the order of `skeleton.bone_groups`."""
    groups = skeleton.bone_groups.values()
    group_of = {bone: number for number, members in enumerate(groups) for bone in members}
    return torch.tensor([group_of[bone] for bone in range(len(skeleton.bones))])


def free_groups(skeleton: Skeleton, held: Sequence[str], option: str) -> Tensor:
    """(G,) 1 for the bone groups that may change, 0 for those `held`; ConfigError for a name that is no group.

    A name of Human3.6M's groups that the skeleton lacks holds nothing.
    """
    for name in held:
        choose(name, {*skeleton.bone_groups, *get_skeleton("h36m17").bone_groups}, f"bone group of {option}")
    return torch.tensor([float(name not in held) for name in skeleton.bone_groups])

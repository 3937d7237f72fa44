"""Bones: vectors between joints, their lengths and directions, and the way back to joints."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.skeleton import Skeleton, index_tensor


def bone_vectors(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Bone vectors, child minus parent: (..., J, 3) mm -> (..., E, 3) mm, in the order of skeleton.bones.

    Gathers and subtracts instead of multiplying by the bone matrix: exact for absolute joints under TF32 too.
    """
    parents, children = (index_tensor(ends, joints.device) for ends in zip(*skeleton.bones, strict=True))
    return joints.index_select(-2, children) - joints.index_select(-2, parents)


def bone_lengths(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Bone lengths: (..., J, 3) mm -> (..., E) mm."""
    lengths: Tensor = torch.linalg.vector_norm(bone_vectors(joints, skeleton), dim=-1)
    return lengths


def joints_from_bones(bones: Tensor, skeleton: Skeleton, root: Tensor | None = None) -> Tensor:
    """Joints along the tree: (..., E, 3) mm bones -> (..., J, 3) mm, from `root` (..., 3) mm or from 0.

    Where TF32 has been switched on for matrix products, lengths are rounded by up to 0.05 %.
    """
    with torch.autocast(bones.device.type, enabled=False):  # 16-bit sums would be off by millimetres
        joints = torch.einsum("je,...ec->...jc", skeleton.path_matrix(bones), bones)
    return joints if root is None else joints + root.unsqueeze(-2)


def with_bone_lengths(joints: Tensor, lengths: Tensor, skeleton: Skeleton) -> Tensor:
    """Joints (..., J, 3) mm with their own bone directions and root, and bones of `lengths` (..., E) mm."""
    bones = unit_bones(bone_vectors(joints, skeleton)) * lengths.unsqueeze(-1)
    return joints_from_bones(bones, skeleton, joints[..., skeleton.root, :])


def unit_bones(bones: Tensor, eps: float = 1e-6) -> Tensor:
    """Bone directions: (..., E, 3) mm -> (..., E, 3) of length 1; below `eps` mm it shrinks towards 0."""
    lengths: Tensor = torch.linalg.vector_norm(bones, dim=-1, keepdim=True)
    return bones / lengths.clamp_min(eps)

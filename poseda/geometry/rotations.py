"""Rotations: from axis-angle, six numbers or a yaw to matrices, about an axis, and the angle between two."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _sinc(angle: Tensor) -> Tensor:
    """sin(a) / a, 1 at a = 0."""
    return torch.sinc(angle / math.pi)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula: (..., 3) axis times angle in radians -> (..., 3, 3). Differentiable, also at 0."""
    angle: Tensor = torch.linalg.vector_norm(axis_angle, dim=-1)[..., None, None]
    x, y, z = axis_angle.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack((o, -z, y, z, o, -x, -y, x, o), -1).reshape(*x.shape, 3, 3)
    eye = torch.eye(3, dtype=x.dtype, device=x.device)
    square = axis_angle[..., :, None] * axis_angle[..., None, :] - angle**2 * eye  # cross @ cross
    return eye + _sinc(angle) * cross + 0.5 * _sinc(angle / 2) ** 2 * square  # 1 - cos a = 2 sin^2(a / 2)


def sixd_to_matrix(sixd: Tensor, eps: float = 1e-8) -> Tensor:
    """Gram-Schmidt on two rows (Zhou et al. 2019): (..., 6) -> (..., 3, 3).

    Rows that are zero or parallel belong to no rotation: they give a matrix that is not orthonormal, but no
    NaN.
    """
    first, second = sixd[..., :3], sixd[..., 3:]
    row1 = _unit(first, eps)
    row2 = _unit(second - (row1 * second).sum(-1, keepdim=True) * row1, eps)
    return torch.stack((row1, row2, torch.linalg.cross(row1, row2, dim=-1)), -2)


def _unit(vector: Tensor, eps: float) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return vector / length.clamp_min(eps)


def rotate(rotation: Tensor, points: Tensor) -> Tensor:
    """(N, 3, 3) times (N, ..., 3). Not a matmul: under TF32 or autocast that would cost millimetres."""
    shape = (rotation.shape[0], *(1,) * (points.ndim - 2), 3, 3)
    return (rotation.reshape(shape) * points.unsqueeze(-2)).sum(-1)


def rotate_about_axis(vectors: Tensor, axis: Tensor, angle: Tensor) -> Tensor:
    """Vectors (..., 3) turned about unit axes (..., 3) by angles (...) in radians -> (..., 3), units kept.

    Right-handed; the three arguments broadcast against one another.
    """
    angle = angle.unsqueeze(-1)
    along = (axis * vectors).sum(-1, keepdim=True) * axis
    across: Tensor = torch.linalg.cross(axis, vectors, dim=-1)
    return along + (vectors - along) * angle.cos() + across * angle.sin()


def yaw_matrix(angle: Tensor) -> Tensor:
    """Turn about the world's z (up), counter-clockwise from above: (...) radians -> (..., 3, 3)."""
    c, s = angle.cos(), angle.sin()
    o, i = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack((c, -s, o, s, c, o, o, o, i), -1).reshape(*angle.shape, 3, 3)


def geodesic_distance(first: Tensor, second: Tensor) -> Tensor:
    """Angle between rotations: (..., 3, 3), (..., 3, 3) -> (...) radians in [0, pi], exact at both ends.

    Not a matmul: under TF32 or autocast that would cost a milliradian.
    """
    relative = (first[..., :, :, None] * second[..., :, None, :]).sum(-3)
    cosine = relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1  # trace = 1 + 2 cos
    skew = relative - relative.mT  # entries 2 sin * axis, each twice
    sine: Tensor = torch.linalg.matrix_norm(skew) / math.sqrt(2)
    return torch.atan2(sine, cosine)

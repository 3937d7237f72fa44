"""Looking straight at a person: rotations of the camera about its centre, and what they do to 2D and 3D.

A camera that turns about its own centre sees the same rays: the 2D changes by the homography K' R K⁻¹, which needs no
depth, and the 3D by R. All of it is exact, lens included, since keypoints are taken as undistorted rays (x/z, y/z).
"""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.geometry.camera import Camera
from poseda.geometry.rotations import rotate

NEAREST_COSINE = 0.05
"""Rays of 87 degrees or more from the new axis are drawn at 87: they have no place in the image."""


def swing_to_axis(rays: Tensor) -> Tensor:
    """The smallest rotation that takes the ray (x/z, y/z) to the optical axis: (..., 2) -> (..., 3, 3), no roll added.

    PersPose's perspective rotation (arXiv 2508.17239): R = I + [v]x + [v]x² / (1 + k) with v = d x z and k = d.z, d the
    unit ray. Rays have z > 0, so that k > 0.
    """
    a, b, c = _unit_ray(rays)
    s = 1 / (1 + c)
    return _rows(1 - a * a * s, -a * b * s, -a, -a * b * s, 1 - b * b * s, -b, a, b, c)


def level_to_axis(rays: Tensor) -> Tensor:
    """Yaw, then pitch, that take the ray to the optical axis: (..., 2) -> (..., 3, 3).

    The x axis stays in the camera's horizontal plane, as in perspective crop layers (PCL, arXiv 2011.13607).
    """
    a, b, c = _unit_ray(rays)
    flat = (a * a + c * c).sqrt()  # > 0 as c > 0
    o = torch.zeros_like(a)
    return _rows(c / flat, o, -a / flat, -a * b / flat, flat, -b * c / flat, a, b, c)


def rotate_rays(rotation: Tensor, rays: Tensor) -> Tensor:
    """Rays (B, ..., 2) seen by a camera turned by rotation (B, 3, 3), frame old to new -> (B, ..., 2)."""
    turned = rotate(rotation, torch.cat([rays, torch.ones_like(rays[..., :1])], -1))
    length: Tensor = torch.linalg.vector_norm(turned, dim=-1, keepdim=True)
    return turned[..., :2] / torch.maximum(turned[..., 2:], NEAREST_COSINE * length)


def homography(old: Camera, new: Camera, rotation: Tensor) -> Tensor:
    """K' R K⁻¹ (N, 3, 3): homogeneous pixels of lens-free cameras (N,) to those of others, turned by rotation."""
    matrix: Tensor = intrinsic_matrix(new) @ rotation @ torch.linalg.inv(intrinsic_matrix(old))
    return matrix


def intrinsic_matrix(cameras: Camera) -> Tensor:
    """K (N, 3, 3) in pixels."""
    o, i = torch.zeros_like(cameras.fx), torch.ones_like(cameras.fx)
    return _rows(cameras.fx, o, cameras.cx, o, cameras.fy, cameras.cy, o, o, i)


def _unit_ray(rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, y = rays.unbind(-1)
    c = (1 + x * x + y * y).rsqrt()
    return x * c, y * c, c


def _rows(*entries: Tensor) -> Tensor:
    return torch.stack(entries, -1).view(*entries[0].shape, 3, 3)

"""How source poses turn when they are moved through the image and into another camera.

PoseDA moves people and keeps their orientation in the camera's axes. A person who is moved then is seen from another
side: 20 degrees further down in the image is 20 degrees more from above. Here a pose turns with the ray that it is
moved along, so that a camera turned to the person sees it as before; or it turns so that what was upright in the
source camera's world is upright in that of the target camera, and faces the camera as before. Then it is seen from
the height from which that camera does see people there. Our own; closed form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.geometry.camera import Camera, has_extrinsics, vertical
from poseda.geometry.perspective import swing_to_axis
from poseda.geometry.rotations import rotate

STEEPEST_COSINE = 0.98
"""A ray within 11 degrees of the vertical has no side that it comes from: the pose turns with the ray there."""


def turned(poses: Tensor, root: int, sources: Camera, rays: Tensor, targets: Camera, turn: str) -> Tensor:
    """Windows (N, T, J, 3) mm turned about the root of their middle frame, as they are moved to another ray.

    poses in the axes of their cameras `sources` (N,); rays (N, 2), x/z and y/z, of where the root is going to be before
    the cameras `targets` (N,). turn: ray or gravity, which is ray where one of both cameras has no extrinsics.
    """
    centre = poses[:, poses.shape[1] // 2, root]
    # people behind a camera or at it are dropped later; here their ray must only be finite
    here = centre[:, :2] / centre[:, 2:].clamp_min(1.0)
    matrix = with_ray(here, rays)
    if turn == "gravity":
        upright, defined = with_gravity(here, vertical(sources), rays, vertical(targets))
        defined = defined & has_extrinsics(sources) & has_extrinsics(targets)
        matrix = torch.where(defined[:, None, None], upright, matrix)
    pivot = centre[:, None, None]
    return rotate(matrix, poses - pivot) + pivot


def with_ray(here: Tensor, there: Tensor) -> Tensor:
    """(N, 3, 3) rotations after which poses on the rays `there` look as those on the rays `here` (N, 2) did.

    Look to a camera that the smallest rotation turns to each ray, which adds no roll.
    """
    return (swing_to_axis(there).unsqueeze(-1) * swing_to_axis(here).unsqueeze(-2)).sum(1)  # Rt' Rh, without a matmul


def with_gravity(here: Tensor, up_here: Tensor, there: Tensor, up_there: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 3, 3) rotations that take `up_here` to `up_there` (N, 3) and keep the side from which people are seen.

    The side is the bearing of the rays `here`, `there` (N, 2), in the horizontal plane; (N,) bool: both have one.
    """
    (first, ok), (second, fine) = _upright_axes(here, up_here), _upright_axes(there, up_there)
    return (second.unsqueeze(-2) * first.unsqueeze(-3)).sum(-1), ok & fine


def _upright_axes(rays: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Right, up and forward of somebody upright who looks along the rays: columns of (N, 3, 3); (N,) they exist."""
    ray = torch.nn.functional.normalize(torch.cat([rays, torch.ones_like(rays[:, :1])], -1), dim=-1)
    cosine = (ray * up).sum(-1, keepdim=True)
    forward = torch.nn.functional.normalize(ray - cosine * up, dim=-1)
    axes = torch.stack([torch.linalg.cross(forward, up, dim=-1), up, forward], -1)
    return axes, cosine.abs().squeeze(-1) < STEEPEST_COSINE

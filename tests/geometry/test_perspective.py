"""Rotating a camera about its centre: against SciPy, and 2D against 3D."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.geometry.camera import Camera
from poseda.geometry.perspective import homography, level_to_axis, rotate_rays, swing_to_axis
from poseda.geometry.rotations import rotate

RAYS = torch.tensor([[0.0, 0.0], [0.3, -0.2], [-1.5, 0.7], [1e-9, 0.0], [0.0, 2.0]], dtype=torch.float64)
ROTATIONS = (swing_to_axis, level_to_axis)


def directions(rays):
    ray = torch.cat([rays, torch.ones_like(rays[..., :1])], -1)
    return ray / ray.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("to_axis", ROTATIONS)
def test_the_ray_goes_to_the_optical_axis(to_axis):
    rotation = to_axis(RAYS)
    torch.testing.assert_close(rotate(rotation, directions(RAYS)), torch.tensor([0.0, 0.0, 1.0]).double().expand(5, 3))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand(5, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(5, dtype=torch.float64))


def test_the_swing_is_scipys_smallest_rotation():
    for ray, rotation in zip(directions(RAYS), swing_to_axis(RAYS), strict=True):
        axis = np.cross(ray, [0, 0, 1])
        angle = np.arccos(np.clip(float(ray[2]), -1, 1))
        vector = axis / max(np.linalg.norm(axis), 1e-12) * angle
        np.testing.assert_allclose(rotation, Rotation.from_rotvec(vector).as_matrix(), atol=1e-9)


def test_the_level_rotation_is_scipys_yaw_and_pitch():
    for ray, rotation in zip(directions(RAYS), level_to_axis(RAYS), strict=True):
        x, y, z = ray.tolist()
        yaw, pitch = -np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
        expected = Rotation.from_rotvec([pitch, 0, 0]) * Rotation.from_rotvec([0, yaw, 0])
        np.testing.assert_allclose(rotation, expected.as_matrix(), atol=1e-9)
        assert float(rotation[0, 1]) == 0, "the new x axis stays horizontal"


@pytest.mark.parametrize("to_axis", ROTATIONS)
def test_turned_rays_are_the_projection_of_turned_points_and_come_back(to_axis):
    """The homography needs no depth: points anywhere on their rays give the same 2D."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(8, 2, generator=generator, dtype=torch.float64) - 0.5
    rays = centre[:, None] + 0.2 * (torch.rand(8, 17, 2, generator=generator, dtype=torch.float64) - 0.5)
    depth = 1000 + 5000 * torch.rand(8, 17, 1, generator=generator, dtype=torch.float64)
    points = torch.cat([rays * depth, depth], -1)
    rotation = to_axis(centre)
    turned = rotate(rotation, points)
    torch.testing.assert_close(rotate_rays(rotation, rays), turned[..., :2] / turned[..., 2:], rtol=0, atol=1e-12)
    torch.testing.assert_close(rotate_rays(rotation.mT, rotate_rays(rotation, rays)), rays, rtol=0, atol=1e-12)


def test_the_homography_is_the_same_in_pixels():
    old = Camera.create(
        fx=1145.0, fy=1143.0, cx=512.0, cy=515.0, width=1000.0, height=1002.0, dtype=torch.float64
    ).expand(4)  # fmt: skip
    new = Camera.create(
        fx=900.0, fy=900.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0, dtype=torch.float64
    ).expand(4)  # fmt: skip
    points = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2000
    points[..., 2] += 3000
    pixels = old.project(points)
    rotation = swing_to_axis(old.unproject(pixels)[:, 0])
    mapped = homography(old, new, rotation)[:, None] @ torch.cat([pixels, torch.ones(4, 5, 1).double()], -1)[..., None]
    mapped = mapped[..., :2, 0] / mapped[..., 2:, 0]
    torch.testing.assert_close(mapped, new.project(rotate(rotation, points)), rtol=0, atol=1e-8)


def test_points_beside_or_behind_the_new_axis_stay_finite():
    rotation = swing_to_axis(torch.tensor([[20.0, 0.0]]))
    turned = rotate_rays(rotation, torch.tensor([[[-20.0, 0.0], [20.0, 0.0], [0.0, 0.0]]]))
    assert bool(turned.isfinite().all())
    torch.testing.assert_close(turned[0, 1], torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("to_axis", ROTATIONS)
def test_gradients_go_through_the_rotation(to_axis):
    rays = (RAYS[1:3] + 0.01).clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda r: rotate_rays(to_axis(r), RAYS[None, :3].expand(2, 3, 2)), (rays,))

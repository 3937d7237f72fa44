"""Rotations against SciPy, with gradients at the awkward places."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.geometry.rotations import (
    axis_angle_to_matrix,
    geodesic_distance,
    rotate_about_axis,
    sixd_to_matrix,
    yaw_matrix,
)

F64 = torch.float64


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def axis_angles():
    """Ordinary, tiny, zero and half-turn rotations."""
    special = torch.tensor([[0, 0, 0], [1e-9, 0, 0], [0, 1e-5, 0], [0, 0, math.pi], [3, 0.5, -0.7]])
    return torch.cat((random(20, 3), special.double()))


def test_axis_angle_agrees_with_scipy():
    expected = Rotation.from_rotvec(axis_angles().numpy()).as_matrix()
    exact = axis_angle_to_matrix(axis_angles())
    torch.testing.assert_close(exact, torch.from_numpy(expected), atol=1e-14, rtol=0)
    single = axis_angle_to_matrix(axis_angles().float())
    torch.testing.assert_close(single.double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e-3, 1.0])
def test_axis_angle_gradient_agrees_with_finite_differences_also_at_zero(scale):
    vectors = (random(4, 3) * scale).requires_grad_()
    assert torch.autograd.gradcheck(axis_angle_to_matrix, vectors, atol=1e-5)


def test_axis_angle_gradient_at_zero_is_the_cross_product_in_float32():
    vector = torch.zeros(3, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(axis_angle_to_matrix, vector)
    expected = torch.zeros(3, 3, 3)
    expected[2, 1, 0] = expected[0, 2, 1] = expected[1, 0, 2] = 1
    expected[1, 2, 0] = expected[2, 0, 1] = expected[0, 1, 2] = -1
    torch.testing.assert_close(jacobian, expected)


def test_sixd_is_a_rotation_and_returns_the_rotation_it_was_read_from():
    matrices = sixd_to_matrix(random(10, 6))
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3, dtype=F64).expand(10, 3, 3))
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(10, dtype=F64))
    torch.testing.assert_close(sixd_to_matrix(matrices[:, :2].flatten(1)), matrices)
    assert sixd_to_matrix(torch.zeros(6)).isfinite().all()


def test_rotating_about_an_axis_agrees_with_scipy_and_broadcasts():
    vectors, axes, angles = random(5, 4, 3), random(5, 1, 3, seed=1), random(5, 1, seed=2)
    axes = axes / axes.norm(dim=-1, keepdim=True)
    turned = rotate_about_axis(vectors, axes, angles)
    for row in range(5):
        rotation = Rotation.from_rotvec((axes[row, 0] * angles[row]).numpy())
        np.testing.assert_allclose(turned[row].numpy(), rotation.apply(vectors[row].numpy()), atol=1e-12)


def test_yaw_turns_about_the_vertical_counter_clockwise():
    angles = torch.tensor([[0.3, -2.0]], dtype=F64)
    expected = Rotation.from_euler("z", angles.reshape(2, 1).numpy()).as_matrix().reshape(1, 2, 3, 3)
    torch.testing.assert_close(yaw_matrix(angles), torch.from_numpy(expected))


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 1.0, math.pi - 1e-6, math.pi])
def test_geodesic_distance_is_the_angle_between(angle):
    axis = torch.tensor([2.0, -1, 2], dtype=F64) / 3
    first = axis_angle_to_matrix(random(3))
    second = first @ axis_angle_to_matrix(axis * angle)
    assert geodesic_distance(first, second).item() == pytest.approx(angle, abs=1e-9)
    assert geodesic_distance(second, first).item() == pytest.approx(angle, abs=1e-9)


def test_geodesic_distance_has_a_finite_gradient_at_zero():
    rotation = torch.eye(3).requires_grad_()
    geodesic_distance(rotation, torch.eye(3)).backward()
    assert rotation.grad.isfinite().all()

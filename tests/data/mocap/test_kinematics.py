"""Rotations against scipy's, forward kinematics against a naive loop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from poseda.data.mocap.kinematics import (
    TO_Z_UP,
    euler_matrices,
    forward,
    matrices_to_zxy,
    on_floor,
    shortest_rotations,
)

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("axes", ["".join(axes) for axes in itertools.permutations("xyz")])
def test_channels_multiply_in_the_order_listed(axes):
    angles = RANDOM.uniform(-3, 3, (20, 3))
    expected = Rotation.from_euler(axes.upper(), angles).as_matrix()
    assert np.allclose(euler_matrices(axes, angles), expected, atol=1e-14)


def test_forward_kinematics_is_the_naive_loop():
    parents = (-1, 0, 1, 1, 0)
    translations, turns = RANDOM.normal(size=(6, 5, 3)), Rotation.random(30, random_state=1)
    rotations = turns.as_matrix().reshape(6, 5, 3, 3)
    found = forward(parents, translations, rotations)
    for frame in range(6):
        turned, placed = [], []
        for joint, parent in enumerate(parents):
            local = Rotation.from_matrix(rotations[frame, joint])
            turned.append(local if parent < 0 else turned[parent] * local)
            start = 0 if parent < 0 else placed[parent]
            placed.append(
                start + (translations[frame, joint] if parent < 0 else turned[parent].apply(translations[frame, joint]))
            )
        assert np.allclose(found[frame], placed, atol=1e-13)


def test_zxy_angles_give_the_rotations_back_without_a_jump():
    """Through the gimbal lock at x = 90 degrees and several whole turns."""
    times = np.linspace(0, 1, 400)
    angles = np.stack([5 * times, 7 * times, -9 * times], -1)
    matrices = Rotation.from_euler("ZXY", angles).as_matrix()[:, None]
    found = matrices_to_zxy(matrices)
    assert np.allclose(euler_matrices("zxy", found), matrices, atol=1e-12)
    assert np.abs(np.diff(found, axis=0)).max() < 0.05


def test_zxy_at_the_gimbal_lock():
    matrices = Rotation.from_euler("ZXY", [[0.4, np.pi / 2, 0.3], [0.4, -np.pi / 2, 0.3]]).as_matrix()
    assert np.allclose(euler_matrices("zxy", matrices_to_zxy(matrices)), matrices, atol=1e-9)


def test_the_shortest_rotation_takes_one_vector_to_the_other():
    start, end = (
        Rotation.random(50, random_state=2).apply([1, 0, 0]),
        Rotation.random(50, random_state=3).apply([1, 0, 0]),
    )
    end[0], end[1] = start[0], -start[1]  # the same, and the opposite
    found = shortest_rotations(start, end)
    assert np.allclose((found @ start[..., None])[..., 0], end, atol=1e-9)
    assert np.allclose(np.linalg.det(found), 1)
    angle = Rotation.from_matrix(found).magnitude()
    assert np.allclose(angle, np.arccos(np.clip((start * end).sum(-1), -1, 1)), atol=1e-6)


@pytest.mark.parametrize("up", TO_Z_UP)
def test_every_upward_axis_becomes_z_by_a_rotation(up):
    axis = np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)
    assert np.linalg.det(TO_Z_UP[up]) == 1
    assert (TO_Z_UP[up] @ axis).tolist() == [0, 0, 1]


def test_the_floor_is_under_the_lowest_feet():
    positions = RANDOM.normal(size=(100, 4, 3))
    lowest = positions[:, :2]
    moved = on_floor(positions, lowest)
    assert (moved - positions)[..., :2].max() == 0
    assert np.mean(moved[:, :2, 2].min(-1) < 0) == 0.05

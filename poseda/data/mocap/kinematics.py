"""Rotations and forward kinematics of motion capture files: numpy, float64, every frame at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CHUNK = 4096
"""Frames whose rotations are held at once: they need three times the memory of the positions."""

# Rotation of points in `up` coordinates to a world with z up; all are proper rotations.
TO_Z_UP: dict[str, Array] = {
    "z": np.eye(3),
    "-z": np.diag([1.0, -1.0, -1.0]),
    "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-y": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "x": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    "-x": np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
}


def axis_matrices(axis: str, radians: Array) -> Array:
    """Right-handed rotations about "x", "y" or "z": (...) radians -> (..., 3, 3)."""
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    matrices = np.zeros((*radians.shape, 3, 3))
    matrices[..., i, i] = 1.0
    matrices[..., j, j] = matrices[..., k, k] = np.cos(radians)
    matrices[..., k, j] = np.sin(radians)
    matrices[..., j, k] = -matrices[..., k, j]
    return matrices


def euler_matrices(axes: Sequence[str], radians: Array) -> Array:
    """Product of axis rotations in the order listed (intrinsic): axes "zxy", (..., 3) -> Rz Rx Ry, (..., 3, 3)."""
    product = np.broadcast_to(np.eye(3), (*radians.shape[:-1], 3, 3))
    for place, axis in enumerate(axes):
        product = product @ axis_matrices(axis, radians[..., place])
    return product


def matrices_to_zxy(matrices: Array) -> Array:
    """Angles of Rz Rx Ry: (T, ..., 3, 3) -> (T, ..., 3) radians z x y, continuous along T.

    Each rotation has two triples, and each angle any multiple of 2 pi: those nearest to the frame before are taken, so
    that an animation program that interpolates between frames does not spin.
    """
    sine = np.clip(matrices[..., 2, 1], -1.0, 1.0)
    x = np.arcsin(sine)
    # near +-1 arcsin loses half of the digits
    x = np.where(np.abs(sine) > 0.9, np.arctan2(sine, np.hypot(matrices[..., 2, 0], matrices[..., 2, 2])), x)
    locked = np.hypot(matrices[..., 2, 0], matrices[..., 2, 2]) < 1e-9  # z and y turn about one axis: y is free
    z = np.where(
        locked,
        np.arctan2(matrices[..., 1, 0], matrices[..., 0, 0]),
        np.arctan2(-matrices[..., 0, 1], matrices[..., 1, 1]),
    )
    y = np.where(locked, 0.0, np.arctan2(-matrices[..., 2, 0], matrices[..., 2, 2]))
    return _continuous(np.stack((z, x, y), -1))


def _continuous(angles: Array) -> Array:
    """The triples (z, x, y) or (z + pi, pi - x, y + pi), whichever stays near the frame before."""
    other = np.stack((angles[..., 0] + np.pi, np.pi - angles[..., 1], angles[..., 2] + np.pi), -1)
    stay = _turn(angles[1:] - angles[:-1])
    change = _turn(other[1:] - angles[:-1])
    changed = np.zeros(angles.shape[:-1], dtype=np.int64)
    changed[1:] = np.cumsum(change < stay, axis=0) % 2
    chosen = np.where(changed[..., None] == 1, other, angles)
    return np.unwrap(chosen, axis=0) if len(chosen) else chosen


def _turn(difference: Array) -> Array:
    """(..., 3) differences of angles -> (...) how far they turn, whole turns left out."""
    return np.asarray(np.abs((difference + np.pi) % (2 * np.pi) - np.pi).sum(-1))


def forward(parents: Sequence[int], translations: Array, rotations: Array) -> Array:
    """Positions of joints, each after its parent: (T, J, 3) in the frame of the first.

    translations: (T or 1, J, 3) in the parent's frame; rotations: (T, J, 3, 3) relative to the parent's.
    """
    turned = np.empty_like(rotations)
    positions = np.empty(rotations.shape[:-1])
    for joint, parent in enumerate(parents):
        if parent < 0:
            turned[:, joint], positions[:, joint] = rotations[:, joint], translations[:, joint]
            continue
        turned[:, joint] = turned[:, parent] @ rotations[:, joint]
        moved = (turned[:, parent] @ translations[:, joint, :, None])[..., 0]
        positions[:, joint] = positions[:, parent] + moved
    return positions


def shortest_rotations(start: Array, end: Array) -> Array:
    """The shortest rotation that takes unit vectors start to end: (..., 3), (..., 3) -> (..., 3, 3).

    Opposite vectors have no shortest one: half a turn about some axis across them is taken.
    """
    cosine = (start * end).sum(-1)[..., None, None]
    x, y, z = np.moveaxis(np.cross(start, end), -1, 0)
    o = np.zeros_like(x)
    cross = np.stack((o, -z, y, z, o, -x, -y, x, o), -1).reshape(*x.shape, 3, 3)
    opposite = cosine < -1 + 1e-9
    shortest = np.eye(3) + cross + cross @ cross / np.where(opposite, 1.0, 1 + cosine)
    least = np.eye(3)[np.abs(start).argmin(-1)]
    across = np.cross(start, least)
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    half = 2 * across[..., :, None] * across[..., None, :] - np.eye(3)
    return np.where(opposite, half, shortest)


def on_floor(positions: Array, lowest: Array) -> Array:
    """Positions (T, J, 3), z up, moved so that the floor is z = 0. lowest: (T, K, 3) points of the feet.

    The floor is where the lowest point of the feet is in the lowest twentieth of the frames.
    """
    floor = float(np.percentile(lowest[..., 2].min(-1), 5))
    return np.asarray(positions - np.array([0.0, 0.0, floor]))

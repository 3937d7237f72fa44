"""People who walk about on a floor, and cameras that look down at them."""

from __future__ import annotations

import numpy as np
import torch

from poseda.geometry.camera import Camera


def on_floor(clips, size, cameras):
    """People of `size` times their size who walk about on the floor z = 0 before `cameras` of a rig, one a sequence."""
    turn = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # y down -> z up
    world = size * (clips.poses - clips.poses[:, :1]) @ turn.T
    ankles = [clips.skeleton.index(name) for name in ("lankle", "rankle")]
    world[..., 2] -= world[:, ankles, 2].amin(-1)[:, None] - 80.0 * size
    draws = torch.Generator().manual_seed(0)
    place = torch.rand(len(clips.sequences), 1, 2, generator=draws) * 1600 - 800
    world[..., :2] += place[clips.sequence_index]
    poses = cameras[clips.camera_index].world_to_camera(world)
    points = cameras[clips.camera_index].project(poses)
    return clips._derive(poses=poses, keypoints=points, cameras=cameras)


def looking_down(count, height, distance, seed):
    """Cameras around the origin at some height, or at a height each, that look at a point 0.9 m above it."""
    rng = np.random.default_rng(seed)
    rotations, shifts = [], []
    for angle, over in zip(rng.uniform(0, 2 * np.pi, count), np.broadcast_to(height, count), strict=True):
        centre = np.array([distance * np.cos(angle), distance * np.sin(angle), over])
        ahead = np.array([0, 0, 900.0]) - centre
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        rotations.append(rotation)
        shifts.append(-rotation @ centre)
    lens = {"fx": 1200.0, "fy": 1200.0, "cx": 500.0, "cy": 500.0, "width": 1000.0, "height": 1000.0}
    return Camera.create(**lens, R=torch.tensor(np.array(rotations)), t=torch.tensor(np.array(shifts)))

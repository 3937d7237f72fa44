"""Where a teacher's poses stand, and how they look turned: closed form, SciPy, weights by reprojection."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.data.batches import TargetBatch
from poseda.geometry.boxes import box_scale
from poseda.geometry.camera import Camera, denormalise_screen, vertical
from poseda.geometry.root import root_from_keypoints
from poseda.lifters import create_lifter
from poseda.stages.mean_teacher.turning import place_poses, turn_poses

PLACE = torch.tensor([300.0, -150.0, 4500.0], dtype=torch.float64)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def scene(random_people, mixed_cameras):
    """6 windows of 2 frames with exact 2D: poses (6, 2, 17, 3), their place, and the target batch."""
    poses = torch.stack([random_people(6, seed=s, bend=0.3) for s in (0, 1)], 1)
    cameras = mixed_cameras(6)
    keypoints = cameras.project(poses + PLACE)
    visible = torch.ones(6, 2, 17, dtype=torch.bool)
    return poses, TargetBatch(keypoints, visible, cameras)


def test_the_root_of_a_true_pose_is_found_and_its_weight_is_one(scene):
    poses, target = scene
    root, weight = place_poses(poses, target, 0.05)
    torch.testing.assert_close(root, PLACE.expand_as(root), rtol=0, atol=1e-3)
    torch.testing.assert_close(weight, torch.ones_like(weight))


def test_the_weight_falls_with_the_residual_in_boxes(scene):
    poses, target = scene
    wrong = poses + 80 * torch.randn(poses.shape, generator=draws(), dtype=torch.float64)
    wrong = wrong - wrong[:, :, :1]
    _, weight = place_poses(wrong, target, 0.05)
    for n in range(6):
        rays = target.cameras[n].unproject(target.keypoints[n][None])[0]
        shares = []
        for t in range(2):
            place, _ = root_from_keypoints(wrong[n, t], rays[t])
            projected = target.cameras[n].project((wrong[n, t] + place)[None])[0]
            distance = (projected - target.keypoints[n, t]).norm(dim=-1).mean()
            shares.append(float(distance / box_scale(target.keypoints[n, t], target.visible[n, t])))
        assert float(weight[n]) == pytest.approx(math.exp(-((np.mean(shares) / 0.05) ** 2)), rel=1e-6)


def test_windows_without_a_box_or_a_root_have_no_weight_and_no_nan(scene):
    poses, target = scene
    keypoints, visible = target.keypoints.clone(), target.visible.clone()
    keypoints[0] = 500.0
    visible[1, 1] = False
    root, weight = place_poses(poses, TargetBatch(keypoints, visible, target.cameras), 0.05)
    assert weight[:2].tolist() == [0, 0]
    assert float(weight[2:].min()) > 0.99
    assert bool(root.isfinite().all())


def test_joints_that_are_not_seen_have_no_say(scene):
    poses, target = scene
    keypoints, visible = target.keypoints.clone(), target.visible.clone()
    keypoints[:, :, 7] = 0.0
    visible[:, :, 7] = False
    _, weight = place_poses(poses, TargetBatch(keypoints, visible, target.cameras), 0.05)
    torch.testing.assert_close(weight, torch.ones_like(weight))


@pytest.fixture
def lifter():
    return create_lifter("simplebaseline", seed=0, hidden=8, blocks=0)


def test_a_turned_window_is_a_turn_about_the_worlds_vertical(scene, lifter):
    """In world axes: SciPy's rotation about z through the root, seen by the same camera."""
    poses, target = scene
    cameras = target.cameras
    angle = torch.linspace(-2, 2, 6, dtype=torch.float64).view(6, 1)
    seen, turned, usable = turn_poses(lifter, target, poses, PLACE.expand(6, 2, 3), angle)
    assert bool(usable.all())
    for n in range(6):
        camera = cameras[n]
        world = camera.camera_to_world((poses + PLACE)[n][None])[0].numpy()
        pelvis = world[:, :1]
        turn = Rotation.from_rotvec([0, 0, float(angle[n])])
        expected = turn.apply((world - pelvis).reshape(-1, 3)).reshape(world.shape) + pelvis
        expected = camera.world_to_camera(torch.from_numpy(expected)[None])
        pixels = denormalise_screen(seen[n][None], camera.width, camera.height)
        torch.testing.assert_close(pixels, camera.project(expected), rtol=0, atol=1e-4)
        torch.testing.assert_close(turned[n], (expected - expected[:, :, :1])[0], rtol=0, atol=1e-4)


def test_a_turn_into_the_camera_is_not_used(scene, lifter):
    poses, target = scene
    near = torch.tensor([0.0, 0.0, 400.0], dtype=torch.float64).expand(6, 2, 3)
    half = torch.full((6, 1), 1.5, dtype=torch.float64)
    seen, turned, usable = turn_poses(lifter, target, poses, near, half)
    assert bool(seen[usable].isfinite().all())
    nearest = (turned + near[:, :, None])[..., 2].flatten(1).amin(1)
    assert torch.equal(usable, nearest > 300) and not bool(usable.all())


def test_joints_that_the_target_misses_are_missing_in_the_turned_2d(scene, lifter):
    poses, target = scene
    visible = target.visible.clone()
    visible[:, :, 4] = False
    target = TargetBatch(target.keypoints, visible, target.cameras)
    angle = torch.ones(6, 1, dtype=torch.float64)
    seen, _, _ = turn_poses(lifter, target, poses, PLACE.expand(6, 2, 3), angle)
    others = [j for j in range(17) if j != 4]
    torch.testing.assert_close(seen[:, :, 4], seen[:, :, others].mean(2))


def test_the_vertical_is_the_worlds_or_the_images():
    turned = Rotation.from_euler("x", [-100], degrees=True).as_matrix()
    knows = Camera.create(fx=1.0, fy=1.0, cx=0.0, cy=0.0, width=2.0, height=2.0, R=torch.tensor(turned).float())
    alone = Camera.create(fx=1.0, fy=1.0, cx=0.0, cy=0.0, width=2.0, height=2.0)
    up = vertical(Camera.cat([knows, alone]))
    torch.testing.assert_close(up[0], knows.world_to_camera(torch.tensor([[0.0, 0.0, 1.0]]))[0])
    assert up[1].tolist() == [0, -1, 0]

"""How poses turn with the place that GPA gives them, against world coordinates in float64 and SciPy's rotations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.data.batches import SourceSampler, TargetSampler
from poseda.geometry.bones import bone_lengths
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import load_rig
from poseda.stages.gpa import GPA, GPAConfig
from poseda.stages.gpa.turning import turned

COUNT = 40


def cameras(seed, steepest=0.5):
    """Cameras that stand anywhere, tilted up to `steepest` rad, rolled a little; float64."""
    rng = np.random.default_rng(seed)
    level = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # world z up -> camera y down
    bearing = Rotation.from_euler("z", rng.uniform(-np.pi, np.pi, (COUNT, 1))).as_matrix()
    lean = Rotation.from_euler("XZ", np.c_[rng.uniform(-0.2, steepest, COUNT), rng.normal(0, 0.05, COUNT)]).as_matrix()
    lens = dict(fx=1100.0, fy=1100.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0)
    return Camera.create(**lens, R=lean @ level @ bearing, t=rng.normal(0, 1000, (COUNT, 3)), dtype=torch.float64)


@pytest.fixture
def scene(random_people):
    """Windows of 3 frames (N, 3, 17, 3) mm, absolute, the rays of other places (N, 2), and cameras of both sides."""
    rng = np.random.default_rng(0)
    people = torch.stack([random_people(COUNT, seed=seed) for seed in range(3)], 1)
    place = torch.tensor(rng.uniform((-1500, -800, 3500), (1500, 800, 6000), (COUNT, 1, 3)))
    path = torch.tensor([[-50.0, 0, 0], [0, 0, 0], [60.0, 0, 20]]).double()
    poses = people + (place + path).unsqueeze(2)
    rays = torch.tensor(rng.uniform(-0.4, 0.4, (COUNT, 2)))
    return poses, rays, cameras(1), cameras(2)


def relative(poses):
    return poses - poses[:, 1:2, :1]


def swing(ray):
    """The rotation about the line at right angles to both that takes a ray to the optical axis."""
    ray = np.append(ray, 1) / np.linalg.norm(np.append(ray, 1))
    axis = np.cross(ray, [0, 0, 1.0])
    angle = np.arctan2(np.linalg.norm(axis), ray[2])
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle)


def test_with_the_ray_a_camera_turned_to_the_person_sees_the_same_pose(scene):
    poses, rays, here, there = scene
    made = turned(poses, 0, here, rays, there, "ray")
    torch.testing.assert_close(made[:, 1, 0], poses[:, 1, 0])
    for n in range(COUNT):
        old = poses[n, 1, 0].numpy()
        before = swing(old[:2] / old[2]).apply(relative(poses)[n].reshape(-1, 3).numpy())
        after = swing(rays[n].numpy()).apply(relative(made)[n].reshape(-1, 3).numpy())
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_with_gravity_people_turn_about_the_vertical_alone(scene):
    poses, rays, here, there = scene
    made = turned(poses, 0, here, rays, there, "gravity")
    for n in range(COUNT):
        old = poses[n, 1, 0].numpy()
        rotations = here.R[n].numpy(), there.R[n].numpy()
        bearings = []
        for rotation, ray in zip(rotations, (old / old[2], np.append(rays[n].numpy(), 1)), strict=True):
            world = rotation.T @ ray
            bearings.append(np.arctan2(world[1], world[0]))
        about = Rotation.from_euler("z", bearings[1] - bearings[0])
        world = relative(poses)[n].reshape(-1, 3).numpy() @ rotations[0]
        expected = about.apply(world) @ rotations[1].T
        np.testing.assert_allclose(relative(made)[n].reshape(-1, 3).numpy(), expected, atol=1e-6)


def test_without_extrinsics_or_under_a_camera_that_looks_straight_down_poses_turn_with_the_ray(scene):
    poses, rays, here, there = scene
    expected = turned(poses, 0, here, rays, there, "ray")
    eye = torch.eye(3, dtype=torch.float64).expand(COUNT, 3, 3)
    unknown = replace(there, R=eye, t=torch.zeros_like(there.t))
    torch.testing.assert_close(turned(poses, 0, here, rays, unknown, "gravity"), expected)
    torch.testing.assert_close(turned(poses, 0, unknown, rays, there, "gravity"), expected)
    down = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, -1]]).double().expand(COUNT, 3, 3)
    above = replace(there, R=down)
    centre = torch.zeros_like(rays)
    torch.testing.assert_close(
        turned(poses, 0, here, centre, above, "gravity"), turned(poses, 0, here, centre, there, "ray")
    )


@pytest.mark.parametrize("turn", ["ray", "gravity"])
@pytest.mark.parametrize("path", ["source", "target"])
def test_turned_poses_still_stand_where_and_as_large_as_the_targets(make_clips, turn, path):
    source = make_clips(sequences=30, frames=5, cameras=load_rig("h36m").cameras, seed=1)
    target = make_clips(sequences=30, frames=5, cameras=load_rig("3dhp_test").cameras, seed=2).unlabelled()
    first = SourceSampler(source, 3).draw(60, torch.Generator().manual_seed(0))
    partner = TargetSampler(target, 3).draw(60, torch.Generator().manual_seed(1))
    stage = GPA(GPAConfig(turn=turn, path=path, refine_iters=6, path_smoothing=0.1))
    placed = stage.align(first, partner, torch.Generator())
    assert bool((placed.weight == 1).all())
    pixels = placed.cameras.project(placed.poses)[:, 1]
    wanted = partner.keypoints[:, 1]
    torch.testing.assert_close(pixels[:, 0], wanted[:, 0], atol=0.05, rtol=0)
    if path == "source":
        sides = [(points.amax(1) - points.amin(1)).mean(-1) for points in (pixels, wanted)]
        torch.testing.assert_close(*sides, rtol=2e-3, atol=0)
    skeleton = source.skeleton
    lengths = [bone_lengths(batch.poses, skeleton) for batch in (placed, first)]
    torch.testing.assert_close(*lengths, atol=0.02, rtol=0)
    plain = GPA(GPAConfig(refine_iters=6)).align(first, partner, torch.Generator())
    moved = [batch.poses[:, 1] - batch.poses[:, 1, :1] for batch in (placed, plain)]
    assert float((moved[0] - moved[1]).norm(dim=-1).mean()) > 10

"""How tall target people are, told from the floor, and source people made as tall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from poseda.geometry.camera import Camera
from poseda.stages.bodies import Bodies, BodiesConfig
from poseda.stages.bodies.size import relative_size


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


@pytest.fixture(scope="module")
def standing(make_clips):
    """Source people on a floor, and a function that gives target people of another size elsewhere."""
    far, near = looking_down(4, 1700.0, 5000.0, 0), looking_down(4, 1300.0, 3600.0, 1)
    source = on_floor(make_clips(sequences=160, frames=5, seed=5, bend=0.15, cameras=far), 1.0, far)
    people = make_clips(sequences=160, frames=5, seed=6, bend=0.15, cameras=near)
    return source, lambda size: on_floor(people, size, near)


@pytest.mark.parametrize("size", [0.85, 1.0, 1.15])
def test_the_size_of_target_bodies_is_found_from_the_floor(standing, size):
    source, target = standing
    found = relative_size(source, target(size).unlabelled())
    assert found is not None
    assert found[0] == pytest.approx(size, rel=0.025)


def test_cameras_that_disagree_show_that_the_floor_lies_elsewhere(standing, make_clips):
    source, _ = standing
    rig = looking_down(4, [900.0, 1000.0, 2100.0, 2200.0], 3600.0, 1)
    right = on_floor(make_clips(sequences=160, frames=5, seed=6, bend=0.15, cameras=rig), 1.0, rig)
    wrong = right._derive(cameras=replace(rig, t=rig.t + 400 * rig.R[:, :, 2]))  # the floor at -400 mm
    assert relative_size(source, right.unlabelled()) is not None
    assert relative_size(source, wrong.unlabelled()) is None
    alike = wrong.select(lambda sequence: sequence.camera < 2)  # these alone agree, on people of half their size
    assert relative_size(source, alike.unlabelled()) is not None


def test_people_are_made_as_tall_as_the_targets(standing):
    source, target = standing
    made, remark = Bodies(BodiesConfig(proportions="source")).recast(source, target(0.85).unlabelled())
    size = relative_size(source, target(0.85).unlabelled())[0]
    assert remark.startswith("target people are 0.8")
    roots = source.poses[:, :1]
    torch.testing.assert_close(made.poses - roots, size * (source.poses - roots), atol=5e-3, rtol=1e-5)
    torch.testing.assert_close(made.keypoints, made.cameras[made.camera_index].project(made.poses), atol=2e-3, rtol=0)


def test_without_extrinsics_or_a_floor_people_stay_as_tall_as_they_are_and_the_log_says_so(standing, make_clips):
    source, target = standing
    unknown = make_clips().unlabelled()  # its camera is in the world's origin
    afloat = target(1.0)
    afloat = afloat._derive(cameras=replace(afloat.cameras, t=afloat.cameras.t + 4000 * afloat.cameras.R[:, :, 2]))
    assert relative_size(source, unknown) is None
    assert relative_size(make_clips(), target(1.0).unlabelled()) is None
    assert relative_size(source, afloat.unlabelled()) is None
    made, remark = Bodies(BodiesConfig(proportions="source")).recast(source, unknown)
    assert remark.startswith("size=floor leaves people as tall as recorded")
    torch.testing.assert_close(made.poses, source.poses, atol=1e-2, rtol=0)

"""Proportions of the target's people from its 2D: longer arms, joints placed elsewhere, missing joints, and the matrix
that gives them to other bodies, against plain NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from poseda.anthropometry.people import alike
from poseda.anthropometry.proportions import Anatomy, Proportions, measured
from poseda.anthropometry.reference import Reference
from poseda.geometry.rigs import load_rig
from poseda.skeleton import SKELETONS, get_skeleton

ANATOMY = Anatomy(get_skeleton("h36m17"))


@pytest.fixture(scope="module")
def source(make_clips):
    return make_clips(sequences=150, frames=4, cameras=load_rig("h36m").cameras, seed=1)


@pytest.fixture(scope="module")
def other(make_clips):
    """Other postures of bodies of the same proportions, before other cameras."""
    return make_clips(sequences=150, frames=4, cameras=load_rig("3dhp_test").cameras, seed=2)


def with_poses(clips, poses):
    """Other poses, seen by the same cameras, lenses included."""
    poses = torch.as_tensor(poses, dtype=torch.float32)
    return replace(clips, poses=poses, keypoints=clips.cameras[clips.camera_index].project(poses))


def resized(clips, factors, size=1.0):
    """The same people with bones longer by factors, by the name of the joint where they end without its side."""
    skeleton, poses = clips.skeleton, clips.poses.double().numpy()
    made = poses.copy()
    for child, parent in enumerate(skeleton.parents):  # parents come before their children
        if parent >= 0:
            name = skeleton.joints[child]
            factor = size * factors.get(name if name in factors else name[1:], 1.0)
            made[:, child] = made[:, parent] + factor * (poses[:, child] - poses[:, parent])
    return with_poses(clips, made)


ARMS = {"elbow": 1.1, "wrist": 1.1}


def test_arms_that_are_ten_percent_longer_are_seen(source, other):
    longer = resized(other, ARMS)
    before, after = (Reference.of(source).proportions(clips.unlabelled()).ratios for clips in (other, longer))
    for name in before:
        change = (after[name] / before[name]) / (after["thigh"] / before["thigh"])
        assert change == pytest.approx(1.1 if name in ("upper_arm", "forearm") else 1.0, abs=0.02), name
    assert np.log(list(after.values())).mean() == pytest.approx(0, abs=1e-5)


def test_ratios_come_nearer_to_the_truth_than_none(source, other):
    target = resized(other, {"elbow": 1.12, "wrist": 1.12, "ankle": 0.93, "hip": 0.8})
    found = Reference.of(source).proportions(target.unlabelled()).ratios
    truth = {"upper_arm": 1.12, "forearm": 1.12, "shank": 0.93, "hips": 0.8}
    wanted = np.log([truth.get(name, 1.0) for name in found])
    wanted -= wanted.mean()
    assert np.abs(np.log(list(found.values())) - wanted).mean() < 0.5 * np.abs(wanted).mean()


def test_a_thorax_that_is_placed_higher_is_taken_for_that_and_not_for_a_longer_trunk(source, other):
    joints = other.skeleton.index
    poses = other.poses.double().numpy().copy()
    hips, shoulders = ((poses[:, joints("l" + n)] + poses[:, joints("r" + n)]) / 2 for n in ("hip", "shoulder"))
    poses[:, joints("thorax")] += 0.08 * (shoulders - hips)
    before, after = (Reference.of(source).proportions(c.unlabelled()) for c in (other, with_poses(other, poses)))
    assert after.shifts[joints("thorax")] - before.shifts[joints("thorax")] == pytest.approx(0.08, abs=0.01)
    assert after.shifts[joints("spine")] == pytest.approx(before.shifts[joints("spine")], abs=0.005)
    for name in ("trunk", "shoulders", "thigh", "forearm"):
        assert after.ratios[name] == pytest.approx(before.ratios[name], abs=0.03), name


def test_size_and_distance_have_no_say(source, other):
    found = [Reference.of(source).proportions(resized(other, ARMS, size).unlabelled()).ratios for size in (1.0, 0.8)]
    assert list(found[0].values()) == pytest.approx(list(found[1].values()), abs=0.03)


def test_segments_at_full_length_are_measured_exactly(source):
    """People who are flat before the camera, at any distance: nothing is foreshortened."""
    flat = source.poses[:1].clone()
    flat[..., 2] = 0
    points = ANATOMY.points(flat)[0]
    longest = [max(float((points[a] - points[b]).norm()) for a, b in pairs) for pairs in ANATOMY.segments.values()]
    rays = flat[..., :2] / torch.linspace(2000, 6000, 1200)[:, None, None]
    everything = torch.ones(1200, 17, dtype=torch.bool)
    found, places = measured(rays, everything, ANATOMY, torch.tensor(longest).roll(1))
    ratio = found / torch.tensor(longest)
    torch.testing.assert_close(ratio / ratio[0], torch.ones_like(ratio), rtol=0.02, atol=0)
    hips, shoulders = points[17].double().numpy(), points[18].double().numpy()
    axis = shoulders - hips
    expected = [(points[j].double().numpy() - hips) @ axis / (axis @ axis) for j in ANATOMY.trunk]
    np.testing.assert_allclose(places.numpy(), expected, atol=1e-4)


def test_missing_joints_leave_their_bones_as_they_are(source, other):
    confidence = other.confidence.clone()
    for name in ("lwrist", "rwrist", "thorax"):
        confidence[:, other.skeleton.index(name)] = 0
    clips = other.with_keypoints(other.keypoints, confidence, "made").unlabelled()
    found = Reference.of(source).proportions(clips)
    assert found.ratios["forearm"] == 1.0
    assert found.shifts[other.skeleton.index("thorax")] == 0.0
    assert np.isfinite(list(found.ratios.values())).all()
    few = clips._take(torch.arange(clips.num_frames) < 10)
    assert Reference.of(source).proportions(few) is None


def test_people_count_alike_however_long_they_are_seen(other):
    sequences = tuple(replace(s, subject="long" if n < 140 else "short") for n, s in enumerate(other.sequences))
    some = alike(other._derive(sequences=sequences), 100)
    frames = [sum(n for s, n in zip(some.sequences, some.bounds.diff().tolist(), strict=True) if s.subject == who)
              for who in ("long", "short")]  # fmt: skip
    assert frames[0] + frames[1] <= 100
    assert frames[1] == 40  # all there are
    assert 40 <= frames[0] <= 50


@pytest.mark.parametrize("name", [name for name, skeleton in SKELETONS.items() if Anatomy.fits(skeleton)])
def test_no_change_leaves_every_skeleton_as_it_is(name):
    rng, skeleton = np.random.default_rng(0), get_skeleton(name)
    anatomy = Anatomy(skeleton)
    same = Proportions(dict.fromkeys(anatomy.segments, 1.0), dict.fromkeys(anatomy.trunk, 0.0))
    joints = rng.normal(0, 300, (skeleton.num_joints, 3))
    moved = same.matrix(anatomy).numpy() @ joints
    np.testing.assert_allclose(moved, joints - joints[skeleton.root], atol=1e-9)


def test_the_matrix_changes_lengths_and_places_and_keeps_directions(random_people):
    rng = np.random.default_rng(0)
    ratios = {name: float(value) for name, value in zip(ANATOMY.segments, rng.uniform(0.7, 1.3, 9), strict=True)}
    shifts = {joint: float(value) for joint, value in zip(ANATOMY.trunk, (0.05, -0.03, 0.08), strict=True)}
    people = random_people(20).numpy()
    made = np.einsum("ij,njc->nic", Proportions(ratios, shifts).matrix(ANATOMY).numpy(), people)
    points = [ANATOMY.points(torch.from_numpy(joints)).numpy() for joints in (people, made)]
    for name, pairs in ANATOMY.segments.items():
        for a, b in pairs:
            before, after = (p[:, b] - p[:, a] for p in points)
            np.testing.assert_allclose(after, ratios[name] * before, atol=1e-6, err_msg=name)
    places = []
    for p in points:
        axis = p[:, 18] - p[:, 17]
        along = [((p[:, j] - p[:, 17]) * axis).sum(-1) / (axis**2).sum(-1) for j in ANATOMY.trunk]
        places.append(np.array(along))
    moved = np.broadcast_to(np.array(list(shifts.values()))[:, None], places[0].shape)
    np.testing.assert_allclose(places[1] - places[0], moved, atol=1e-9)

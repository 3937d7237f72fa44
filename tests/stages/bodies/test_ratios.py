"""Bone ratios of the target from its 2D: bodies whose arms were made longer, missing joints."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poseda.geometry.bones import bone_lengths, bone_vectors, joints_from_bones
from poseda.geometry.rigs import load_rig
from poseda.stages.augmentation.changes import group_index
from poseda.stages.bodies.ratios import seen_lengths, target_ratios


@pytest.fixture(scope="module")
def source(make_clips):
    return make_clips(sequences=150, frames=4, cameras=load_rig("h36m").cameras, seed=1)


@pytest.fixture(scope="module")
def other(make_clips):
    """Other postures of bodies of the same proportions, before other cameras."""
    return make_clips(sequences=150, frames=4, cameras=load_rig("3dhp_test").cameras, seed=2)


def resized(clips, factors, size=1.0):
    """The same people with bone groups longer by factors, seen by the same cameras, lenses included."""
    skeleton = clips.skeleton
    names = list(skeleton.bone_groups)
    scale = torch.full((len(names),), size)
    for name, factor in factors.items():
        scale[names.index(name)] *= factor
    bones = bone_vectors(clips.poses, skeleton) * scale[group_index(skeleton)][:, None]
    poses = joints_from_bones(bones, skeleton, clips.poses[:, skeleton.root])
    pixels = clips.cameras_at(torch.arange(clips.num_frames)).project(poses)
    return replace(clips, poses=poses, keypoints=pixels)


ARMS = {"upper_arm": 1.1, "forearm": 1.1}


def test_arms_that_are_ten_percent_longer_are_seen(source, other):
    longer = resized(other, ARMS)
    before, after = (target_ratios(source, clips.unlabelled()) for clips in (other, longer))
    names = list(source.skeleton.bone_groups)
    change = (after / before) / (after / before)[names.index("thigh")]
    for name, value in zip(names, change.tolist(), strict=True):
        assert value == pytest.approx(ARMS.get(name, 1.0), abs=0.02), name
    assert float(after.log().mean()) == pytest.approx(0, abs=1e-5)


def test_ratios_come_nearer_to_the_truth_than_none(source, other):
    factors = {"upper_arm": 1.12, "forearm": 1.12, "torso": 0.9, "shank": 0.93}
    found = target_ratios(source, resized(other, factors).unlabelled()).log()
    truth = torch.tensor([factors.get(name, 1.0) for name in source.skeleton.bone_groups]).log()
    truth = truth - truth.mean()
    assert float((found - truth).abs().mean()) < 0.5 * float(truth.abs().mean())


def test_size_and_distance_have_no_say(source, other):
    torch.testing.assert_close(
        *(target_ratios(source, resized(other, ARMS, size).unlabelled()) for size in (1.0, 0.8)), rtol=0, atol=0.03
    )


def test_bones_at_full_length_are_measured_exactly(source):
    """People who are flat before the camera, at any distance: nothing is foreshortened."""
    flat = source.poses[:1].clone()
    flat[..., 2] = 0
    lengths = bone_lengths(flat, source.skeleton)[0]
    groups = group_index(source.skeleton)
    expected = torch.stack([lengths[groups == group].amax() for group in range(int(groups.max()) + 1)])
    distance = torch.linspace(2000, 6000, 60)[:, None, None]
    rays = flat[..., :2] / distance
    found = seen_lengths(rays, torch.ones(60, 17, dtype=torch.bool), source.skeleton, expected.roll(1))
    ratio = found / expected
    torch.testing.assert_close(ratio / ratio[0], torch.ones_like(ratio), rtol=0.02, atol=0)


def test_missing_joints_leave_their_bones_as_they_are(source, other):
    confidence = other.confidence.clone()
    wrists = [other.skeleton.index(name) for name in ("lwrist", "rwrist")]
    confidence[:, wrists] = 0
    clips = other.with_keypoints(other.keypoints, confidence, "made").unlabelled()
    found = target_ratios(source, clips)
    assert float(found[list(source.skeleton.bone_groups).index("forearm")]) == 1.0
    assert bool(found.isfinite().all())
    few = clips._take(torch.arange(clips.num_frames) < 10)
    assert target_ratios(source, few) is None

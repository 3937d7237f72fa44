"""The bones of each person from all of its 2D, and test-time optimisation that holds poses to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from poseda.anthropometry.persons import person_bones
from poseda.anthropometry.reference import Reference
from poseda.errors import ConfigError
from poseda.geometry.bones import bone_lengths
from poseda.lifters.inference import LiftedClips
from poseda.stages.tto import TTO, TTOConfig
from tests.anthropometry.floor import looking_down, on_floor


@pytest.fixture(scope="module")
def source(make_clips):
    far = looking_down(4, 1700.0, 5000.0, 0)
    return on_floor(make_clips(sequences=160, frames=5, seed=5, bend=0.15, cameras=far), 1.0, far)


@pytest.fixture(scope="module")
def two(make_clips):
    """A tall person with long arms and a short one with short legs, 120 sequences each, before other cameras."""
    near = looking_down(4, 1300.0, 3600.0, 1)
    people = make_clips(sequences=240, frames=5, seed=6, bend=0.15, cameras=near)
    sequences = tuple(replace(s, subject="tall" if n < 120 else "short") for n, s in enumerate(people.sequences))
    tall = torch.tensor([s.subject == "tall" for s in sequences])[people.sequence_index][:, None]
    before, poses = people.poses, people.poses.clone()
    for child, parent in enumerate(people.skeleton.parents):  # parents come before their children
        if parent >= 0:
            name = people.skeleton.joints[child][1:]
            longer = {"elbow": 1.15, "wrist": 1.15}.get(name, 1.0) * 1.08
            shorter = {"knee": 0.88, "ankle": 0.88}.get(name, 1.0) * 0.97
            factor = torch.where(tall, longer, shorter)
            poses[:, child] = poses[:, parent] + factor * (before[:, child] - before[:, parent])
    return on_floor(people._derive(poses=poses, sequences=sequences), 1.0, near)


def means(clips, poses):
    """Mean bone lengths of each person, NumPy: {subject: (E,) mm}."""
    names = np.array([s.subject for s in clips.sequences])[clips.sequence_index.numpy()]
    lengths = bone_lengths(poses, clips.skeleton).double().numpy()
    return {name: lengths[names == name].mean(0) for name in clips.subjects}


def relative(clips):
    return clips.poses - clips.poses[:, :1]


def test_each_persons_bones_are_measured_in_proportion_and_size(source, two):
    wrong = 0.9 * relative(two)  # lifted poses are too small; the floor knows
    found = person_bones(Reference.of(source), two.unlabelled(), wrong)
    assert (found.people, found.measured, found.by_floor) == (2, 2, 2)
    truth = means(two, two.poses)
    for name, bones in means_of(two, found.bones).items():
        np.testing.assert_allclose(bones / truth[name], 1.0, atol=0.06, err_msg=name)
        assert bones.sum() / truth[name].sum() == pytest.approx(1.0, abs=0.025)


def means_of(clips, bones):
    names = np.array([s.subject for s in clips.sequences])[clips.sequence_index.numpy()]
    return {name: bones.numpy()[names == name].mean(0) for name in clips.subjects}


def test_without_the_floor_people_are_as_large_as_their_lifted_poses(source, two):
    found = person_bones(Reference.of(source), two.unlabelled(), 0.9 * relative(two), floor=False)
    assert found.by_floor == 0
    for name, bones in means_of(two, found.bones).items():
        assert bones.sum() == pytest.approx(0.9 * means(two, two.poses)[name].sum(), rel=1e-4)


def test_who_is_hardly_seen_is_not_measured(source, two):
    few = two._take(torch.arange(two.num_frames) < 900)  # 600 frames of one, 300 of the other
    found = person_bones(Reference.of(source), few.unlabelled(), relative(few))
    assert (found.people, found.measured) == (2, 1)
    assert bool(found.bones[-1].isnan().all())
    assert bool(found.bones[0].isfinite().all())


def lifted(clips, seed=0):
    """Poses whose legs are too short and arms too long, and noisy."""
    draws = torch.Generator().manual_seed(seed)
    noise = 30 * torch.randn(clips.poses.shape, generator=draws)
    noise[:, 0] = 0
    factor = torch.ones(17)
    for joint, name in enumerate(clips.skeleton.joints):
        factor[joint] = {"knee": 0.93, "ankle": 0.93, "elbow": 1.05, "wrist": 1.08}.get(name[1:], 1.0)
    return LiftedClips(relative(clips) * factor[:, None] + noise, torch.full_like(clips.confidence, 60.0))


def test_poses_held_to_a_persons_bones_come_nearer_to_the_truth(source, two, small_lifter):
    errors, off = {}, {}
    for lengths in ("clip", "person"):
        stage = TTO(TTOConfig(lengths=lengths, sigma_mm=60.0))
        stage.calibrate(small_lifter().eval(), source)
        refined = stage.refine(small_lifter().eval(), two.unlabelled(), lifted(two)).poses
        errors[lengths] = float((refined - relative(two)).norm(dim=-1).mean())
        off[lengths] = np.abs(means(two, refined)["tall"] / means(two, two.poses)["tall"] - 1).mean()
    assert off["person"] < 0.6 * off["clip"]
    assert errors["person"] < 0.95 * errors["clip"]
    assert "bones of 2 of 2 people measured on their 2D, the height of 2 from the floor" in stage.remark()


def test_without_source_clips_bones_keep_their_mean_in_the_clip_and_the_log_says_so(two, small_lifter):
    some = two._take(torch.arange(two.num_frames) < 40)
    held = {
        lengths: TTO(TTOConfig(lengths=lengths, sigma_mm=60.0)) for lengths in ("clip", "person")
    }  # neither is calibrated
    poses = [stage.refine(small_lifter().eval(), some.unlabelled(), lifted(some)).poses for stage in held.values()]
    torch.testing.assert_close(*poses, rtol=0, atol=0)
    assert "neither source clips nor a card with people" in held["person"].remark()


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="weight_bones=0"):
        TTOConfig(lengths="person", weight_bones=0.0)
    with pytest.raises(ConfigError, match=r"is for tto\.lengths=person"):
        TTOConfig(size="lifted")
    with pytest.raises(ConfigError, match="Did you mean 'person'"):
        TTOConfig(lengths="persons")

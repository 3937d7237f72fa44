"""Lifters that give one pose a window: what their teacher recalls, and its windows turned."""

from __future__ import annotations

import copy

import pytest
import torch

from poseda.data.batches import TargetSampler
from poseda.data.clips import LabelledClips
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.geometry.bones import bone_lengths
from poseda.geometry.camera import denormalise_screen
from poseda.geometry.root import root_from_keypoints
from poseda.lifters import create_lifter
from poseda.lifters.inference import lift_clips
from poseda.stages import create_stage
from poseda.stages.base import Lesson, Setting
from poseda.stages.mean_teacher.recall import Recall


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def moving(make_clips):
    """A temporal lifter that gives one pose for three frames, and a target of 30 frames in 3 sequences."""
    lifter = create_lifter("videopose3d", seed=0, frames=3, channels=16)
    source = make_clips(sequences=40, seed=3)
    lifter = train_lifter(lifter, source, TrainConfig(steps=150, batch_size=64, lr=3e-3), seed=0)
    return lifter.eval(), make_clips(sequences=3, frames=10, seed=4).unlabelled()


@pytest.mark.parametrize("view", ["screen", "perspective"])
def test_a_window_that_is_recalled_is_the_teachers_poses_where_they_fit_its_2d(moving, view):
    """The turned window's 2D is that of the poses the teacher gave, frame by frame, whatever view it has."""
    clips = moving[1]
    lifter = create_lifter("videopose3d", seed=0, frames=3, channels=16, view=view).eval()
    recall = Recall(clips, 3, 1000, False, None)
    recall.renew(lifter)
    lifted = lift_clips(lifter, clips, flip=False).poses
    target, poses = recall.draw(50, draws())
    for n in range(50):
        middle = int(target.frames[n])
        first = 10 * (middle // 10)
        frames = [min(max(middle + k, first), first + 9) for k in (-1, 0, 1)]
        assert torch.equal(poses[n], lifted[frames])
        assert torch.equal(target.keypoints[n], clips.keypoints[frames])


def test_of_a_long_target_the_first_part_of_each_sequence_is_recalled_with_its_own_bones(moving):
    lifter, clips = moving
    bones = 100.0 + torch.arange(30.0)[:, None].expand(-1, 16)
    recall = Recall(clips, 3, 15, False, bones)
    recall.renew(lifter)
    lengths = bone_lengths(recall.poses, lifter.skeleton)
    kept = [10 * sequence + frame for sequence in range(3) for frame in range(5)]
    torch.testing.assert_close(lengths, bones[kept], rtol=1e-4, atol=1e-3)


def test_one_pose_a_window_is_turned_as_the_teacher_recalls_it(moving):
    """Every window is another one, and the pose that it asks for fits its middle frame."""
    lifter, clips = moving
    stage = create_stage("mean_teacher", noise=0.0, rotate=1.0, flip=False, lengths="lifted")
    stage.prepare(Setting(lifter, object.__new__(LabelledClips), clips, 100, 0, draws()))
    target = TargetSampler(clips, 3).draw(40, draws(1))
    screen = lifter.see(target.keypoints, target.visible, target.cameras).keypoints
    lesson = Lesson(100, 100, screen, screen, torch.ones(40), target, screen, None, lifter, draws())
    with torch.no_grad():
        seen, pose, weight = stage._pairs(lesson)
    assert seen.shape == screen.shape and pose.shape == (40, 1, 17, 3)
    turned = (seen != screen).flatten(1).any(1)
    assert int(turned.sum()) > 30 and bool((weight[turned] > 0).all())
    cameras = target.cameras[:1].expand(40)
    pixels = denormalise_screen(seen[:, 1:2], cameras.width, cameras.height)
    root, _ = root_from_keypoints(pose, cameras.unproject(pixels), torch.ones_like(pose[..., 0]))
    away = (cameras.project(pose + root.unsqueeze(-2)) - pixels).norm(dim=-1).mean((1, 2))
    assert float(away[turned].max()) < 0.1


def test_what_is_recalled_is_lifted_anew_and_kept_with_the_state(moving):
    lifter, clips = moving
    stage = create_stage("mean_teacher", refresh=2, decay=0.0, lengths="lifted")
    setting = Setting(lifter, object.__new__(LabelledClips), clips, 100, 0, draws())
    stage.prepare(setting)
    first = stage.recall.poses
    moved = copy.deepcopy(lifter)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1.1)
    stage.after_step(moved)
    assert stage.recall.poses is first
    stage.after_step(moved)
    assert not torch.equal(stage.recall.poses, first)
    again = create_stage("mean_teacher", refresh=2, decay=0.0, lengths="lifted")
    again.prepare(setting)
    again.load_state_dict(stage.state_dict())
    assert torch.equal(again.recall.poses, stage.recall.poses)
    again.recall.poses = again.recall.poses.to("meta")  # a checkpoint is read on the CPU, whatever the run's device
    again.load_state_dict(stage.state_dict())
    assert again.recall.poses.device.type == "meta"

"""The mean teacher: what the lifter sees and is to say, its gradient, the teacher's average."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from poseda.data.batches import TargetBatch
from poseda.data.clips import LabelledClips
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import ConfigError
from poseda.geometry.bones import bone_lengths
from poseda.geometry.boxes import box_scale
from poseda.geometry.camera import Camera, denormalise_screen, normalise_screen
from poseda.geometry.root import root_from_keypoints
from poseda.lifters import create_lifter
from poseda.lifters.inference import mirror_keypoints, mirror_poses
from poseda.stages import create_stage
from poseda.stages.base import Lesson, Setting
from poseda.stages.mean_teacher.stage import ramp_up


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_ramp_is_the_papers():
    assert ramp_up(0, 80) == pytest.approx(math.exp(-5))
    assert ramp_up(40, 80) == pytest.approx(math.exp(-1.25))
    assert ramp_up(80, 80) == ramp_up(500, 80) == ramp_up(0, 0) == 1


@pytest.fixture(scope="module")
def knowing(make_clips):
    """A lifter that knows people in one place, and clips of others there."""
    source, target = make_clips(sequences=40, seed=3), make_clips(sequences=10, seed=4)
    lifter = create_lifter("simplebaseline", seed=0, hidden=64, blocks=1, dropout=0.0)
    return train_lifter(lifter, source, TrainConfig(steps=300, batch_size=128, lr=3e-3), seed=0), target.unlabelled()


def prepared(lifter, **options):
    stage = create_stage("mean_teacher", **{"lengths": "lifted", "weight": 1.0, **options})
    there = object.__new__(LabelledClips)  # that there is a source is all that the stage asks
    remark = stage.prepare(Setting(lifter, there, None, 100, 0, draws()))
    return stage, remark


def lesson_of(lifter, clips, count=16, index=100, seed=0):
    rows = torch.arange(count)
    cameras = clips.cameras_at(rows)
    keypoints = clips.keypoints[rows][:, None]
    target = TargetBatch(keypoints, clips.visible[rows][:, None], cameras)
    screen = normalise_screen(keypoints, cameras.width, cameras.height)
    return Lesson(index, 100, screen, keypoints, torch.ones(count), target, screen, None, lifter, draws(seed))


def test_without_any_change_teacher_and_lifter_agree(knowing):
    lifter, clips = knowing
    stage, _ = prepared(lifter, noise=0.0, rotate=0.0, flip=False)
    assert float(stage.lifter_loss(lesson_of(lifter, clips)).detach()) == pytest.approx(0, abs=1e-12)


def test_without_a_source_the_source_model_holds_the_lifter(knowing):
    """The loss is the agreement with the teacher and, beside it, the mean squared distance from the source model."""
    lifter, clips = knowing
    stage = create_stage(
        "mean_teacher", noise=0.0, rotate=0.0, flip=False, anchor=2.0, lengths="lifted", weight=1.0
    )
    stage.prepare(Setting(lifter, None, None, 100, 0, draws()))
    moved = copy.deepcopy(lifter)
    with torch.no_grad():
        moved.w2.bias.add_(0.1)  # metres on each axis of each joint but the root
    lesson = lesson_of(moved, clips)
    joints = lifter.skeleton.num_joints
    far = 3 * 0.1**2 * (joints - 1) / joints
    with torch.no_grad():
        weight = stage._pairs(lesson)[2].mean()
    assert float(stage.lifter_loss(lesson).detach()) == pytest.approx(far * (2.0 + float(weight)), rel=1e-4)


def test_what_the_lifter_is_to_say_fits_what_it_sees(knowing):
    """Without noise a turned pair is a true one: the pose reprojects onto the 2D wherever the teacher was wrong."""
    lifter, clips = knowing
    stage, _ = prepared(lifter, noise=0.0, rotate=1.0, flip=True)
    lesson = lesson_of(lifter, clips)
    with torch.no_grad():
        keypoints, pose, weight = stage._pairs(lesson)
    cameras = lesson.target.cameras
    pixels = denormalise_screen(keypoints, cameras.width, cameras.height)
    mirrored = Camera.create(fx=1145.0, fy=1145.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0).expand(len(pose))
    root, valid = root_from_keypoints(pose, mirrored.unproject(pixels), torch.ones_like(pose[..., 0]))
    away = (mirrored.project(pose + root.unsqueeze(-2)) - pixels).norm(dim=-1).mean((1, 2))
    used = weight > 0
    assert bool(valid[used].all()) and int(used.sum()) > 8
    assert float(away[used].max()) < 0.1
    plain = (keypoints - lesson.target_keypoints).abs().amax((1, 2, 3)) > 1e-3
    other = (keypoints - mirror_keypoints(lesson.target_keypoints, lifter.skeleton)).abs().amax((1, 2, 3)) > 1e-3
    assert bool((plain & other)[used].all()), "every window was turned"


def test_the_teachers_poses_take_measured_bones_and_keep_their_own_where_there_are_none(knowing):
    lifter, clips = knowing
    stage, _ = prepared(lifter, noise=0.0, rotate=1.0, flip=True)
    lesson = lesson_of(lifter, clips)
    frames = torch.arange(16).flip(0)
    lesson = replace(lesson, target=replace(lesson.target, frames=frames))
    stage.bones = 100 + 200 * torch.rand(len(clips.bounds) * 12, 16, generator=draws())
    stage.bones[:4] = torch.nan
    with torch.no_grad():
        own = stage.teacher(lesson.target_keypoints).pose
        _, pose, _ = stage._pairs(lesson)
    lengths = bone_lengths(pose, lifter.skeleton)[:, 0]
    mirrored = lengths.clone()  # half of the windows are mirrored: left bones there are right ones
    for left, right in lifter.skeleton.bone_pairs:
        mirrored[:, [left, right]] = mirrored[:, [right, left]]
    asked = stage.bones[frames]
    away = torch.minimum((lengths - asked).abs().amax(1), (mirrored - asked).abs().amax(1))
    assert float(away[:12].max()) < 0.1
    assert bool(away[12:].isnan().all()) and bool(lengths.isfinite().all())
    # who is not measured has bones like the teacher's own (the mean of both looks is a little shorter)
    ratio = lengths[12:].sum(-1) / bone_lengths(own, lifter.skeleton)[12:, 0].sum(-1)
    assert bool(((ratio > 0.8) & (ratio < 1.1)).all())


def test_a_mirrored_window_asks_for_the_mirrored_pose(knowing):
    lifter, clips = knowing
    stage, _ = prepared(lifter, noise=0.0, rotate=0.0, flip=True)
    lesson = lesson_of(lifter, clips)
    with torch.no_grad():
        keypoints, pose, _ = stage._pairs(lesson)
        both = (
            lifter(lesson.target_keypoints).pose
            + mirror_poses(lifter(mirror_keypoints(lesson.target_keypoints, lifter.skeleton)).pose, lifter.skeleton)
        ) / 2
    flipped = (keypoints != lesson.target_keypoints).flatten(1).any(1)
    assert 0 < int(flipped.sum()) < 16
    expected = torch.where(flipped.view(-1, 1, 1, 1), mirror_poses(both, lifter.skeleton), both)
    torch.testing.assert_close(pose, expected)


def test_noise_is_a_share_of_the_box(knowing):
    lifter, clips = knowing
    stage, _ = prepared(lifter, noise=0.02, rotate=0.0, flip=False)
    lesson = lesson_of(lifter, clips, count=100)
    with torch.no_grad():
        keypoints, _, _ = stage._pairs(lesson)
    box = box_scale(lesson.target_keypoints, torch.ones(100, 1, 17, dtype=torch.bool))
    spread = ((keypoints - lesson.target_keypoints) / box[..., None, None]).std()
    assert float(spread) == pytest.approx(0.02, rel=0.05)


def test_the_gradient_goes_to_the_lifter_alone_and_is_that_of_finite_differences(knowing):
    lifter, clips = knowing
    student = create_lifter("simplebaseline", seed=1, hidden=64, blocks=1, dropout=0.0)
    student.load_state_dict(lifter.state_dict())
    student = student.double().eval()
    stage, _ = prepared(lifter)
    stage.teacher = stage.teacher.double()

    def loss():
        lesson = lesson_of(student, clips)
        target = TargetBatch(
            lesson.target.keypoints.double(), lesson.target.visible, lesson.target.cameras.to(dtype=torch.float64)
        )
        screen = lesson.target_keypoints.double()
        lesson = Lesson(100, 100, screen, screen, lesson.weight, target, screen, None, student, draws())
        return stage.lifter_loss(lesson)

    loss().backward()
    weight = student.w2.weight
    gradient, step = weight.grad.clone(), 1e-5
    assert all(parameter.grad is None for parameter in stage.teacher.parameters())
    for place in [(0, 0), (7, 20), (40, 63)]:
        with torch.no_grad():
            weight[place] += step
            above = float(loss())
            weight[place] -= 2 * step
            below = float(loss())
            weight[place] += step
        assert float(gradient[place]) == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-9)


def test_the_teacher_follows_and_comes_out(small_lifter):
    lifter = small_lifter()
    stage, _ = prepared(lifter, decay=0.0)
    assert stage.finish(lifter) is lifter, "before any step"
    with torch.no_grad():
        lifter.w1.weight.add_(1)
    stage.after_step(lifter)
    result = stage.finish(lifter)
    assert result is not lifter and result is not stage.teacher
    assert torch.equal(result.w1.weight, lifter.w1.weight)
    assert all(parameter.requires_grad for parameter in result.parameters())
    student, _ = prepared(lifter, keep="student")
    student.after_step(lifter)
    assert student.finish(lifter) is lifter


@pytest.mark.parametrize(
    "options",
    [
        {"weight": 0.0}, {"decay": 1.0}, {"ramp": 1.5}, {"residual": 0.0}, {"noise": -0.1}, {"rotate": 2.0},
        {"angle": -1.0}, {"keep": "pupil"}, {"refresh": -1}, {"frames": 0},
    ],
)  # fmt: skip
def test_bad_options_are_refused_in_one_line(options):
    with pytest.raises(ConfigError, match=rf"mean_teacher\.{next(iter(options))}") as caught:
        create_stage("mean_teacher", **options)
    assert "\n" not in str(caught.value)

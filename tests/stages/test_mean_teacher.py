"""The mean teacher: pairs that are geometrically true, weights by reprojection, the teacher's average."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.data.batches import TargetBatch, TargetSampler
from poseda.data.clips import LabelledClips
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import ConfigError
from poseda.geometry.bones import bone_lengths
from poseda.geometry.boxes import box_scale
from poseda.geometry.camera import Camera, denormalise_screen, normalise_screen, vertical
from poseda.geometry.root import root_from_keypoints
from poseda.lifters import create_lifter
from poseda.lifters.inference import lift_clips, mirror_keypoints, mirror_poses
from poseda.stages import create_stage
from poseda.stages.base import Lesson, Setting
from poseda.stages.mean_teacher.recall import Recall
from poseda.stages.mean_teacher.stage import ramp_up
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


# --- geometry ---


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


def test_the_ramp_is_the_papers():
    assert ramp_up(0, 80) == pytest.approx(math.exp(-5))
    assert ramp_up(40, 80) == pytest.approx(math.exp(-1.25))
    assert ramp_up(80, 80) == ramp_up(500, 80) == ramp_up(0, 0) == 1


# --- the stage ---


@pytest.fixture(scope="module")
def knowing(make_clips):
    """A lifter that knows people in one place, and clips of others there."""
    source, target = make_clips(sequences=40, seed=3), make_clips(sequences=10, seed=4)
    lifter = create_lifter("simplebaseline", seed=0, hidden=64, blocks=1, dropout=0.0)
    return train_lifter(lifter, source, TrainConfig(steps=300, batch_size=128, lr=3e-3), seed=0), target.unlabelled()


def prepared(lifter, **options):
    stage = create_stage("mean_teacher", **options)
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
    stage = create_stage("mean_teacher", noise=0.0, rotate=0.0, flip=False, anchor=2.0)
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


# --- lifters that give one pose a window ---


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
    stage = create_stage("mean_teacher", noise=0.0, rotate=1.0, flip=False)
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
    stage = create_stage("mean_teacher", refresh=2, decay=0.0)
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
    again = create_stage("mean_teacher", refresh=2, decay=0.0)
    again.prepare(setting)
    again.load_state_dict(stage.state_dict())
    assert torch.equal(again.recall.poses, stage.recall.poses)


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

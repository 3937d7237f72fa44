"""Pseudo-labels: body frames against SciPy's rotations, orientations given back, refusals, exact resume."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from poseda.data.batches import SourceBatch, SourceSampler, TargetSampler
from poseda.engine.checkpoint import load_state
from poseda.engine.loop import LoopConfig
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import ConfigError, DataError
from poseda.geometry.rigs import load_rig
from poseda.geometry.rotations import geodesic_distance
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter, LifterOutput
from poseda.skeleton import get_skeleton
from poseda.stages import create_stage, pipeline
from poseda.stages.base import Setting
from poseda.stages.pipeline import AdaptConfig, adapt_lifter
from poseda.stages.pseudo_labels import (
    PseudoLabels,
    PseudoLabelsConfig,
    asymmetry,
    body_frame,
    make_labels,
    trunk,
)
from tests.stages.killing import Killed, KilledAt
from tests.stages.waiting import Waiting

SKELETON = get_skeleton("h36m17")
JOINTS = trunk(SKELETON)


class Knowing(Lifter):
    """Gives the true poses of clips, found by their 2D: a lifter without error."""

    name = "knowing"

    def __init__(self, clips, factor=1.0):
        super().__init__(skeleton=SKELETON, frames=1, output="seq2seq", options={})
        relative = factor * (clips.poses - clips.poses[:, :1])
        width, height = (size[clips.camera_index, None, None] for size in (clips.cameras.width, clips.cameras.height))
        points = clips.keypoints * (2 / width) - torch.cat([torch.ones_like(width), height / width], -1)
        self.weight = nn.Parameter(torch.zeros(()))
        mirror = torch.tensor(SKELETON.mirror)
        flip = torch.tensor([-1.0, 1.0, 1.0])
        self.points = torch.cat([points, points[:, mirror] * flip[:2]])
        self.poses = torch.cat([relative, relative[:, mirror] * flip])

    def encode(self, keypoints):
        return keypoints

    def decode(self, latent):
        off = (latent[:, 0, None] - self.points).flatten(2).norm(dim=-1)
        return LifterOutput(self.poses[off.argmin(1)][:, None] + 0 * self.weight)


@pytest.fixture(scope="module")
def world(make_clips):
    """Source and target clips before rigs with known extrinsics."""
    source = make_clips(sequences=8, frames=6, seed=3, cameras=load_rig("h36m").cameras)
    place = (300.0, 100.0, 3800.0)
    target = make_clips(sequences=8, frames=6, seed=4, place=place, cameras=load_rig("3dhp_test").cameras)
    poses = target.poses + torch.linspace(0, 400, 48)[:, None, None] * torch.tensor([1.0, 0.0, 0.5])
    points = target.cameras_at(torch.arange(48)).project(poses)
    return source, target._derive(poses=poses, keypoints=points)  # each frame has a root of its own


def prepared(clips, lifter=None, **options):
    source, target = clips
    everything = {"share": 1.0, "keep_reprojection": 1.0, "keep_symmetry": 1.0}
    stage = PseudoLabels(PseudoLabelsConfig(**{**everything, **options}))
    lifter = lifter or Knowing(target)
    remark = stage.prepare(Setting(lifter, source, target.unlabelled(), 10, 0, torch.Generator()))
    return stage, remark


def drawn(clips, count=64, frames=1):
    source, target = clips
    first = SourceSampler(source, frames).draw(count, torch.Generator().manual_seed(0))
    return first, TargetSampler(target.unlabelled(), frames).draw(count, torch.Generator().manual_seed(1))


# --- body frames ---


def test_a_body_frame_is_a_rotation_with_the_axes_that_the_equation_names(random_people):
    poses = random_people(50)
    frames, exist = body_frame(poses, JOINTS)
    assert bool(exist.all())
    for pose, frame in zip(poses.numpy(), frames.numpy(), strict=True):
        Rotation.from_matrix(frame)  # refuses a matrix that is a reflection
        hips = pose[SKELETON.index("lhip")] - pose[SKELETON.index("rhip")]
        spine = pose[SKELETON.index("spine")] - pose[0]
        first = hips / np.linalg.norm(hips)
        second = spine - (spine @ first) * first
        second /= np.linalg.norm(second)
        np.testing.assert_allclose(frame, np.stack([first, second, np.cross(first, second)], 1), atol=1e-12)
        np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-12)
        assert np.linalg.det(frame) == pytest.approx(1.0)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_to_turn_a_pose_is_to_turn_its_frame(random_people, dtype, error):
    poses = random_people(40)
    turns = Rotation.random(40, random_state=1)
    turned = np.stack([turn.apply(pose) for turn, pose in zip(turns, poses.numpy(), strict=True)])
    before, _ = body_frame(poses.to(dtype), JOINTS)
    after, _ = body_frame(torch.from_numpy(turned).to(dtype) + 4000.0, JOINTS)
    wanted = (turns * Rotation.from_matrix(before.double().numpy())).as_matrix()
    np.testing.assert_allclose(after.numpy(), wanted, atol=error if dtype == torch.float64 else 1e-5)


def test_bodies_without_a_frame_are_named_and_their_gradient_is_finite(random_people):
    poses = random_people(4)
    poses[0] = 0
    poses[1, SKELETON.index("lhip")] = poses[1, SKELETON.index("rhip")]
    poses[2, SKELETON.index("spine")] = poses[2, SKELETON.index("lhip")] * 2 - poses[2, SKELETON.index("rhip")]
    poses[2, 0] = (poses[2, SKELETON.index("lhip")] + poses[2, SKELETON.index("rhip")]) / 2
    poses.requires_grad_(True)
    frames, exist = body_frame(poses, JOINTS)
    assert exist.tolist() == [False, False, False, True]
    assert torch.equal(frames[0].detach(), torch.eye(3, dtype=torch.float64))
    frames.square().sum().backward()
    assert bool(poses.grad.isfinite().all())


def test_joint_sets_without_hips_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="needs hips and a spine or thorax; coco17"):
        trunk(get_skeleton("coco17"))
    assert trunk(get_skeleton("humaneva15"))[3] == get_skeleton("humaneva15").index("thorax")


# --- labels ---


def test_a_lifter_without_error_gives_labels_that_are_the_truth(world):
    target = world[1]
    stage, remark = prepared(world)
    assert remark.startswith("48 of 48 lifted target frames are pseudo-labels; 0.0 % have no place")
    torch.testing.assert_close(stage.labels.roots, target.poses[:, 0], atol=1.0, rtol=0)
    torch.testing.assert_close(stage.labels.frames, body_frame(target.poses, JOINTS)[0], atol=1e-4, rtol=0)
    assert torch.equal(stage.labels.cameras, target.camera_index)


def test_labels_that_reproject_badly_or_are_lopsided_are_refused(world):
    target = world[1]
    lifter = Knowing(target)
    lifter.poses[3, 10] += torch.tensor([0.0, 900.0, 0.0])  # a joint far from where it is seen
    lifter.poses[5, SKELETON.index("lwrist")] += 3 * (
        lifter.poses[5, SKELETON.index("lwrist")] - lifter.poses[5, SKELETON.index("lelbow")]
    )
    everything, _ = make_labels(lifter, target.unlabelled(), 1.0, 1.0, 300.0)
    seen_well, _ = make_labels(lifter, target.unlabelled(), 0.94, 1.0, 300.0)
    even, _ = make_labels(lifter, target.unlabelled(), 1.0, 0.97, 300.0)
    assert len(everything.roots) == 48
    assert not any(torch.equal(body, everything.frames[3]) for body in seen_well.frames)
    assert not any(torch.equal(body, everything.frames[5]) for body in even.frames)
    assert 40 <= len(seen_well.roots) < 48 and 40 <= len(even.roots) < 48


def test_asymmetry_is_the_relative_difference_of_the_sides(random_people):
    poses = random_people(3)
    torch.testing.assert_close(asymmetry(poses, SKELETON), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    wrist, elbow = SKELETON.index("lwrist"), SKELETON.index("lelbow")
    poses[:, wrist] += poses[:, wrist] - poses[:, elbow]  # twice as long: 1 against 1.5 on average, in one of six pairs
    torch.testing.assert_close(asymmetry(poses, SKELETON), torch.full((3,), 1 / 1.5 / 6, dtype=torch.float64))


def test_degenerate_target_frames_give_no_label_and_are_counted(world):
    source, target = world
    keypoints, confidence = target.keypoints.clone(), target.confidence.clone()
    confidence[:4] = 0
    confidence[4:6, 5:] = 0
    keypoints[6] = 300.0
    broken = target.with_keypoints(keypoints, confidence, "made")
    lifter = Knowing(target)
    lifter.poses[[7, 7 + 48]] = 0  # and its mirror image
    stage, remark = prepared((source, broken), lifter)
    assert remark.startswith("40 of 48 lifted target frames are pseudo-labels; 16.7 % have no place")
    assert bool(stage.labels.roots.isfinite().all() & stage.labels.frames.isfinite().all())


def test_a_target_that_gives_no_label_at_all_is_refused_in_one_line(world):
    source, target = world
    hardly = torch.zeros_like(target.confidence)
    hardly[:, :5] = 1
    nobody = target.with_keypoints(target.keypoints, hardly, "made")
    with pytest.raises(DataError, match="no frame gives a pseudo-label") as caught:
        prepared((source, nobody), Knowing(target))
    assert "\n" not in str(caught.value)


# --- placing ---


def labels_of(batch, stage):
    """The number of the label whose root each window has."""
    return (batch.poses[:, batch.poses.shape[1] // 2, :1] - stage.labels.roots).norm(dim=-1).argmin(1)


def test_a_target_of_turned_source_poses_gives_these_turns_back(world):
    """Target people are one source pose, turned by known rotations and moved: X' is then the target's pose itself."""
    source, target = world
    pose = source.poses[7] - source.poses[7, :1]
    turns = torch.from_numpy(Rotation.random(target.num_frames, random_state=2).as_matrix()).float()
    poses = pose @ turns.mT + target.poses[:, :1]
    target = target._derive(poses=poses, keypoints=target.cameras_at(torch.arange(48)).project(poses))
    stage, _ = prepared((source, target))
    batch = SourceBatch(source.poses[7].expand(64, 1, 17, 3), source.cameras_at(torch.full((64,), 7)), torch.ones(64))
    placed = stage.align(batch, drawn((source, target))[1], torch.Generator().manual_seed(4))
    index = labels_of(placed, stage)
    assert len(index.unique()) > 20
    assert bool((placed.weight == 1).all())
    torch.testing.assert_close(placed.poses[:, 0], target.poses[index], atol=1.0, rtol=0)
    assert torch.equal(placed.cameras.fx, target.cameras.fx[target.camera_index[index]])
    mine = body_frame(pose, JOINTS)[0]
    after = Rotation.from_matrix(body_frame(placed.poses[:, 0], JOINTS)[0].numpy())
    found = after * Rotation.from_matrix(mine.numpy()).inv()
    np.testing.assert_allclose(found.as_matrix(), turns[index].numpy(), atol=1e-4)


def test_windows_turn_and_move_rigidly_about_the_middle_root(world):
    stage, _ = prepared(world)
    source, target = drawn(world, frames=5)
    placed = stage.align(source, target, torch.Generator().manual_seed(0))
    index = labels_of(placed, stage)
    torch.testing.assert_close(placed.poses[:, 2, 0], stage.labels.roots[index], atol=1e-2, rtol=0)
    frames = body_frame(placed.poses[:, 2], JOINTS)[0]
    torch.testing.assert_close(frames, stage.labels.frames[index], atol=1e-4, rtol=0)
    flat = [batch.poses.flatten(1, 2) for batch in (source, placed)]
    distances = [torch.cdist(points.double(), points.double()) for points in flat]
    torch.testing.assert_close(distances[0], distances[1], atol=1e-2, rtol=0)


def test_without_orientation_only_the_place_is_taken_over(world):
    stage, _ = prepared(world, orientation="none")
    source, target = drawn(world)
    placed = stage.align(source, target, torch.Generator().manual_seed(0))
    before, after = (batch.poses - batch.poses[:, :, :1] for batch in (source, placed))
    torch.testing.assert_close(before, after, atol=2e-3, rtol=0)


def test_vertical_keeps_the_lean_towards_the_vertical_and_takes_the_heading(world):
    stage, _ = prepared(world, orientation="vertical")
    source, target = drawn(world)
    placed = stage.align(source, target, torch.Generator().manual_seed(0))
    index = labels_of(placed, stage)

    def in_world(batch):
        relative = (batch.poses - batch.poses[:, :, :1])[:, 0]
        return torch.einsum("nij,nkj->nki", batch.cameras.R.mT, relative)

    before, after = in_world(source), in_world(placed)
    torch.testing.assert_close(before[..., 2], after[..., 2], atol=1e-2, rtol=0)
    truth = torch.einsum("nij,njk->nik", placed.cameras.R.mT, stage.labels.frames[index])[..., 0]
    frames = body_frame(after, JOINTS)[0][..., 0]
    angles = [torch.atan2(axis[:, 1], axis[:, 0]) for axis in (truth, frames)]
    apart = (angles[0] - angles[1] + np.pi) % (2 * np.pi) - np.pi
    assert float(apart.abs().max()) < 1e-3


def test_only_a_share_is_moved_and_the_rest_stays_as_it_was(world):
    stage, _ = prepared(world, share=0.3)
    source, target = drawn(world, count=2000)
    placed = stage.align(source, target, torch.Generator().manual_seed(0))
    same = (placed.poses == source.poses).flatten(1).all(1)
    assert 0.25 < float((~same).float().mean()) < 0.35
    assert torch.equal(placed.cameras.fx[same], source.cameras.fx[same])
    assert bool((placed.cameras.width[~same] > 1900).all())
    assert bool((placed.weight == 1).all())


def test_windows_that_have_no_frame_or_would_stand_behind_the_camera_get_weight_0(world):
    stage, _ = prepared(world)
    source, target = drawn(world)
    poses = source.poses.clone()
    poses[0] = poses[0, :, :1]
    poses[1] = 40 * (poses[1] - poses[1, :, :1]) + poses[1, :, :1]
    poses.requires_grad_(True)
    placed = stage.align(SourceBatch(poses, source.cameras, source.weight), target, torch.Generator().manual_seed(0))
    assert placed.weight[:2].tolist() == [0, 0]
    assert bool((placed.weight[2:] == 1).all())
    projected = placed.cameras.project(placed.poses)
    projected.square().mean().backward()
    assert bool(projected.isfinite().all() & poses.grad.isfinite().all())


def test_a_window_that_an_earlier_stage_dropped_stays_dropped(world):
    stage, _ = prepared(world)
    source, target = drawn(world)
    source = replace(source, weight=torch.zeros_like(source.weight))
    assert not bool(stage.align(source, target, torch.Generator()).weight.any())


@pytest.mark.parametrize("orientation", ["full", "vertical", "none"])
def test_nothing_in_a_step_waits_for_the_device(world, orientation):
    stage, _ = prepared(world, orientation=orientation)
    source, target = drawn(world, frames=3)
    with Waiting() as waiting:
        stage.align(source, target, torch.Generator())
    assert waiting.found == []


# --- as a part of adaptation ---


def test_labels_are_made_again_by_the_lifter_as_it_is_then(world, trained):
    stage, _ = prepared(world, refresh=3)
    before, other = stage.labels, trained().train()
    for step in range(1, 7):
        said = stage.after_step(other)
        assert (stage.labels is before) == (step < 3)
        assert said == ({"made": len(stage.labels.roots)} if step % 3 == 0 else None)
    assert other.training
    fixed, _ = prepared(world, refresh=0)
    before = fixed.labels
    for _ in range(5):
        fixed.after_step(other)
    assert fixed.labels is before


def test_a_lifter_that_has_gone_wrong_leaves_the_labels_that_there_are_and_the_log_says_so(world):
    stage, _ = prepared(world, refresh=1)
    before = stage.labels
    assert stage.after_step(Knowing(world[1], factor=0.0)) == {"made": 0}
    assert stage.labels is before


def test_at_most_so_many_frames_are_lifted_and_all_sequences_take_part(world):
    stage, remark = prepared(world, frames=20)
    assert stage.target.num_frames == 16
    assert len(stage.target.sequences) == 8
    assert "of 16 lifted" in remark


@pytest.fixture(scope="module")
def trained(tiny_clips):
    """A small lifter whose poses can be placed, as often as it is asked for."""
    lifter = create_lifter("simplebaseline", seed=0, hidden=64, blocks=1)
    train_lifter(lifter, tiny_clips[0], TrainConfig(steps=150, batch_size=64, lr=5e-3), seed=0)
    return lambda: copy.deepcopy(lifter)


@pytest.mark.parametrize("names", [["gpa", "pseudo_labels"], ["pseudo_labels", "lpa", "gpa"], ["lpa", "pseudo_labels"]])
def test_it_goes_with_other_stages_in_any_order(tiny_clips, trained, names):
    source, target = tiny_clips
    stages = [create_stage(name) for name in [*names, "ema"]]
    config = AdaptConfig(steps=4, batch_size=16)
    adapted = adapt_lifter(trained(), source, target.unlabelled(), stages, config, seed=0)
    assert all(bool(value.isfinite().all()) for value in adapted.state_dict().values())


@pytest.mark.parametrize("after", [3, 6, 8])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(tiny_clips, trained, tmp_path, monkeypatch, after):
    source, target = tiny_clips
    monkeypatch.setattr(
        pipeline, "LoopConfig", lambda **options: LoopConfig(**options, checkpoint_seconds=0.0)
    )  # fmt: skip
    config = AdaptConfig(steps=9, batch_size=16, log_every=1)

    def run(folder, kill):
        stages = [create_stage("gpa"), create_stage("pseudo_labels", refresh=2), KilledAt(kill)]
        lifter = adapt_lifter(trained(), source, target.unlabelled(), stages, config, seed=0, folder=folder)
        return lifter.state_dict(), stages[1]

    whole, labelled = run(tmp_path / "a", 0)
    with pytest.raises(Killed):
        run(tmp_path / "b", after)
    saved = load_state(tmp_path / "b" / "state.pt")["task"]["stages"]["pseudo_labels"]
    assert saved["steps"] == after - 1
    resumed, again = run(tmp_path / "b", 0)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert torch.equal(labelled.labels.roots, again.labels.roots)
    assert float(geodesic_distance(labelled.labels.frames, again.labels.frames).max()) < 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {"share": 0.0}, {"share": 1.5}, {"keep_reprojection": 0.0}, {"keep_symmetry": 2.0}, {"refresh": -1},
        {"frames": 0}, {"nearest_joint_mm": -1.0}, {"orientation": "yaw"},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))) as caught:
        PseudoLabelsConfig(**options)
    assert "\n" not in str(caught.value)


def test_it_says_so_when_it_was_not_prepared(world):
    source, target = drawn(world)
    with pytest.raises(ConfigError, match="prepare"):
        PseudoLabels().align(source, target, torch.Generator())

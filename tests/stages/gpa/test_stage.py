"""Global position alignment as a stage: windows, degenerate people, and waiting for nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from poseda.data.batches import SourceBatch, SourceSampler, TargetBatch, TargetSampler
from poseda.errors import ConfigError
from poseda.stages.base import Setting
from poseda.stages.gpa import GPA, GPAConfig
from tests.stages.gpa.people import ROOT, batches, see, side
from tests.stages.waiting import Waiting


def test_the_root_relative_pose_stays_to_float_precision(scene):
    source, target = batches(scene)
    placed = GPA().align(source, target, torch.Generator())
    before, after = (batch.poses - batch.poses[:, :, :1] for batch in (source, placed))
    assert float((before - after).abs().max()) < 2e-3  # mm; poses stand at up to 10 m in float32
    assert placed.cameras is target.cameras
    assert bool((placed.weight == 1).all())


def test_the_stage_puts_projections_where_the_targets_are(scene):
    source, target = batches(scene)
    placed = GPA(GPAConfig(refine_iters=2)).align(source, target, torch.Generator())
    _, keypoints, cameras = scene
    poses = placed.poses[:, 0].double().numpy()
    for i in range(0, 120, 5):
        shown = see(cameras[i], poses[i])
        assert np.abs(shown[ROOT] - keypoints[i, ROOT].numpy()).max() < 1e-5 * float(cameras.width[i])


def test_a_window_moves_rigidly_and_its_middle_frame_meets_the_targets(scene):
    source, target = batches(scene, frames=5)
    placed = GPA().align(source, target, torch.Generator())
    shift = placed.poses - source.poses
    assert float((shift - shift[:, :1, :1]).abs().max()) < 4e-3
    root = placed.poses[:, :, ROOT].double()
    cameras, wanted = target.cameras.to(dtype=torch.float64), target.keypoints[:, 2, ROOT].double()
    assert float((cameras.project(root[:, 2]) - wanted).abs().max()) < 0.02
    assert float((cameras.project(root[:, 0]) - target.keypoints[:, 0, ROOT].double()).abs().max()) > 0.5


def degenerate(keypoints, visible):
    """Targets 0 to 3: all joints equal, one visible joint, none, and a box of a thousandth of the image."""
    keypoints[0] = 300.0
    visible[1], visible[2] = False, False
    visible[1, ..., 5] = True
    keypoints[3] = 500.0 + 0.001 * keypoints[3]
    return keypoints.masked_fill(~visible.unsqueeze(-1), 0.0), visible


def test_degenerate_targets_get_weight_0_and_finite_numbers(scene):
    source, target = batches(scene)
    keypoints, visible = degenerate(target.keypoints.clone(), target.visible.clone())
    poses = source.poses.clone().requires_grad_(True)
    broken = TargetBatch(keypoints, visible, target.cameras)
    placed = GPA().align(SourceBatch(poses, source.cameras, source.weight), broken, torch.Generator())
    assert placed.weight[:4].tolist() == [0, 0, 0, 0]
    assert bool((placed.weight[4:] == 1).all())
    projected = placed.cameras.project(placed.poses)
    assert bool(placed.poses.isfinite().all() & projected.isfinite().all())
    projected.square().mean().backward()
    assert bool(poses.grad.isfinite().all())


def test_degenerate_target_frames_are_counted_and_not_drawn(make_clips):
    clips = make_clips(sequences=2, frames=10).unlabelled()
    keypoints, visible = degenerate(clips.keypoints.clone(), clips.visible.clone())
    sampler = TargetSampler(clips.with_keypoints(keypoints, visible.float(), "made"), 3)
    assert sampler.degenerate == 4
    drawn = sampler.draw(200, torch.Generator().manual_seed(1)).frames
    assert drawn is not None and set(drawn.tolist()) == set(range(4, 20))


def test_windows_that_stick_out_behind_the_camera_get_weight_0_and_finite_numbers(scene):
    """People who lie along the optical axis, wanted so large that the camera would be inside them."""
    source, target = batches(scene)
    lying = source.poses[..., [0, 2, 1]] - torch.tensor([0.0, 5000.0, -5000.0])
    for zoom in (2.0, 4.0, 8.0, 20.0, 100.0):
        middle = target.keypoints[:, :, :1]
        huge = TargetBatch(middle + zoom * (target.keypoints - middle), target.visible, target.cameras)
        for iterations in (0, 2, 5):
            poses = lying.clone().requires_grad_(True)
            stage = GPA(GPAConfig(refine_iters=iterations))
            placed = stage.align(SourceBatch(poses, source.cameras, source.weight), huge, torch.Generator())
            kept = placed.weight > 0
            assert bool((placed.poses[kept][..., 2] > stage.config.nearest_joint_mm).all())
            projected = placed.cameras.project(placed.poses)
            assert bool((placed.poses[..., 2] > 0).all() & projected.isfinite().all())
            before, after = (p - p[:, :, :1] for p in (lying, placed.poses))
            torch.testing.assert_close(after, before, rtol=0, atol=5e-3)
            projected.square().mean().backward()
            assert bool(poses.grad.isfinite().all())
    assert not bool(kept.any())  # at a hundred times the size nobody can be placed


def test_a_window_that_an_earlier_stage_dropped_stays_dropped(scene):
    source, target = batches(scene)
    weight = source.weight.clone()
    weight[7] = 0
    placed = GPA().align(SourceBatch(source.poses, source.cameras, weight), target, torch.Generator())
    assert placed.weight.nonzero().squeeze(-1).tolist() == [i for i in range(120) if i != 7]


def moving(scene, frames=9):
    """Windows whose target roots go along a curve in the image, with jitter of a few pixels."""
    source, target = batches(scene, frames)
    time = torch.linspace(-1, 1, frames).view(1, -1, 1, 1)
    way = torch.cat([80 * time, 30 * time.square()], -1)
    jitter = 3 * torch.randn(len(target.cameras), frames, 1, 2, generator=torch.Generator().manual_seed(0))
    return source, TargetBatch(target.keypoints[:, :1] + way + jitter, target.visible, target.cameras)


def test_a_window_follows_the_targets_smoothed_root_at_one_depth(scene):
    source, target = moving(scene)
    placed = GPA(GPAConfig(path="target", path_smoothing=1.5)).align(source, target, torch.Generator())
    root = placed.poses[:, :, ROOT]
    assert float((root[..., 2] - root[:, :1, 2]).abs().max()) < 2e-3
    before, after = (batch.poses - batch.poses[:, :, :1] for batch in (source, placed))
    assert float((before - after).abs().max()) < 5e-3
    seen, wanted = placed.cameras.project(root), target.keypoints[:, :, ROOT]
    weights = np.exp(-((np.arange(9)[:, None] - np.arange(9)) ** 2) / (2 * 1.5**2))
    smooth = np.einsum("ts,nsc->ntc", weights / weights.sum(1, keepdims=True), wanted.numpy())
    np.testing.assert_allclose(seen.numpy(), smooth, atol=0.05)
    rough = [points.diff(n=3, dim=1).abs().mean() for points in (seen, wanted)]
    assert rough[0] < 0.2 * rough[1]


def test_a_windows_depth_is_the_one_at_which_its_frames_together_are_as_large(scene):
    source, target = moving(scene)
    placed = GPA(GPAConfig(path="target", refine_iters=8)).align(source, target, torch.Generator())
    shown = placed.cameras.project(placed.poses.double().float())
    for i in range(0, 120, 11):
        sums = [sum(side(frame) for frame in points[i].numpy()) for points in (shown, target.keypoints)]
        assert sums[0] == pytest.approx(sums[1], rel=2e-3)


@pytest.mark.parametrize("pairing", ["random", "aspect", "transport"])
@pytest.mark.parametrize("pool", ["batch", "target"])
def test_every_pairing_and_pool_places_windows_where_targets_stand(tiny_clips, small_lifter, pairing, pool):
    source, target = tiny_clips
    stage = GPA(GPAConfig(pairing=pairing, pool=pool))
    stage.prepare(Setting(small_lifter(), source, target.unlabelled(), 1, 0, torch.Generator()))
    first = SourceSampler(source, 3).draw(32, torch.Generator().manual_seed(0))
    partner = TargetSampler(target.unlabelled(), 3).draw(32, torch.Generator().manual_seed(1))
    placed = [stage.align(first, partner, torch.Generator().manual_seed(2)) for _ in range(2)]
    assert torch.equal(placed[0].poses, placed[1].poses)
    shown = placed[0].cameras.project(placed[0].poses[:, 1, ROOT])
    from_where = partner.keypoints[:, 1, ROOT] if pool == "batch" else target.keypoints[:, ROOT]
    nearest = (shown[:, None] - from_where).norm(dim=-1).min(1).values
    assert float(nearest.max()) < 0.05


@pytest.mark.parametrize("pairing", ["random", "aspect", "transport"])
@pytest.mark.parametrize("path", ["source", "target"])
def test_nothing_in_a_step_waits_for_the_device(tiny_clips, small_lifter, pairing, path):
    source, target = tiny_clips
    stage = GPA(GPAConfig(pairing=pairing, path=path, pool="target", scale="spread", turn="gravity"))
    stage.prepare(Setting(small_lifter(), source, target.unlabelled(), 1, 0, torch.Generator()))
    first = SourceSampler(source, 3).draw(32, torch.Generator().manual_seed(0))
    partner = TargetSampler(target.unlabelled(), 3).draw(32, torch.Generator().manual_seed(1))
    stage.align(first, partner, torch.Generator())  # the sampler of these windows is made once
    with Waiting() as waiting:
        stage.align(first, partner, torch.Generator())
        assert waiting.found == []
        bool(first.weight.any())
        first.weight[first.weight > 0]
    assert waiting.found == ["_local_scalar_dense", "index"], "what would wait is noticed"


def test_a_pool_of_the_whole_target_needs_to_have_seen_it(scene):
    source, target = batches(scene)
    with pytest.raises(ConfigError, match="prepare"):
        GPA(GPAConfig(pool="target")).align(source, target, torch.Generator())


@pytest.mark.parametrize(
    "options",
    [
        {"refine_iters": -1}, {"nearest_joint_mm": -5.0}, {"neighbours": 0}, {"path_smoothing": 0.0},
        {"pairing": "nearest"}, {"pool": "all"}, {"scale": "height"}, {"path": "straight"}, {"turn": "left"},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))) as caught:
        GPAConfig(**options)
    assert "\n" not in str(caught.value)

"""Global position alignment against a float64 camera, SciPy's root finders and finite differences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, fsolve

from poseda.data.batches import SourceBatch, TargetBatch
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.stages.base import Setting
from poseda.stages.gpa import GPA, GPAConfig, aligned_root

ROOT = 0


def lens(camera, x, y):
    """(x/z, y/z) -> px of one camera, NumPy float64, written from the published models."""
    k1, k2, k3 = camera.radial[0].numpy()
    p1, p2 = camera.tangential[0].numpy()
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    if float(camera.tangential_factor) == 2:  # OpenCV
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
        v = y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
    else:  # Human3.6M
        tangent = p1 * y + p2 * x
        u, v = x * (radial + tangent) + p2 * r2, y * (radial + tangent) + p1 * r2
    return float(camera.fx) * u + float(camera.cx), float(camera.fy) * v + float(camera.cy)


def see(camera, joints):
    """(J, 3) mm -> (J, 2) px of one camera."""
    return np.stack(lens(camera, joints[:, 0] / joints[:, 2], joints[:, 1] / joints[:, 2]), -1)


def side(points):
    """Mean side of the box of points (J, 2)."""
    return np.ptp(points, axis=0).mean()


def ray_of(camera, pixel):
    start = [
        (pixel[0] - float(camera.cx)) / float(camera.fx),
        (pixel[1] - float(camera.cy)) / float(camera.fy),
    ]
    return fsolve(lambda r: np.array(lens(camera, r[0], r[1])) - pixel, start, xtol=1e-13)


def exact_depth(camera, relative, ray, wanted):
    """Depth mm at which a root-relative pose on a ray has a box of the wanted mean side."""
    return brentq(lambda z: side(see(camera, relative + z * ray)) - wanted, 1200, 40_000, xtol=1e-9)


@pytest.fixture(scope="module")
def scene(random_people, mixed_cameras):
    """120 source people and 120 target people (px) 2.2 to 8 m before mixed cameras, all float64."""
    count = 120
    source, cameras = random_people(count, seed=1), mixed_cameras(count)
    rng = np.random.default_rng(5)
    depth = rng.uniform(2200, 8000, (count, 1, 1))
    root = np.concatenate([rng.uniform(-0.15, 0.15, (count, 1, 2)) * depth, depth], -1)
    people = random_people(count, seed=2).numpy() + root
    keypoints = np.stack([see(cameras[i], people[i]) for i in range(count)])
    return source, torch.from_numpy(keypoints), cameras


def align(source, keypoints, cameras, **options):
    visible = torch.ones(keypoints.shape[:-1], dtype=torch.bool)
    return aligned_root(source, keypoints, visible, cameras, root=ROOT, **options)


def place(source, keypoints, cameras, iterations=2):
    root, found = align(source, keypoints, cameras, refine_iters=iterations)
    assert bool(found.all())
    return (source - source[:, :1] + root[:, None]).numpy()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_refinements_match_box_and_root_of_targets_in_mixed_cameras(scene, dtype):
    source, keypoints, cameras = scene
    placed = place(source.to(dtype), keypoints.to(dtype), cameras.to(dtype=dtype)).astype(np.float64)
    seen = np.stack([see(cameras[i], placed[i]) for i in range(len(placed))])
    box = np.array([side(seen[i]) / side(keypoints[i].numpy()) - 1 for i in range(len(seen))])
    off = np.abs(seen[:, ROOT] - keypoints[:, ROOT].numpy()).max(-1) / cameras.width.numpy()
    beyond = placed[:, ROOT, 2] > 2000
    assert beyond.mean() > 0.9
    assert np.abs(box).mean() < 0.002
    assert np.abs(box[beyond]).max() < 0.01
    assert off.max() < 1e-5


def test_refined_depth_is_the_one_that_a_root_finder_finds(scene):
    source, keypoints, cameras = scene
    source, keypoints, cameras = source[:24], keypoints[:24], cameras[:24]
    many, _ = align(source, keypoints, cameras, refine_iters=12)
    two, _ = align(source, keypoints, cameras, refine_iters=2)
    for i in range(24):
        relative, camera, wanted = (source[i] - source[i, :1]).numpy(), cameras[i], keypoints[i].numpy()
        ray = np.append(ray_of(camera, wanted[ROOT]), 1.0)
        exact = exact_depth(camera, relative, ray, side(wanted))
        np.testing.assert_allclose(many[i].numpy(), exact * ray, rtol=1e-6)
        assert abs(float(two[i, 2]) / exact - 1) < 0.01


def test_without_refinement_depth_is_the_published_closed_form(scene):
    source, keypoints, cameras = scene
    root, _ = align(source, keypoints, cameras, refine_iters=0)
    for i in range(0, 120, 7):
        extent_x, extent_y, _ = np.ptp(source[i].numpy(), axis=0)
        depth = (float(cameras.fx[i]) * extent_x + float(cameras.fy[i]) * extent_y) / (2 * side(keypoints[i].numpy()))
        ray = np.append(ray_of(cameras[i], keypoints[i, ROOT].numpy()), 1.0)
        np.testing.assert_allclose(root[i].numpy(), depth * ray, rtol=1e-9)


def test_the_closed_form_alone_is_biased_and_refinement_takes_the_bias_away(scene):
    source, keypoints, cameras = scene
    wrong = []
    for iterations in (0, 1, 2, 3):
        placed = place(source, keypoints, cameras, iterations)
        ratio = [side(see(cameras[i], placed[i])) / side(keypoints[i].numpy()) for i in range(len(placed))]
        wrong.append(np.abs(np.array(ratio) - 1).mean())
    assert wrong[0] > 0.01
    assert all(later < earlier / 2 for earlier, later in pairwise(wrong))


def test_a_batch_of_mixed_cameras_equals_one_run_a_camera(scene):
    source, keypoints, cameras = scene
    together, _ = align(source, keypoints, cameras)
    alone = torch.cat([align(source[i : i + 1], keypoints[i : i + 1], cameras[i])[0] for i in range(len(source))])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-9)


def test_where_the_source_person_stood_does_not_matter(scene):
    source, keypoints, cameras = scene
    moved = source + torch.tensor([1234.0, -567.0, 5000.0], dtype=torch.float64)
    torch.testing.assert_close(align(source, keypoints, cameras)[0], align(moved, keypoints, cameras)[0])


def test_only_visible_joints_are_measured_and_a_missing_root_is_the_centre_of_their_box(scene):
    source, keypoints, cameras = (part[:12] for part in scene)
    visible = torch.ones(12, 17, dtype=torch.bool)
    visible[:, [ROOT, 3, 13]] = False
    broken = keypoints.masked_fill(~visible.unsqueeze(-1), 0.0)
    root, found = aligned_root(source, broken, visible, cameras, root=ROOT, refine_iters=10)
    assert bool(found.all())
    placed = (source - source[:, :1] + root[:, None]).numpy()
    for i in range(12):
        shown, wanted = see(cameras[i], placed[i]), keypoints[i].numpy()
        kept = visible[i].numpy()
        assert side(shown[kept]) == pytest.approx(side(wanted[kept]), rel=1e-4)
        centre = (wanted[kept].max(0) + wanted[kept].min(0)) / 2
        np.testing.assert_allclose(shown[ROOT], centre, atol=1e-6)


def test_gradients_through_the_refinement_agree_with_finite_differences(scene):
    source, keypoints, cameras = (part[:6] for part in scene)
    assert torch.autograd.gradcheck(
        lambda pose, points: align(pose, points, cameras, refine_iters=2)[0],
        (source.clone().requires_grad_(True), keypoints.clone().requires_grad_(True)),
        eps=1e-4, rtol=1e-4, atol=1e-5,
    )  # fmt: skip


# --- the stage ---


def batches(scene, frames=1, dtype=torch.float32):
    """Source windows 5 m away and target windows, with some motion when there are several frames."""
    source, keypoints, cameras = scene
    drift = 20.0 * torch.arange(frames, dtype=torch.float64).view(1, -1, 1, 1)
    poses = source[:, None] + torch.tensor([0.0, 0.0, 5000.0]) + drift * torch.tensor([1.0, 0.3, -0.5])
    cameras = cameras.to(dtype=dtype)
    points = (keypoints[:, None] + 0.1 * drift).to(dtype)
    target = TargetBatch(points, torch.ones(points.shape[:-1], dtype=torch.bool), cameras)
    elsewhere = Camera.create(fx=1000.0, fy=1000.0, cx=512.0, cy=512.0, width=1024.0, height=1024.0, dtype=dtype)
    return SourceBatch(poses.to(dtype), elsewhere.expand(len(poses)), torch.ones(len(poses), dtype=dtype)), target


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
    clips = clips.with_keypoints(keypoints, visible.float(), "made")
    stage = GPA()
    assert stage.usable(clips).tolist() == [False] * 4 + [True] * 16
    setting = Setting(None, make_clips(), clips, 1, 0, torch.Generator())
    assert stage.prepare(setting).startswith("4 of 20 target frames")


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


@pytest.mark.parametrize("options", [{"refine_iters": -1}, {"nearest_joint_mm": -5.0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        GPAConfig(**options)

"""Where and how large GPA places poses, against a float64 camera, SciPy's root finders and finite differences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from poseda.geometry.camera import normalise_screen
from poseda.stages.gpa import aligned_root
from poseda.stages.gpa.placing import measure, smooth_path
from tests.stages.gpa.people import ROOT, align, exact_depth, hide, place, ray_of, see, side


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


@pytest.mark.parametrize("scale", ["box", "diagonal", "spread"])
def test_without_root_and_a_hip_the_boxes_of_the_visible_joints_meet(scene, scale):
    source, keypoints, visible, cameras = hide(scene, [ROOT, 3, 4, 13])
    root, found = aligned_root(
        source, keypoints, visible, cameras, root=ROOT, refine_iters=25, scale=scale, hips=(1, 4)
    )  # fmt: skip
    assert bool(found.all())
    placed = (source - source[:, :1] + root[:, None]).numpy()
    for i in range(12):
        kept = visible[i].numpy()
        shown, wanted = see(cameras[i], placed[i])[kept], keypoints[i].numpy()[kept]
        assert SIZES[scale](shown) == pytest.approx(SIZES[scale](wanted), rel=1e-4)
        centres = [(points.max(0) + points.min(0)) / 2 for points in (shown, wanted)]
        np.testing.assert_allclose(centres[0], centres[1], atol=1e-2)


def test_a_missing_root_is_the_mid_hip_where_both_hips_are_seen(scene):
    source, keypoints, visible, cameras = hide(scene, [ROOT])
    root, _ = aligned_root(source, keypoints, visible, cameras, root=ROOT, hips=(1, 4))
    np.testing.assert_allclose(
        cameras.project(root).numpy(), (keypoints[:, 1] + keypoints[:, 4]).numpy() / 2, atol=1e-6
    )  # fmt: skip


SIZES = {
    "box": side,
    "diagonal": lambda points: np.hypot(*np.ptp(points, axis=0)),
    "spread": lambda points: np.sqrt(points.var(0).sum()),
}


@pytest.mark.parametrize("scale", SIZES)
def test_each_measure_is_matched_on_the_joints_that_both_sides_show(scene, scale):
    source, keypoints, visible, cameras = hide(scene, [5, 6, 10], count=60)
    root, found = aligned_root(source, keypoints, visible, cameras, root=ROOT, refine_iters=8, scale=scale)
    assert bool(found.all())
    placed = (source - source[:, :1] + root[:, None]).numpy()
    kept = visible[0].numpy()
    for i in range(60):
        shown, wanted = see(cameras[i], placed[i])[kept], keypoints[i].numpy()[kept]
        assert SIZES[scale](shown) == pytest.approx(SIZES[scale](wanted), rel=1e-4)


@pytest.mark.parametrize("scale", SIZES)
def test_no_measure_gives_a_gradient_that_is_not_finite(scale):
    points = torch.zeros(3, 5, 2, requires_grad=True)
    visible = torch.tensor([[True] * 5, [True] + [False] * 4, [False] * 5])
    sizes = measure(points, visible, scale)
    sizes.sum().backward()
    assert bool(sizes.isfinite().all() & points.grad.isfinite().all())
    assert float(sizes.detach().abs().max()) < 1e-15


def test_the_published_figures_quirk_spreads_roots_by_the_focal_length(straight_camera, random_people):
    """PoseDA's figure: the target root's offset from the image's centre, in screen units, times the depth."""
    source = random_people(8).float()
    cameras = straight_camera.expand(8)
    targets = cameras.project(random_people(8, seed=3).float() + torch.tensor([600.0, 200.0, 5000.0]))
    visible = torch.ones(8, 17, dtype=torch.bool)
    quirk, _ = aligned_root(source, targets, visible, cameras, root=ROOT, refine_iters=0, divide_by_focal=False)
    right, _ = aligned_root(source, targets, visible, cameras, root=ROOT, refine_iters=0)
    torch.testing.assert_close(quirk[:, 2], right[:, 2])
    torch.testing.assert_close(quirk[:, :2], right[:, :2] * 2.29)  # f in screen units: 2 * 1145 / 1000
    screen = normalise_screen(targets[:, ROOT], 1000.0, 1000.0)
    torch.testing.assert_close(quirk[:, :2] / quirk[:, 2:], screen)


def test_gradients_through_the_refinement_agree_with_finite_differences(scene):
    source, keypoints, cameras = (part[:6] for part in scene)
    assert torch.autograd.gradcheck(
        lambda pose, points: align(pose, points, cameras, refine_iters=2)[0],
        (source.clone().requires_grad_(True), keypoints.clone().requires_grad_(True)),
        eps=1e-4, rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_frames_that_cannot_be_measured_take_their_place_from_those_around_them():
    path = torch.tensor([[[0.0, 0.0], [99.0, 99.0], [2.0, 0.0], [99.0, 0.0], [99.0, 0.0]]])
    known = torch.tensor([[True, False, True, False, False]])
    smooth = smooth_path(path, known, 0.3)
    torch.testing.assert_close(smooth[0, :, 0], torch.tensor([0.0, 1.0, 2.0, 2.0, 2.0]), atol=0.02, rtol=0)
    assert torch.equal(smooth_path(path, torch.zeros_like(known), 1.0), path)

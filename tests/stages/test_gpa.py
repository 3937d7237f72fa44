"""Global position alignment against a float64 camera, SciPy's root finders and finite differences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, fsolve, linear_sum_assignment

from poseda.data.batches import SourceBatch, SourceSampler, TargetBatch, TargetSampler
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera, normalise_screen
from poseda.stages.base import Setting
from poseda.stages.gpa import GPA, GPAConfig, aligned_root
from poseda.stages.gpa.pairing import assign, log_aspect, one_to_one, transport_cost
from poseda.stages.gpa.placing import Placing, measure, smooth_path
from tests.stages.waiting import Waiting

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


def hide(scene, joints, count=12):
    """The first people with some joints missing, as clips store it: visible False, keypoints 0."""
    source, keypoints, cameras = (part[:count] for part in scene)
    visible = torch.ones(count, 17, dtype=torch.bool)
    visible[:, joints] = False
    return source, keypoints.masked_fill(~visible.unsqueeze(-1), 0.0), visible, cameras


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


# --- windows along the target's path ---


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


def test_frames_that_cannot_be_measured_take_their_place_from_those_around_them():
    path = torch.tensor([[[0.0, 0.0], [99.0, 99.0], [2.0, 0.0], [99.0, 0.0], [99.0, 0.0]]])
    known = torch.tensor([[True, False, True, False, False]])
    smooth = smooth_path(path, known, 0.3)
    torch.testing.assert_close(smooth[0, :, 0], torch.tensor([0.0, 1.0, 2.0, 2.0, 2.0]), atol=0.02, rtol=0)
    assert torch.equal(smooth_path(path, torch.zeros_like(known), 1.0), path)


# --- pairing ---


@pytest.mark.parametrize("size", [2, 8, 24, 64])
@pytest.mark.parametrize("kind", ["plane", "space", "uniform"])
def test_the_assignment_is_one_to_one_and_nearly_as_cheap_as_scipys(size, kind):
    draws = torch.Generator().manual_seed(size)
    if kind == "uniform":
        cost = torch.rand(5, size, size, generator=draws)
    else:
        shape = (5, size, 2 if kind == "plane" else 4)
        first, second = torch.randn(shape, generator=draws), 1.3 * torch.randn(shape, generator=draws) + 0.5
        cost = torch.cdist(first, second).square()
    match = assign(cost)
    exact, found = 0.0, 0.0
    for i in range(5):
        assert sorted(match[i].tolist()) == list(range(size))
        rows, columns = linear_sum_assignment(cost[i].numpy())
        exact += float(cost[i, rows, columns].sum())
        found += float(cost[i, torch.arange(size), match[i]].sum())
    assert found <= (1.2 if kind == "uniform" else 1.02) * exact + 1e-5


@pytest.mark.parametrize("cost", [torch.zeros(6, 6), torch.full((6, 6), 7.0), 1e6 * torch.eye(6), 1e12 * torch.eye(6)])
def test_costs_without_a_choice_or_of_any_size_give_a_permutation(cost):
    assert sorted(assign(cost).tolist()) == list(range(6))
    assert sorted(one_to_one(torch.zeros(6, 6), rounds=1).tolist()) == list(range(6))


def test_transport_cost_is_the_distance_of_what_is_measured_by_hand(scene):
    source, target = batches(scene, dtype=torch.float64)
    _, keypoints, visible, _ = hide(scene, [5, 6], count=120)
    target = TargetBatch(keypoints[:, None], visible[:, None], target.cameras)
    cost = transport_cost(source, target, Placing(root=ROOT), False).numpy()
    kept = visible[0].numpy()

    def features(points, width, height):
        points = (2 * points - np.array([width, height])) / width
        w, h = np.ptp(points[kept], axis=0)
        return np.array([np.log(w + h), np.log(w / h), *points[ROOT]])

    seen = source.cameras.project(source.poses[:, 0]).numpy()
    mine = np.stack([features(points, 1024.0, 1024.0) for points in seen])
    sizes = zip(keypoints.numpy(), target.cameras.width.numpy(), target.cameras.height.numpy(), strict=True)
    theirs = np.stack([features(*one) for one in sizes])
    spread = np.concatenate([mine, theirs]).std(0, ddof=1)
    np.testing.assert_allclose(cost, (((mine[:, None] - theirs) / spread) ** 2).sum(-1), rtol=1e-6)
    complete = TargetBatch(keypoints[:, None], torch.ones_like(visible[:, None]), target.cameras)
    args = source, complete, Placing(root=ROOT)
    torch.testing.assert_close(transport_cost(*args, True), transport_cost(*args, False))


def aspects(source, placed, target):
    """Mean distance of log aspects of placed people and of the boxes of the targets whose roots they stand on."""
    shown = placed.cameras.project(placed.poses[:, 0])
    roots = (shown[:, None, ROOT] - target.keypoints[None, :, 0, ROOT]).norm(dim=-1)
    taken = target.keypoints[roots.argmin(1), 0]
    everything = torch.ones(17, dtype=torch.bool).expand(len(shown), 17)
    return float((log_aspect(shown, everything) - log_aspect(taken, everything)).abs().mean())


def test_partners_by_aspect_and_by_transport_are_nearer_than_by_chance(scene):
    source, target = batches(scene)
    off = {}
    for pairing in ("random", "aspect", "transport"):
        stage = GPA(GPAConfig(pairing=pairing, neighbours=16))
        off[pairing] = aspects(source, stage.align(source, target, torch.Generator().manual_seed(1)), target)
    assert off["aspect"] < 0.4 * off["random"]
    assert off["transport"] < 0.9 * off["random"]


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
    stage = GPA(GPAConfig(pairing=pairing, path=path, pool="target", scale="spread"))
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

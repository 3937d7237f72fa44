"""Choice among hypotheses by reprojection, against a loop over frames, hypotheses and joints."""

from __future__ import annotations

import pytest
import torch

from poseda.errors import ConfigError, ShapeError
from poseda.geometry.root import root_from_keypoints
from poseda.stages.hypotheses import aggregate, aggregate_by_reprojection


@pytest.fixture
def scene(random_people, mixed_cameras):
    """5 frames: exact 2D of poses, and 4 noisy hypotheses of each."""
    poses, cameras = random_people(5, bend=0.3), mixed_cameras(5)
    draws = torch.Generator().manual_seed(0)
    keypoints = cameras.project(poses + torch.tensor([200.0, -100.0, 4500.0], dtype=torch.float64))
    noise = 60 * torch.randn(5, 4, 17, 3, generator=draws, dtype=torch.float64)
    noise[:, :, 0] = 0
    confidence = 0.5 + 0.5 * torch.rand(5, 17, generator=draws, dtype=torch.float64)
    confidence[0, 3] = confidence[2, 0] = 0
    return poses, poses[:, None] + noise, keypoints, confidence, cameras


def brute(poses, keypoints, confidence, cameras, per):
    chosen = torch.zeros_like(poses[:, 0])
    for n in range(len(poses)):
        camera, errors, whole = cameras[n], {}, []
        for h, pose in enumerate(poses[n]):
            root, valid = root_from_keypoints(pose, camera.unproject(keypoints[n][None])[0], confidence[n])
            assert bool(valid)
            distance = (camera.project((pose + root)[None])[0] - keypoints[n]).norm(dim=-1)
            errors[h] = distance
            seen = confidence[n] > 0
            whole.append(float((confidence[n] * distance)[seen].sum() / confidence[n].sum()))
        best = min(range(len(whole)), key=whole.__getitem__)
        for j in range(poses.shape[2]):
            pick = best
            if per == "joint" and confidence[n, j] > 0:
                pick = min(errors, key=lambda h, j=j: float(errors[h][j]))
            chosen[n, j] = poses[n, pick, j]
    return chosen


@pytest.mark.parametrize("per", ["joint", "pose"])
def test_the_choice_is_that_of_a_loop(scene, per):
    _, hypotheses, keypoints, confidence, cameras = scene
    chosen = aggregate_by_reprojection(hypotheses, keypoints, confidence, cameras, per=per)
    assert torch.equal(chosen, brute(hypotheses, keypoints, confidence, cameras, per))


@pytest.mark.parametrize("per", ["joint", "pose"])
def test_the_true_pose_among_wrong_ones_is_found(scene, per):
    truth, hypotheses, keypoints, confidence, cameras = scene
    hypotheses[:, 2] = truth
    assert torch.equal(aggregate_by_reprojection(hypotheses, keypoints, confidence, cameras, per=per), truth)


def test_numbers_of_missing_joints_are_not_read(scene):
    _, hypotheses, keypoints, confidence, cameras = scene
    before = aggregate_by_reprojection(hypotheses, keypoints, confidence, cameras)
    keypoints[confidence == 0] = 1e6
    assert torch.equal(aggregate_by_reprojection(hypotheses, keypoints, confidence, cameras), before)


def test_where_no_hypothesis_has_a_root_the_mean_is_given(scene):
    _, hypotheses, keypoints, confidence, cameras = scene
    confidence[1] = 0
    confidence[1, 5] = 1
    chosen = aggregate_by_reprojection(hypotheses, keypoints, confidence, cameras)
    torch.testing.assert_close(chosen[1], hypotheses[1].mean(0))
    assert bool(chosen.isfinite().all())


def test_a_hypothesis_without_a_root_is_not_taken(scene):
    _, hypotheses, keypoints, confidence, cameras = scene
    hypotheses[:, 1] = -hypotheses[:, 1] * torch.tensor([1.0, 1.0, 200.0], dtype=torch.float64)
    chosen = aggregate_by_reprojection(hypotheses, keypoints, confidence, cameras, per="pose")
    assert not bool((chosen == hypotheses[:, 1]).flatten(1).all(1).any())


def test_a_single_precision_choice_is_that_of_double(scene):
    _, hypotheses, keypoints, confidence, cameras = scene
    single = aggregate_by_reprojection(
        hypotheses.float(), keypoints.float(), confidence.float(), cameras.to(dtype=torch.float32)
    )
    double = aggregate_by_reprojection(hypotheses, keypoints, confidence, cameras)
    torch.testing.assert_close(single, double.float())


def test_wrong_shapes_and_names_are_answered(scene):
    _, hypotheses, keypoints, confidence, cameras = scene
    with pytest.raises(ShapeError, match=r"poses \(N, H, J, 3\)"):
        aggregate_by_reprojection(hypotheses[:, 0], keypoints, confidence, cameras)
    with pytest.raises(ShapeError, match="N cameras"):
        aggregate_by_reprojection(hypotheses, keypoints, confidence, cameras[:3])
    with pytest.raises(ConfigError, match=r"aggregate_by_reprojection\.per 'joints'\. Did you mean 'joint'"):
        aggregate_by_reprojection(hypotheses, keypoints, confidence, cameras, per="joints")


# --- aggregate ---


def test_softmax_weighs_by_reprojection_as_a_loop_does(scene):
    _, hypotheses, keypoints, confidence, cameras = scene
    for per, top in (("joint", 0), ("joint", 2), ("pose", 3)):
        found = aggregate(hypotheses, keypoints, confidence, cameras, how="softmax", per=per, top=top, temperature=7.0)
        torch.testing.assert_close(found, brute_softmax(hypotheses, keypoints, confidence, cameras, per, top))


def brute_softmax(poses, keypoints, confidence, cameras, per, top):
    mixed = torch.zeros_like(poses[:, 0])
    for n in range(len(poses)):
        distances = []
        for pose in poses[n]:
            root, _ = root_from_keypoints(pose, cameras[n].unproject(keypoints[n][None])[0], confidence[n])
            distances.append((cameras[n].project((pose + root)[None])[0] - keypoints[n]).norm(dim=-1))
        seen = confidence[n] > 0
        whole = [float((confidence[n] * d)[seen].sum() / confidence[n].sum()) for d in distances]
        for j in range(poses.shape[2]):
            own = per == "joint" and bool(seen[j])
            errors = [float(d[j]) if own else w for d, w in zip(distances, whole, strict=True)]
            best = sorted(range(len(errors)), key=errors.__getitem__)[: top or None]
            weights = torch.tensor([-errors[h] / 7.0 for h in best], dtype=torch.float64).softmax(0)
            mixed[n, j] = sum(w * poses[n, h, j] for w, h in zip(weights, best, strict=True))
    return mixed


def test_a_cold_softmax_is_the_best_and_a_hot_one_the_mean(scene):
    _, *seen = scene
    for per in ("joint", "pose"):
        best = aggregate(*seen, how="best", per=per)
        assert torch.equal(best, aggregate_by_reprojection(*seen, per=per))
        torch.testing.assert_close(aggregate(*seen, how="softmax", per=per, temperature=1e-6), best)
        mean = aggregate(*seen, how="mean")
        torch.testing.assert_close(aggregate(*seen, how="softmax", per=per, temperature=1e9), mean)
    assert torch.equal(mean, seen[0].mean(1))


def test_frames_without_a_root_keep_the_mean_in_a_softmax_too(scene):
    _, hypotheses, keypoints, confidence, cameras = scene
    confidence[1] = 0
    found = aggregate(hypotheses, keypoints, confidence, cameras, how="softmax")
    torch.testing.assert_close(found[1], hypotheses[1].mean(0))
    assert bool(found.isfinite().all())


def test_another_way_to_aggregate_is_refused(scene):
    with pytest.raises(ConfigError, match="softmax"):
        aggregate(*scene[1:], how="softmx")

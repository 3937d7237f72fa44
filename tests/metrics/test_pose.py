"""Pose errors against SciPy, float64 loops and closed forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

from poseda.errors import ShapeError
from poseda.metrics.pose import (
    AUC_THRESHOLDS,
    auc,
    joint_errors,
    mpjpe,
    mpjve,
    n_mpjpe,
    pa_mpjpe,
    pck,
    threshold_shares,
    within_sequence,
)


@pytest.fixture
def poses() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    target = rng.normal(scale=300.0, size=(40, 17, 3))
    pred = target + rng.normal(scale=60.0, size=target.shape)
    return torch.from_numpy(pred), torch.from_numpy(target)


def test_mpjpe_equals_a_loop_over_frames_and_joints(poses: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, target = (p.numpy() for p in poses)
    total = 0.0
    for frame in range(len(pred)):
        for joint in range(17):
            total += sum((pred[frame, joint, k] - target[frame, joint, k]) ** 2 for k in range(3)) ** 0.5
    assert float(mpjpe(*poses)) == pytest.approx(total / (len(pred) * 17), rel=1e-12)


def _scipy_aligned(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Similarity alignment by SciPy; the frames of the test need no reflection, which is checked."""
    a, b = pred - pred.mean(0), target - target.mean(0)
    rotation, scale = orthogonal_procrustes(a, b)
    assert np.linalg.det(rotation) > 0
    return a @ rotation * scale / (a**2).sum() + target.mean(0)


def test_pa_mpjpe_equals_scipy_frame_by_frame(poses: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, target = (p.numpy() for p in poses)
    errors = [np.linalg.norm(_scipy_aligned(p, t) - t, axis=1).mean() for p, t in zip(pred, target, strict=True)]
    assert float(pa_mpjpe(*poses)) == pytest.approx(np.mean(errors), rel=1e-9)


def test_pa_mpjpe_ignores_rotation_scale_and_shift_of_each_frame(
    poses: tuple[torch.Tensor, torch.Tensor],
) -> None:
    pred, target = poses
    turn = torch.from_numpy(Rotation.random(len(pred), random_state=1).as_matrix())
    scale = torch.linspace(0.5, 2.0, len(pred), dtype=pred.dtype).view(-1, 1, 1)
    moved = scale * pred @ turn.mT + torch.tensor([100.0, -40.0, 4000.0], dtype=pred.dtype)
    assert float(pa_mpjpe(moved, target)) == pytest.approx(float(pa_mpjpe(pred, target)), rel=1e-9)


def test_pa_mpjpe_does_not_undo_a_mirror_image(poses: tuple[torch.Tensor, torch.Tensor]) -> None:
    _, target = poses
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0], dtype=target.dtype)
    assert float(pa_mpjpe(mirrored, target)) > 50.0


def test_n_mpjpe_equals_the_least_squares_scale_of_each_frame(
    poses: tuple[torch.Tensor, torch.Tensor],
) -> None:
    pred, target = (p.numpy() for p in poses)
    errors = []
    for p, t in zip(pred, target, strict=True):
        scale = np.linalg.lstsq(p.reshape(-1, 1), t.reshape(-1), rcond=None)[0]
        errors.append(np.linalg.norm(scale * p - t, axis=1).mean())
    assert float(n_mpjpe(*poses)) == pytest.approx(np.mean(errors), rel=1e-9)
    assert float(n_mpjpe(poses[1] * 0.7, poses[1])) == pytest.approx(0.0, abs=1e-9)


def test_mpjve_takes_no_step_across_a_sequence_bound(poses: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, target = (p.numpy() for p in poses)
    bounds = [0, 7, 8, 40]
    steps = []
    for start, stop in pairwise(bounds):
        for frame in range(start, stop - 1):
            change = (pred[frame + 1] - pred[frame]) - (target[frame + 1] - target[frame])
            steps.append(np.linalg.norm(change, axis=1).mean())
    assert len(steps) == int(within_sequence(torch.tensor(bounds)).sum()) == 37
    assert float(mpjve(*poses, torch.tensor(bounds))) == pytest.approx(np.mean(steps), rel=1e-12)


def test_mpjve_of_a_constant_offset_is_zero_and_of_a_drift_is_its_speed() -> None:
    target = torch.zeros(5, 3, 3)
    drift = torch.arange(5.0).view(5, 1, 1) * torch.tensor([3.0, 4.0, 0.0])
    assert float(mpjve(target + 9.0, target)) == 0.0
    assert float(mpjve(target + drift, target)) == pytest.approx(5.0)


def test_pck_is_strict_at_the_threshold() -> None:
    errors = torch.tensor([0.0, 149.999, 150.0, 151.0])
    assert float(pck(errors)) == 50.0


def test_auc_of_known_errors() -> None:
    """0 is below 30 of the 31 thresholds (not below 0 itself); 7.5 below 29; 150 and more below none."""
    assert len(AUC_THRESHOLDS) == 31
    shares = threshold_shares(torch.tensor([0.0, 5.0, 7.5, 149.0, 150.0, 1e6]))
    assert shares.mul(31).round().tolist() == [30, 29, 29, 1, 0, 0]
    assert float(auc(torch.tensor([0.0, 150.0]))) == pytest.approx(100 * 15 / 31)


def test_auc_is_the_mean_of_pck_over_its_thresholds() -> None:
    errors = torch.rand(50, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 250
    errors[0, :4] = torch.tensor([5.0, 10.0, 145.0, 150.0])
    by_loop = np.mean([100.0 * np.mean(errors.numpy() < t) for t in range(0, 151, 5)])
    assert float(auc(errors)) == pytest.approx(by_loop, rel=1e-12)


def test_errors_of_any_leading_shape() -> None:
    pred = torch.zeros(2, 3, 4, 5, 3)
    assert joint_errors(pred, pred + 1).shape == (2, 3, 4, 5)


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 17, 3\) and \(2, 16, 3\)"):
        mpjpe(torch.zeros(2, 17, 3), torch.zeros(2, 16, 3))

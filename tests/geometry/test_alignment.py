"""Procrustes and scale alignment against SciPy and brute force."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.transform import Rotation

from poseda.errors import ShapeError
from poseda.geometry.alignment import procrustes, scale_align
from poseda.geometry.rotations import axis_angle_to_matrix

F64 = torch.float64


def poses(*batch, seed=0):
    return torch.randn(*batch, 17, 3, generator=torch.Generator().manual_seed(seed), dtype=F64) * 300


def alike(seed=0):
    """Two noisy copies of one pose, the second elsewhere, turned and larger."""
    rotation = axis_angle_to_matrix(torch.tensor([0.5, -1.2, 0.3], dtype=F64))
    target = poses(6, seed=seed)
    return 1.3 * (target + poses(6, seed=seed + 1) * 0.1) @ rotation.T + 4000, target


def test_a_moved_turned_and_scaled_pose_comes_back_exactly():
    target = poses(5)
    rotation = axis_angle_to_matrix(torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=F64))
    pred = 0.7 * target @ rotation.mT + 3000
    torch.testing.assert_close(procrustes(pred, target), target)
    torch.testing.assert_close(procrustes(pred / 0.7, target, scale=False), target)


def test_rigid_alignment_agrees_with_scipys_align_vectors():
    pred, target = alike()
    aligned = procrustes(pred, target, scale=False)
    for p, t, a in zip(pred.numpy(), target.numpy(), aligned.numpy(), strict=True):
        rotation, _ = Rotation.align_vectors(t - t.mean(0), p - p.mean(0))
        np.testing.assert_allclose(a, rotation.apply(p - p.mean(0)) + t.mean(0), atol=1e-8)


def test_similarity_agrees_with_scipys_procrustes_where_no_reflection_is_better():
    pred, target = alike()
    aligned = procrustes(pred, target)
    for p, t, a in zip(pred.numpy(), target.numpy(), aligned.numpy(), strict=True):
        _, _, disparity = scipy_procrustes(t, p)
        size = np.square(t - t.mean(0)).sum()
        np.testing.assert_allclose(np.square(a - t).sum() / size, disparity, rtol=1e-9)


def test_a_mirrored_pose_is_not_reflected_back_but_gets_the_best_rotation():
    target = poses()
    pred = target * torch.tensor([-1.0, 1, 1], dtype=F64)
    aligned = procrustes(pred, target)
    assert (aligned - target).norm() > 100

    def cost(x):
        moved = np.exp(x[3]) * Rotation.from_rotvec(x[:3]).apply((pred - pred.mean(0)).numpy())
        return np.square(moved + (target.mean(0)).numpy() - target.numpy()).sum() / 1e6

    starts = np.random.default_rng(0).normal(size=(12, 4)) * np.array([2, 2, 2, 0.3])
    best = min(minimize(cost, start).fun for start in starts)
    assert (aligned - target).square().sum().item() / 1e6 == pytest.approx(best, rel=1e-5)


def test_alignment_never_makes_the_fit_worse_and_ignores_where_the_pose_stands():
    pred, target = poses(50, seed=3), poses(50, seed=4)
    rotation = axis_angle_to_matrix(torch.tensor([2.0, 0.1, -1], dtype=F64))
    aligned = procrustes(pred, target)
    centred = pred - pred.mean(1, keepdim=True) + target.mean(1, keepdim=True)
    assert ((aligned - target).square().sum((1, 2)) <= (centred - target).square().sum((1, 2))).all()
    torch.testing.assert_close(procrustes(2 * pred @ rotation.T - 500, target), aligned)


@pytest.mark.parametrize("flat", ["line", "plane"])
def test_flat_poses_are_aligned_exactly(flat):
    target = poses(3)
    target[..., 2] = 0
    if flat == "line":
        target[..., 1] = 0
    pred = target @ axis_angle_to_matrix(torch.tensor([1.0, 2, 0.5], dtype=F64)).T + 10
    torch.testing.assert_close(procrustes(pred, target), target, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_poses_without_an_answer_become_nan_and_leave_the_others_alone(dtype):
    pred, target = (pose.to(dtype) for pose in alike())
    expected = procrustes(pred, target)
    pred[0] = torch.tensor([1234.567, -0.1, 4000.3])
    target[1] = 0
    pred[2, 3, 1] = torch.nan
    target[3, 3, 1] = torch.inf
    aligned = procrustes(pred, target)
    assert aligned[:4].isnan().all() and aligned.dtype == dtype
    assert torch.equal(aligned[4:], expected[4:])


def test_float32_aligns_to_a_thousandth_of_a_millimetre():
    pred, target = alike()
    aligned = procrustes(pred.float(), target.float())
    torch.testing.assert_close(aligned.double(), procrustes(pred, target), rtol=0, atol=1e-3)


def test_scale_alignment_is_the_least_squares_factor():
    pred, target = poses(4), poses(4, seed=1)
    for p, t, a in zip(pred.numpy(), target.numpy(), scale_align(pred, target).numpy(), strict=True):
        factor = np.linalg.lstsq(p.reshape(-1, 1), t.reshape(-1), rcond=None)[0]
        np.testing.assert_allclose(a, p * factor, rtol=1e-9)


def test_scale_alignment_of_nothing_is_nan():
    pred, target = poses(2), poses(2, seed=1)
    pred[0] = 0
    aligned = scale_align(pred, target)
    assert aligned[0].isnan().all() and aligned[1].isfinite().all()


@pytest.mark.parametrize("align", [procrustes, scale_align])
def test_shapes_must_agree(align):
    with pytest.raises(ShapeError, match=r"\(2, 17, 3\) and \(17, 3\)"):
        align(poses(2), poses())

"""The meta step against finite differences of the loss after an inner step, and DAF-DG's distance by SciPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import laplacian

from poseda.engine.supervised import SIGMA_WEIGHT, lifter_loss
from poseda.skeleton import get_skeleton
from poseda.stages.daf_dg.meta import Windows, meta_gradients
from poseda.stages.daf_dg.stage import SkeletonDistance, skeleton_laplacian

SKELETON = get_skeleton("h36m17")
RATE = 0.05


@pytest.fixture
def lifter(small_lifter):
    """In double precision and training mode, BatchNorm on the batch; no dropout, and no scale head, whose loss holds
    the error fixed and so is not what finite differences see."""
    return small_lifter(hidden=8, dropout=0.0, sigma=False).double().train()


def make_windows(seed):
    draws = torch.Generator().manual_seed(seed)
    keypoints = torch.randn(6, 1, 17, 2, generator=draws, dtype=torch.float64)
    target = 300 * torch.randn(6, 1, 17, 3, generator=draws, dtype=torch.float64)
    return Windows(keypoints, target, torch.tensor([1.0, 1, 0, 1, 1, 1], dtype=torch.float64))


def plain_loss(lifter, windows):
    losses = lifter_loss(lifter(windows.keypoints), windows.target, windows.weight)
    return losses["pose"] + SIGMA_WEIGHT * losses["sigma"] if "sigma" in losses else losses["pose"]


def after_inner_step(lifter, inner, outer):
    """(L_inner(w) + L_outer(w - rate grad L_inner(w))) / 2 on a copy that makes the step for real."""
    moved = copy.deepcopy(lifter)
    first = plain_loss(moved, inner)
    moved.zero_grad()
    first.backward()
    with torch.no_grad():
        for parameter in moved.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad
        return (float(first) + float(plain_loss(moved, outer))) / 2


def directions(lifter, seed):
    draws = torch.Generator().manual_seed(seed)
    return {n: torch.randn(p.shape, generator=draws, dtype=p.dtype) for n, p in lifter.named_parameters()}


def difference(lifter, inner, outer, direction, eps=1e-5):
    values = []
    for sign in (1, -1):
        moved = copy.deepcopy(lifter)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                parameter += sign * eps * direction[name]
        values.append(after_inner_step(moved, inner, outer))
    return (values[0] - values[1]) / (2 * eps)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_meta_gradients_are_those_of_finite_differences(lifter, seed):
    inner, outer, direction = make_windows(1), make_windows(2), directions(lifter, seed)
    gradients, _, _ = meta_gradients(lifter, inner, outer, RATE)
    slope = sum(float((gradients[name] * step).sum()) for name, step in direction.items() if name in gradients)
    assert slope == pytest.approx(difference(lifter, inner, outer, direction), rel=1e-4, abs=1e-7)


def test_first_order_leaves_out_the_second_derivatives(lifter):
    """It is the mean of both gradients, the outer one at the moved weights; and it differs from the full one."""
    inner, outer = make_windows(1), make_windows(2)
    cheap, first, second = meta_gradients(lifter, inner, outer, RATE, first_order=True)
    moved = copy.deepcopy(lifter)
    slopes = torch.autograd.grad(plain_loss(moved, inner), list(moved.parameters()), allow_unused=True)
    with torch.no_grad():
        for parameter, slope in zip(moved.parameters(), slopes, strict=True):
            if slope is not None:
                parameter -= RATE * slope
    outer_slopes = torch.autograd.grad(plain_loss(moved, outer), list(moved.parameters()), allow_unused=True)
    for (name, _), a, b in zip(moved.named_parameters(), slopes, outer_slopes, strict=True):
        if a is not None:
            torch.testing.assert_close(cheap[name], (a + b) / 2)
    full, _, _ = meta_gradients(lifter, inner, outer, RATE)
    assert max(float((full[name] - cheap[name]).abs().max()) for name in full) > 1e-6
    assert float((first + second) / 2) == pytest.approx(after_inner_step(lifter, inner, outer), rel=1e-9)


def test_the_lifter_keeps_its_weights_and_has_no_gradient_left(lifter):
    before = [p.detach().clone() for p in lifter.parameters()]
    meta_gradients(lifter, make_windows(1), make_windows(2), RATE)
    assert all(torch.equal(a, b) for a, b in zip(before, lifter.parameters(), strict=True))
    assert all(p.grad is None for p in lifter.parameters())


def test_frozen_parameters_get_no_gradient(lifter):
    name, parameter = next(iter(lifter.named_parameters()))
    parameter.requires_grad_(False)
    gradients, _, _ = meta_gradients(lifter, make_windows(1), make_windows(2), RATE)
    assert name not in gradients and gradients


def test_attention_has_a_second_derivative_too():
    from poseda.lifters import create_lifter

    lifter = create_lifter("poseformer", seed=0, frames=3).train()
    draws = torch.Generator().manual_seed(0)
    windows = Windows(torch.randn(2, 3, 17, 2, generator=draws), torch.zeros(2, 1, 17, 3), torch.ones(2))
    gradients, _, _ = meta_gradients(lifter, windows, windows, RATE)
    assert all(bool(g.isfinite().all()) for g in gradients.values())


def test_the_laplacian_is_scipys_normalised_one():
    adjacency = np.zeros((17, 17))
    for parent, child in SKELETON.bones:
        adjacency[parent, child] = adjacency[child, parent] = 1
    np.testing.assert_allclose(skeleton_laplacian(SKELETON), laplacian(adjacency, normed=True), atol=1e-6)


def test_the_distance_is_of_poses_and_of_joints_against_neighbours_and_knows_no_place(random_people):
    first, second = (random_people(3, seed=s)[:, None].expand(3, 3, 17, 3) for s in (1, 2))
    measure = SkeletonDistance(SKELETON).double()
    apart = (first - second)[:, 0].numpy() / 1000
    weighted = np.einsum("ij,bjc->bic", skeleton_laplacian(SKELETON).double().numpy(), apart)
    expected = (apart**2).mean() + (weighted**2).mean()
    assert float(measure(first, second + 700.0)) == pytest.approx(expected, rel=1e-6)

"""Recalibration against SciPy, brute force and its own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from poseda.errors import DataError
from poseda.metrics.calibration import DENSITIES, Stated
from poseda.uncertainty.recalibration import (
    BINS,
    LEVEL_GRID,
    fit_curve,
    fit_recalibration,
    fit_temperature,
    interpolate,
    sample_quantiles,
)


def heavy_errors(frames, joints=3, seed=0, power=1.0):
    """Student errors of which sigma tells the size, but for a factor and, unless power is 1, its growth."""
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(10, 60, (frames, joints))
    error = rng.standard_t(5, (frames, joints, 3)) * (sigma**power * [1.5, 0.4, 1.0])[..., None]
    return torch.from_numpy(error), torch.from_numpy(sigma)


@pytest.mark.parametrize("name", DENSITIES)
def test_temperature_is_the_factor_of_greatest_likelihood(name):
    error, sigma = heavy_errors(300)
    stated = Stated(sigma, DENSITIES[name])
    found = fit_temperature(error, stated)
    for joint in range(3):
        def nll(log_factor, joint=joint):
            factor = torch.tensor(math.exp(log_factor), dtype=torch.float64)
            return float(stated.scaled(factor).nll(error)[:, joint].mean())

        best = minimize_scalar(nll, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
        assert abs(math.exp(best.x) / float(found[joint]) - 1) < 1e-5


def pool_adjacent_violators(values):
    blocks = []
    for value in values:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (b, m), (a, n) = blocks.pop(), blocks.pop()
            blocks.append([(a * n + b * m) / (n + m), n + m])
    return np.repeat([value for value, _ in blocks], [count for _, count in blocks])


def test_the_curve_is_isotonic_regression_of_the_bins():
    rng = np.random.default_rng(1)
    sigma = rng.uniform(10, 60, (BINS * 20, 2))
    error = np.abs(50 - sigma) + rng.uniform(0, 30, sigma.shape)  # falls, then rises
    x, y = fit_curve(torch.from_numpy(sigma), torch.from_numpy(error)).numpy()
    for joint in range(2):
        order = np.argsort(sigma[:, joint])
        bins = error[order, joint].reshape(BINS, 20).mean(1)
        np.testing.assert_allclose(y[joint], pool_adjacent_violators(bins), rtol=1e-12)
        np.testing.assert_allclose(x[joint], sigma[order, joint].reshape(BINS, 20).mean(1), rtol=1e-12)


def test_a_sigma_that_does_not_vary_becomes_the_mean_error():
    error = torch.rand(200, 1) * 50
    _, y = fit_curve(torch.full((200, 1), 7.0), error)
    torch.testing.assert_close(y, error.mean().expand(1, BINS))


def test_interpolation_is_that_of_numpy_and_a_ray_beyond():
    rng = np.random.default_rng(2)
    x, y = np.sort(rng.uniform(1, 9, (2, 3, 7)), -1)
    at = rng.uniform(0, 14, (40, 3))
    found = interpolate(*map(torch.from_numpy, (x, y, at))).numpy()
    for j in range(3):
        expected = np.interp(at[:, j], [0, *x[j]], [0, *y[j]])
        beyond = at[:, j] > x[j, -1]
        expected[beyond] = at[beyond, j] * y[j, -1] / x[j, -1]
        np.testing.assert_allclose(found[:, j], expected, rtol=1e-12)


def test_the_conformal_quantile_is_the_smallest_that_keeps_its_promise():
    """Of n + 1 exchangeable values each is last-drawn alike often; the share that the other n cover is at least p."""
    values = torch.randperm(121, generator=torch.Generator().manual_seed(0)).double()
    covered = []
    for last in range(121):
        rest = torch.cat([values[:last], values[last + 1 :]])
        covered.append(values[last] <= sample_quantiles(rest[:, None], (0.5, 0.9, 0.95), conformal=True)[0])
    share = torch.stack(covered).double().mean(0)
    for p, found in zip((0.5, 0.9, 0.95), share.tolist(), strict=True):
        assert p <= found <= p + 1 / 121 + 1e-9


@pytest.mark.parametrize("method", ["temperature", "isotonic", "conformal"])
@pytest.mark.parametrize("shape", ["round", "ellipsoid"])
def test_held_out_levels_and_balls_hold_on_fresh_frames(method, shape):
    def stated_of(seed):
        error, sigma = heavy_errors(6000, seed=seed)
        error = error * torch.tensor([1.0, 1.0, 3.0])
        if shape == "round":
            return error, Stated(sigma, DENSITIES["laplace"])
        covariance = sigma.square()[..., None, None] * torch.diag(torch.tensor([1.0, 1.0, 9.0]).double())
        return error, Stated(sigma * 3, DENSITIES["laplace"], covariance)

    error, stated = stated_of(0)
    recalibration = fit_recalibration(method, error, stated)
    fresh, other = stated_of(1)
    corrected = recalibration.apply(other)
    level = recalibration.level(corrected.distance(fresh), corrected.density)
    loose = 0.06 if method == "temperature" else 0.03  # of one factor, the law stays the density's own
    for p in (0.1, 0.5, 0.9):
        np.testing.assert_allclose((level <= p).double().mean(0), p, atol=loose)
    inside = (fresh.norm(dim=-1) <= recalibration.radius90(corrected)).double().mean(0)
    np.testing.assert_allclose(inside, 0.9, atol=loose)
    assert bool((level >= 0).all()) and bool((level <= 1).all())


def test_isotonic_mends_a_growth_that_no_factor_can():
    error, sigma = heavy_errors(4000, power=0.3)
    fresh, other = heavy_errors(4000, seed=1, power=0.3)
    ratios = {}
    for method in ("temperature", "isotonic"):
        corrected = fit_recalibration(method, error, Stated(sigma, DENSITIES["laplace"])).apply(
            Stated(other, DENSITIES["laplace"])
        )
        small = other < 20
        ratios[method] = float(fresh.norm(dim=-1)[small].mean() / corrected.sigma[small].mean())
    assert abs(ratios["isotonic"] - 1) < 0.05 < 0.2 < abs(ratios["temperature"] - 1)


def test_too_few_frames_are_refused():
    error, sigma = heavy_errors(99)
    with pytest.raises(DataError, match="99 held-out frames: at least 100"):
        fit_recalibration("conformal", error, Stated(sigma, DENSITIES["laplace"]))
    assert LEVEL_GRID[89] == 0.9

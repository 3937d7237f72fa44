"""Calibration numbers against closed forms and loops, on errors whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from poseda.errors import DataError, ShapeError
from poseda.metrics.calibration import DENSITIES, Stated, evaluate_calibration, get_density, sparsify
from poseda.metrics.calibration.evaluation import LEVELS, coverage, ence

FRAMES = 4000


def exact_errors(name, sigma):
    """(FRAMES, J, 3) errors whose radii are the quantiles of the density in each joint, in a shuffled order."""
    rng = np.random.default_rng(0)
    levels = (np.arange(FRAMES) + 0.5) / FRAMES
    distance = get_density(name).quantile(torch.from_numpy(levels)).numpy() / get_density(name).mean
    radius = np.stack([rng.permutation(distance) * s for s in sigma], -1)
    direction = rng.standard_normal((*radius.shape, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return torch.from_numpy(radius[..., None] * direction)


def scored(error, sigma, name, factor=1.0):
    stated = Stated(torch.as_tensor(sigma).expand(error.shape[:2]) * factor, get_density(name))
    density = stated.density
    radius = stated.sigma * density.quantile(torch.tensor(0.9)) / density.mean
    return evaluate_calibration(error, stated, density.level(stated.distance(error)), radius)


@pytest.mark.parametrize("name", DENSITIES)
def test_the_truth_is_calibrated(name):
    sigma = [20.0, 50.0, 90.0]
    error = exact_errors(name, sigma)
    found = scored(error, sigma, name).values
    for key in ("calibration_error", "calibration_error_max", "calibration_error_joint"):
        assert found[key] < 0.02
    assert abs(found["sharpness"] - 160 / 3) < 1e-6
    assert abs(found["mean_error"] / found["sharpness"] - 1) < 2e-3
    assert abs(found["coverage90"] - 90) < 0.05
    assert found["ence"] < 4  # 800 draws a bin
    entropy = {
        "exponential": lambda s: 1 + np.log(4 * np.pi * s**3) - 2 * np.euler_gamma,  # E log r = log s - gamma
        "gaussian": lambda s: stats.multivariate_normal(cov=np.eye(3) * (s / np.sqrt(8 / np.pi)) ** 2).entropy(),
        "laplace": lambda s: 3 + np.log(8 * np.pi * (s / 3) ** 3),
    }[name]  # fmt: skip
    assert abs(found["nll"] - np.mean([entropy(s) for s in sigma])) < 3e-3


@pytest.mark.parametrize("name", DENSITIES)
def test_overconfidence_by_a_factor_has_its_closed_form(name):
    density = get_density(name)
    found = scored(exact_errors(name, [30.0]), [30.0], name, factor=0.5)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    truth = density.level(0.5 * density.quantile(levels))  # coverage of regions half as wide
    np.testing.assert_allclose(found.coverage, truth, atol=1.1 / FRAMES)
    assert abs(found.values["calibration_error"] - 100 * float((truth - levels).abs().mean())) < 0.05
    assert abs(found.values["calibration_error_max"] - 100 * float((truth - levels).abs().max())) < 0.05
    assert abs(found.values["ence"] - 100) < 1.5  # RMSE is twice RMV
    assert abs(found.values["coverage90"] - 100 * float(truth[17])) < 0.05


def test_joints_that_are_wrong_in_opposite_ways_do_not_hide_from_the_error_by_joint():
    error = exact_errors("laplace", [40.0, 40.0])
    found = scored(error, [20.0, 80.0], "laplace").values
    assert found["calibration_error_joint"] > 3 * found["calibration_error"]


def test_coverage_is_that_of_a_loop():
    level = torch.rand(57, 3, generator=torch.Generator().manual_seed(0))
    level[0, 0] = LEVELS[3]  # on the edge is inside
    expected = [[sum(float(level[f, j]) <= p + 1e-9 for f in range(57)) / 57 for j in range(3)] for p in LEVELS]
    np.testing.assert_allclose(coverage(level.double().round(decimals=9)), expected, atol=1e-12)


def test_ence_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    error, square = rng.uniform(0, 50, 300), rng.uniform(1, 900, 300)
    order = np.argsort(square)
    parts = [
        (np.sqrt((error[rows] ** 2).mean()), np.sqrt(square[rows].mean())) for rows in np.array_split(order, 15)
    ]
    expected = np.mean([abs(rmse - rmv) / rmv for rmse, rmv in parts])
    assert abs(float(ence(torch.from_numpy(error), torch.from_numpy(square))) - expected) < 1e-12


def test_sparsification_of_evenly_spread_errors_has_its_closed_form():
    order = torch.randperm(10_000, generator=torch.Generator().manual_seed(0))
    error = (order + 1).double()
    known = sparsify(error, error * 7)
    assert known.ause == 0
    # leaving out the largest share f of U(0, 1) leaves the mean (1 - f) / 2: AURG is 1 - mean of (1 - f)
    assert abs(known.aurg - (1 - np.mean(1 - np.arange(100) / 100))) < 1e-3
    backwards = sparsify(error, -error)
    # leaving out the smallest share f leaves (1 + f) / 2
    assert abs(backwards.ause - np.mean(2 * np.arange(100) / 100)) < 1e-3
    blind = sparsify(error, torch.rand(10_000, generator=torch.Generator().manual_seed(1)))
    assert abs(blind.aurg) < 0.02 and abs(blind.ause - known.aurg) < 0.02


def test_sparsification_keeps_the_last_hundredth():
    error = torch.tensor([3.0, 1.0, 2.0])
    found = sparsify(error, torch.tensor([1.0, 3.0, 2.0]))
    assert found.curve[0] == 2.0 and found.curve[-1] == 3.0 and found.oracle[-1] == 1.0
    assert found.curve[50] == 2.5  # floor(0.5 * 3) = 1 left out


def test_full_covariance_is_calibrated_where_its_round_likeness_is_not():
    generator = torch.Generator().manual_seed(0)
    axes = torch.tensor([10.0, 10.0, 80.0])
    error = torch.randn(20_000, 1, 3, generator=generator) * axes
    covariance = torch.diag(axes.square()).expand(20_000, 1, 3, 3)
    gaussian = DENSITIES["gaussian"]
    sigma = error.norm(dim=-1).mean().expand(20_000, 1)
    values = []
    for stated in (Stated(sigma, gaussian, covariance), Stated(sigma, gaussian)):
        values.append(evaluate_calibration(error, stated, gaussian.level(stated.distance(error)), sigma * 2).values)
    assert values[0]["calibration_error"] < 0.5 < 5 < values[1]["calibration_error"]
    assert values[0]["nll"] < values[1]["nll"]


def test_what_cannot_be_scored_is_named():
    error, sigma = torch.ones(4, 2, 3), torch.ones(4, 2)
    stated = Stated(sigma, DENSITIES["laplace"])
    with pytest.raises(ShapeError, match="Expected errors"):
        evaluate_calibration(error, stated, sigma[:, :1], sigma)
    with pytest.raises(DataError, match="some level is not finite"):
        evaluate_calibration(error, stated, sigma * torch.nan, sigma)
    with pytest.raises(DataError, match="not above 0"):
        evaluate_calibration(error, Stated(sigma * 0, DENSITIES["laplace"]), sigma, sigma)
    with pytest.raises(DataError, match="no error"):
        evaluate_calibration(error[:0], Stated(sigma[:0], DENSITIES["laplace"]), sigma[:0], sigma[:0])
    with pytest.raises(DataError, match="without an error"):
        sparsify(torch.zeros(3), torch.ones(3))

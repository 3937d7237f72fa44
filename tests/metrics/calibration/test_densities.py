"""The three densities against SciPy, quadrature and samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.spatial.transform import Rotation

from poseda.errors import ConfigError, ShapeError
from poseda.metrics.calibration.densities import DENSITIES, Stated, expected_norm, get_density

SIGMA = 40.0
# the law of the radius r of an isotropic error whose expected value is SIGMA
RADII = {
    "exponential": stats.expon(scale=SIGMA),
    "gaussian": stats.chi(3, scale=SIGMA / math.sqrt(8 / math.pi)),
    "laplace": stats.gamma(3, scale=SIGMA / 3),
}


def along_x(radius):
    return torch.stack([torch.as_tensor(radius), torch.zeros(len(radius)), torch.zeros(len(radius))], -1)[:, None]


@pytest.mark.parametrize("name", DENSITIES)
def test_level_and_nll_are_those_of_the_radius_in_scipy(name):
    radius = torch.linspace(0.5, 300, 50, dtype=torch.float64)
    stated = Stated(torch.full((50, 1), SIGMA), get_density(name))
    distance = stated.distance(along_x(radius))[:, 0]
    np.testing.assert_allclose(stated.density.level(distance), RADII[name].cdf(radius), rtol=1e-9)
    # a radial density in space is that of r over the area of the sphere
    expected = -RADII[name].logpdf(radius) + np.log(4 * np.pi * radius.numpy() ** 2)
    np.testing.assert_allclose(stated.nll(along_x(radius))[:, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(stated.mean_square()[0, 0], RADII[name].moment(2), rtol=1e-9)
    assert abs(RADII[name].mean() - SIGMA) < 1e-9
    levels = torch.tensor([0.05, 0.5, 0.9, 0.99])
    torch.testing.assert_close(stated.density.level(stated.density.quantile(levels)), levels.double())


@pytest.mark.parametrize("name", DENSITIES)
def test_the_density_integrates_to_one_and_its_distance_has_unit_variance_an_axis(name):
    density = get_density(name)

    def shell(d, power):
        return 4 * np.pi * d ** (2 + power) * math.exp(float(density.log_density(torch.tensor(d))))

    for power, expected in ((0, 1.0), (1, density.mean), (2, 3.0)):
        assert abs(integrate.quad(shell, 1e-6, 60, (power,), limit=200)[0] - expected) < 1e-5


def covariances(count, seed=0):
    rng = np.random.default_rng(seed)
    scales = rng.uniform(2, 80, (count, 3)) * [1.0, 1.0, 4.0]
    turn = Rotation.random(count, random_state=seed).as_matrix()
    return torch.from_numpy(turn @ (scales[:, :, None] ** 2 * turn.transpose(0, 2, 1)))


def test_full_covariance_is_the_normal_law_of_scipy():
    covariance = covariances(4)
    error = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 50
    stated = Stated(torch.ones(4), DENSITIES["gaussian"], covariance)
    for e, c, nll, d in zip(error, covariance, stated.nll(error), stated.distance(error), strict=True):
        assert abs(-stats.multivariate_normal(cov=c.numpy()).logpdf(e.numpy()) - float(nll)) < 1e-9
        assert abs(stats.chi2(3).cdf(float(d) ** 2) - float(DENSITIES["gaussian"].level(d))) < 1e-12


def test_a_round_covariance_says_what_sigma_alone_says():
    for name in ("gaussian", "laplace"):
        density, sigma = get_density(name), torch.tensor([10.0, 30.0])
        round_ = torch.eye(3) * (sigma / density.mean).square()[:, None, None]
        error = torch.tensor([[3.0, -4.0, 12.0], [20.0, 0.0, -1.0]])
        for first, second in zip(
            *((s.nll(error), s.distance(error), s.mean_square(), s.scaled(torch.tensor(2.0)).nll(error))
              for s in (Stated(sigma, density), Stated(sigma, density, round_))),
            strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(expected_norm(round_, density), sigma)


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_expected_norm_is_the_mean_of_samples(name):
    rng = np.random.default_rng(1)
    direction = rng.standard_normal((400_000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = (stats.chi(3) if name == "gaussian" else stats.gamma(3, scale=0.5)).rvs(400_000, random_state=rng)
    for covariance in [*covariances(3, seed=2), torch.diag(torch.tensor([1e-2, 1.0, 1e4], dtype=torch.float64))]:
        samples = (radius[:, None] * direction) @ np.linalg.cholesky(covariance.numpy()).T
        norms = np.linalg.norm(samples, axis=1)
        assert abs(float(expected_norm(covariance, get_density(name))) / norms.mean() - 1) < 0.006


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="no density 'normal'"):
        get_density("normal")
    with pytest.raises(ShapeError, match="covariance"):
        Stated(torch.ones(2), DENSITIES["gaussian"], torch.eye(3))
    with pytest.raises(ConfigError, match="no covariance"):
        Stated(torch.ones(()), DENSITIES["exponential"], torch.eye(3))

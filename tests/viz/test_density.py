"""Smooth histograms against SciPy's kernel density and against Gaussians whose contours are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gaussian_kde, norm

from poseda.viz.density import bandwidth, density_levels, smooth_density


def test_smooth_density_equals_a_kernel_density_of_the_same_width() -> None:
    values = np.random.default_rng(0).normal(2.0, 0.5, 500)
    grid, density = smooth_density(values, 0.0, 4.0)
    oracle = gaussian_kde(values, bw_method=bandwidth(values) / values.std(ddof=1))(grid)
    np.testing.assert_allclose(density, oracle, atol=0.01)


def test_smooth_density_integrates_to_the_share_inside_its_range() -> None:
    values = np.random.default_rng(0).normal(0.0, 1.0, 4000)
    grid, density = smooth_density(values, -6.0, 6.0)
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=1e-6)


def test_a_circular_density_flows_over_its_ends() -> None:
    values = np.concatenate([np.full(50, 179.0), np.linspace(-180, -90, 50)])
    grid, density = smooth_density(values, -180.0, 180.0, 360, circular=True)
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=1e-6)
    _, straight = smooth_density(values, -180.0, 180.0, 360)
    assert density[0] > 1.5 * straight[0]


def test_values_that_are_all_alike_still_give_a_density() -> None:
    grid, density = smooth_density(np.full(10, 0.5), 0.0, 1.0)
    assert np.isfinite(density).all() and abs(grid[density.argmax()] - 0.5) < 0.01


def test_levels_hold_their_share_of_a_round_gaussian() -> None:
    """The 50 % and 90 % regions of a standard 2D Gaussian end at radius sqrt(-2 ln(1 - share))."""
    x, y = np.random.default_rng(0).normal(size=(2, 40_000))
    xs, _, density, levels = density_levels(x, y, (-5.0, 5.0, -5.0, 5.0), (0.5, 0.9))
    assert levels == sorted(levels)
    step = xs[1] - xs[0]
    for share, level in zip((0.9, 0.5), levels, strict=True):
        radius = np.sqrt((density >= level).sum() * step**2 / np.pi)
        assert radius == pytest.approx(np.sqrt(-2 * np.log(1 - share)), rel=0.04)
    assert bandwidth(x) == pytest.approx(0.9 * 40_000**-0.2, rel=0.02)
    assert norm.ppf(0.75) * 2 == pytest.approx(1.349, abs=1e-3)

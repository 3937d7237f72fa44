"""Distribution gaps against SciPy, brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from poseda.errors import ShapeError
from poseda.metrics.gaps import domain_gap, rbf_mmd, sliced_wasserstein, wasserstein_1d, wasserstein_circle
from poseda.metrics.statistics import DomainStatistics


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (50, 50), (30, 71)])
def test_wasserstein_equals_scipy(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    a, b = (
        rng.normal(size=n).round(1),
        rng.normal(0.4, 2.0, size=m).round(1),
    )  # rounded: ties within and between
    ours = wasserstein_1d(torch.from_numpy(a), torch.from_numpy(b))
    assert float(ours) == pytest.approx(wasserstein_distance(a, b), rel=1e-9)


def test_wasserstein_of_a_batch_is_that_of_each_row() -> None:
    a, b = torch.randn(3, 20, generator=_generator()), torch.randn(3, 31, generator=_generator(1))
    rows = [wasserstein_1d(x, y) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(wasserstein_1d(a, b), torch.stack(rows))


def test_circle_equals_the_best_cut_by_brute_force() -> None:
    """On a circle the optimal plan pairs sorted samples after a cyclic shift (equal numbers of samples)."""
    rng = np.random.default_rng(3)
    a, b = rng.uniform(-180, 180, 12), rng.vonmises(3.0, 2.0, 12) * 180 / np.pi
    best = np.inf
    for shift in range(12):
        gap = np.abs(np.sort(a % 360) - np.roll(np.sort(b % 360), shift))
        best = min(best, np.minimum(gap, 360 - gap).mean())
    assert float(wasserstein_circle(torch.from_numpy(a), torch.from_numpy(b))) == pytest.approx(best, rel=1e-9)


def test_circle_goes_the_short_way_round() -> None:
    assert float(wasserstein_circle(torch.tensor([179.0]), torch.tensor([-179.0]))) == pytest.approx(2.0)
    assert float(wasserstein_circle(torch.tensor([10.0, 350.0]), torch.tensor([350.0, 10.0]))) == pytest.approx(0.0)


def test_sliced_wasserstein_of_a_shift_is_the_mean_of_its_projections() -> None:
    """Shifting a cloud by d moves each projection by |d.u|; in 3D the mean of |u_z| on the sphere is 1/2."""
    points = torch.randn(400, 3, generator=_generator(), dtype=torch.float64)
    shifted = points + torch.tensor([0.0, 0.0, 4.0])
    assert float(sliced_wasserstein(points, shifted, _generator(1), 4000)) == pytest.approx(2.0, rel=0.03)


def test_mmd_equals_a_double_loop() -> None:
    a, b = (
        torch.randn(7, 2, generator=_generator()).double(),
        1 + torch.randn(5, 2, generator=_generator(1)).double(),
    )
    x, y = a.numpy(), b.numpy()

    def kernel(p: np.ndarray, q: np.ndarray) -> float:
        return float(np.exp(-((p - q) ** 2).sum() / (2 * 1.5**2)))

    aa = np.mean([kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    bb = np.mean([kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    ab = np.mean([kernel(p, q) for p in x for q in y])
    assert float(rbf_mmd(a, b, _generator(), bandwidth=1.5)) == pytest.approx(aa + bb - 2 * ab, rel=1e-9)


def test_mmd_uses_the_median_distance() -> None:
    a, b = (
        torch.randn(20, 2, generator=_generator()).double(),
        torch.randn(21, 2, generator=_generator(1)).double(),
    )
    pooled = torch.cat([a, b]).numpy()
    pairs = [np.linalg.norm(pooled[i] - pooled[j]) for i in range(41) for j in range(i)]
    expected = rbf_mmd(a, b, _generator(), bandwidth=float(np.median(pairs)))
    assert float(rbf_mmd(a, b, _generator())) == pytest.approx(float(expected), rel=1e-2)


def test_mmd_is_near_zero_for_one_distribution_and_not_for_two() -> None:
    a, b = (torch.randn(3000, 3, generator=_generator(s)) for s in (0, 1))
    assert abs(float(rbf_mmd(a, b, _generator()))) < 2e-3
    assert float(rbf_mmd(a, b + 1, _generator())) > 0.1


def test_seeded_calls_repeat_and_leave_the_global_generator_alone() -> None:
    a, b = torch.randn(300, 3, generator=_generator()), torch.randn(300, 3, generator=_generator(1))
    before = torch.get_rng_state()
    first, second = (
        (float(sliced_wasserstein(a, b, g)), float(rbf_mmd(a, b, g, samples=50)))
        for g in (_generator(5), _generator(5))
    )
    assert first == second
    assert torch.equal(before, torch.get_rng_state())


def _domain(seed: int, shift: float, yaw: float | None) -> DomainStatistics:
    g = _generator(seed)
    scale, u, v = torch.randn(3, 200, generator=g)
    turn = None if yaw is None else torch.full((200,), yaw)
    return DomainStatistics(scale + shift, u, v, turn, turn, None, None, (), {})


def test_domain_gap_compares_what_both_domains_have() -> None:
    gap = domain_gap(_domain(0, 0.0, 178.0), _domain(0, 0.5, -178.0), _generator())
    assert gap["scale"] == pytest.approx(0.5, rel=1e-4) and gap["root_u"] == pytest.approx(0.0)
    assert gap["yaw"] == pytest.approx(4.0, rel=1e-4)  # round the circle
    assert gap["pitch"] == pytest.approx(356.0, rel=1e-4)  # along the line
    assert gap["placement_sliced"] > 0
    assert "yaw" not in domain_gap(_domain(0, 0.0, 178.0), _domain(0, 0.5, None), _generator())


def test_samples_of_unlike_dimension_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(4, 2\), \(4, 3\)"):
        rbf_mmd(torch.zeros(4, 2), torch.zeros(4, 3), _generator())

"""Distances of distributions: Wasserstein-1 on the line and the circle, sliced Wasserstein, RBF MMD."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.errors import ShapeError
from poseda.metrics.statistics import ANGLES, DomainStatistics


def wasserstein_1d(a: Tensor, b: Tensor) -> Tensor:
    """Wasserstein-1 distance of samples on the line. a: (..., N), b: (..., M) -> (...), in their unit.

    The integral of |F_a - F_b|; leading dimensions are independent problems and must agree.
    """
    gap, widths = _cdf_gap(a, b)
    return (gap.abs() * widths).sum(dim=-1)


def wasserstein_circle(a: Tensor, b: Tensor, period: float = 360.0) -> Tensor:
    """Wasserstein-1 distance of angles on a circle of length `period`. a: (N,), b: (M,) -> scalar.

    The integral of |F_a - F_b - c| with c the weighted median of F_a - F_b (Rabin, Delon, Gousseau 2011): the
    best cut.
    """
    a, b = a.remainder(period), b.remainder(period)
    gap, widths = _cdf_gap(a, b)
    largest, smallest = torch.maximum(a.max(), b.max()), torch.minimum(a.min(), b.min())
    # From the last sample round to the first both distribution functions agree.
    gap = torch.cat([gap, gap.new_zeros(1)])
    widths = torch.cat([widths, (period - largest + smallest).reshape(1)])
    order = gap.argsort()
    middle = torch.searchsorted(widths[order].cumsum(0), widths.sum() / 2).clamp(max=len(gap) - 1)
    return ((gap - gap[order][middle]).abs() * widths).sum()


def sliced_wasserstein(a: Tensor, b: Tensor, generator: torch.Generator, projections: int = 128) -> Tensor:
    """Mean Wasserstein-1 distance over random directions. a: (N, D), b: (M, D) -> scalar, in their unit.

    Directions are uniform on the sphere, drawn from `generator` (on its own device).
    """
    _check_points(a, b)
    normal = torch.randn(projections, a.shape[1], generator=generator, device=generator.device)
    directions = torch.nn.functional.normalize(normal.to(a), dim=1)
    return wasserstein_1d(directions @ a.mT, directions @ b.mT).mean()


def rbf_mmd(
    a: Tensor, b: Tensor, generator: torch.Generator, samples: int = 2000, bandwidth: float | None = None
) -> Tensor:
    """Squared maximum mean discrepancy, Gaussian kernel. a: (N, D), b: (M, D), N, M >= 2 -> scalar.

    The unbiased estimate (Gretton et al. 2012, eq. 3), so it may fall slightly below 0 where the two agree.
    At most `samples` rows of each side are drawn. The bandwidth is the median distance between the pooled
    rows unless given.
    """
    _check_points(a, b)
    a, b = _subsample(a, samples, generator), _subsample(b, samples, generator)
    pooled = torch.cat([a, b])
    distances = torch.cdist(pooled, pooled, compute_mode="donot_use_mm_for_euclid_dist")
    width = torch.pdist(pooled).median() if bandwidth is None else distances.new_tensor(bandwidth)
    # Where most rows coincide the median is 0; a tiny width then tells equal rows from unequal ones.
    kernel = torch.exp(-(distances**2) / (2 * width.clamp(min=1e-12) ** 2))
    n, m = len(a), len(b)
    within_a = (kernel[:n, :n].sum() - n) / (n * (n - 1))
    within_b = (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return within_a + within_b - 2 * kernel[:n, n:].mean()


def domain_gap(a: DomainStatistics, b: DomainStatistics, generator: torch.Generator) -> dict[str, float]:
    """Gap of two domains: Wasserstein-1 of each quantity both have, in its unit, and two joint measures.

    "placement_sliced" and "placement_mmd" compare (2D scale, root u, root v) together.
    """
    left, right = a.quantities(), b.quantities()
    gaps = {
        name: float((wasserstein_circle if name in ANGLES else wasserstein_1d)(left[name], right[name]))
        for name in left
        if name in right
    }
    gaps["placement_sliced"] = float(sliced_wasserstein(a.placement(), b.placement(), generator))
    gaps["placement_mmd"] = float(rbf_mmd(a.placement(), b.placement(), generator))
    return gaps


def _cdf_gap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return F_a - F_b between neighbouring samples, and the intervals' widths. (..., N+M-1) each."""
    if a.shape[-1] == 0 or b.shape[-1] == 0 or a.shape[:-1] != b.shape[:-1]:
        raise ShapeError(f"Two samples with alike leading sizes are needed: got {tuple(a.shape)}, {tuple(b.shape)}.")
    edges = torch.cat([a, b], dim=-1).sort(dim=-1).values
    inner = edges[..., :-1].contiguous()
    below_a = torch.searchsorted(a.sort(dim=-1).values, inner, right=True)
    below_b = torch.searchsorted(b.sort(dim=-1).values, inner, right=True)
    return below_a.to(a.dtype) / a.shape[-1] - below_b.to(a.dtype) / b.shape[-1], edges.diff(dim=-1)


def _subsample(points: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    if len(points) <= samples:
        return points
    index = torch.randperm(len(points), generator=generator, device=generator.device)[:samples]
    return points[index.to(points.device)]


def _check_points(a: Tensor, b: Tensor) -> None:
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ShapeError(
            f"Samples (N, D), (M, D) of 2 rows or more are needed: got {tuple(a.shape)}, {tuple(b.shape)}."
        )

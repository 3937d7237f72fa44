"""Recalibration on held-out people: what an estimator says, made to hold; joint by joint, the root left out.

temperature: sigma times one factor, that of greatest likelihood (Guo et al. 2017; Laves et al., MIDL 2020).
isotonic: sigma through the best rising curve of the error on it, then levels by the distribution of what is left
(Kuleshov et al., ICML 2018; the recalibration map of a sample is its empirical distribution, which rises by itself).
conformal: temperature, then radii by the finite-sample quantile of split-conformal prediction (Vovk 2005; Lei et al.,
JASA 2018), so that a fresh exchangeable frame lies inside with at least the stated probability. Frames of one clip are
not exchangeable with another person's: what then holds is measured, not promised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from poseda.errors import DataError
from poseda.metrics.calibration.densities import Density, Stated

Method = Literal["temperature", "isotonic", "conformal"]
LEVEL_GRID = tuple(i / 100 for i in range(1, 100))
"""Levels at which quantiles are kept."""
BINS = 32
"""Equal-count bins of sigma that the isotonic curve goes through."""
LEAST_FRAMES = 100


@dataclass(frozen=True, eq=False)
class Recalibration:
    """How a joint's stated error is changed, and which distances hold which probability; J counts no root."""

    method: Method
    scale: Tensor | None = None
    """(J,) factor of sigma; None for isotonic."""
    curve: Tensor | None = None
    """(2, J, BINS) mm, for isotonic: sigma as stated, rising, and as it should be."""
    quantiles: Tensor | None = None
    """(J, 99) distances d (Stated.distance) at LEVEL_GRID; None for temperature: those of the density."""
    ball: Tensor | None = None
    """(J,) radius of the 90 % ball in units of sigma, kept where the regions are ellipsoids; None: by the quantiles."""

    def tensors(self) -> dict[str, Tensor]:
        """What is to be kept, by name."""
        named = {"scale": self.scale, "curve": self.curve, "quantiles": self.quantiles, "ball": self.ball}
        return {name: value for name, value in named.items() if value is not None}

    def to(self, device: torch.device | str) -> Recalibration:
        """The same on another device."""
        return Recalibration(self.method, **{name: value.to(device) for name, value in self.tensors().items()})

    def apply(self, stated: Stated) -> Stated:
        """What is stated of (F, J) joints, with its size corrected."""
        if self.curve is not None:
            knots, values = self.curve.to(stated.sigma)
            wanted = interpolate(knots, values, stated.sigma)
            return stated.scaled(wanted / stated.sigma)
        assert self.scale is not None
        return stated.scaled(self.scale.to(stated.sigma))

    def level(self, distance: Tensor, density: Density) -> Tensor:
        """Probability (F, J) inside the region through errors at distances (F, J) of what `apply` gave."""
        if self.quantiles is None:
            return density.level(distance)
        knots = self.quantiles.to(distance)
        levels = torch.tensor(LEVEL_GRID).to(distance).expand_as(knots).contiguous()
        return torch.where(distance > knots[:, -1], 1.0, interpolate(knots, levels, distance))

    def radius90(self, stated: Stated) -> Tensor:
        """Radius (F, J) mm of the ball that holds 90 %, of what `apply` gave."""
        if self.ball is not None:
            return stated.sigma * self.ball.to(stated.sigma)
        if self.quantiles is None:
            distance = stated.density.quantile(torch.tensor(0.9)).to(stated.sigma)
        else:
            distance = self.quantiles[:, LEVEL_GRID.index(0.9)].to(stated.sigma)
        return stated.sigma * distance / stated.density.mean


def fit_recalibration(method: Method, error: Tensor, stated: Stated) -> Recalibration:
    """Fit on errors (F, J, 3) mm of held-out frames and what is stated of them. Raises DataError for too few."""
    if len(error) < LEAST_FRAMES:
        raise DataError(f"Recalibration on {len(error)} held-out frames: at least {LEAST_FRAMES} are needed.")
    if method == "isotonic":
        first = Recalibration(method, curve=fit_curve(stated.sigma, error.norm(dim=-1)))
    else:
        first = Recalibration(method, scale=fit_temperature(error, stated))
    corrected = first.apply(stated)
    quantiles = ball = None
    if method != "temperature":
        quantiles = sample_quantiles(corrected.distance(error), LEVEL_GRID, method == "conformal").to(error)
    if stated.covariance is not None:
        ball = sample_quantiles(error.norm(dim=-1) / corrected.sigma, (0.9,), method == "conformal")[:, 0].to(error)
    return Recalibration(method, first.scale, first.curve, quantiles, ball)


def fit_temperature(error: Tensor, stated: Stated) -> Tensor:
    """The factor (J,) of sigma with the greatest likelihood, in closed form.

    Normal law: root mean square of d over that of a true one, sqrt(3). Exponential radius and Laplace: mean of d over
    its expected value, after which the mean sigma-weighted error is what sigma says.
    """
    distance = stated.distance(error)
    if stated.density.name == "gaussian":
        return (distance.square().mean(0) / 3).sqrt().to(error)
    return (distance.mean(0) / stated.density.mean).to(error)


def fit_curve(sigma: Tensor, error: Tensor) -> Tensor:
    """The best rising curve of error norms on sigma, both (F, J) mm, through bins: (2, J, BINS) mm.

    Isotonic least squares by its min-max formula (Barlow et al. 1972): the value at k is the greatest over i <= k of
    the least over j >= k of the mean of bins i to j. A sigma that does not vary gives the mean error.
    """
    given, order = sigma.double().sort(dim=0, stable=True)
    wanted = error.double().gather(0, order)
    edges = torch.arange(BINS + 1, device=sigma.device) * len(sigma) // BINS
    counts = edges.diff().double()
    x, y = (_sums(v.mT)[:, edges].diff() / counts for v in (given, wanted))
    weight, total = _sums(counts), _sums(y * counts)
    means = (total[:, None, 1:] - total[:, :-1, None]) / (weight[None, 1:] - weight[:-1, None])  # (J, i, j)
    later = torch.ones(BINS, BINS, dtype=torch.bool, device=sigma.device).triu()
    least = means.masked_fill(~later, torch.inf).flip(-1).cummin(-1).values.flip(-1)  # over j >= k
    rising = least.masked_fill(~later, -torch.inf).amax(-2)  # over i <= k
    same = x[:, -1:] - x[:, :1] <= 1e-6 * x[:, -1:]
    rising = torch.where(same, wanted.mean(0)[:, None], rising).clamp_min(1e-3)
    return torch.stack([x, rising]).to(sigma)


def _sums(values: Tensor) -> Tensor:
    """Running sums along the last axis, from 0: (..., N) -> (..., N + 1)."""
    return torch.cat([values.new_zeros(*values.shape[:-1], 1), values.cumsum(-1)], -1)


def sample_quantiles(values: Tensor, levels: tuple[float, ...], conformal: bool) -> Tensor:
    """Quantiles (J, L) of a sample (F, J): the ceil(p F)-th smallest value, for conformal the ceil(p (F + 1))-th."""
    count = len(values)
    ranks = [min(math.ceil(round(p * (count + conformal), 9)), count) - 1 for p in levels]
    return values.sort(0).values[torch.tensor(ranks, device=values.device)].mT.contiguous()


def interpolate(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Line through (0, 0) and knots x, y (J, K), x rising, at (F, J); beyond the last knot along its ray from 0."""
    zero = x.new_zeros(len(x), 1)
    x, y = torch.cat([zero, x], -1), torch.cat([zero, y], -1)
    wanted = at.mT.contiguous()
    right = torch.searchsorted(x, wanted).clamp(1, x.shape[1] - 1)
    x0, x1, y0, y1 = (v.gather(1, index) for v in (x, y) for index in (right - 1, right))
    inside = y0 + (y1 - y0) * (wanted - x0) / (x1 - x0).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.where(wanted > x[:, -1:], wanted * (y[:, -1:] / x[:, -1:]), inside).mT

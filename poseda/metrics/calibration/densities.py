"""What a stated uncertainty claims of a joint's 3D error: elliptical densities about the prediction.

Each density is p(e) = h(d) / sqrt(det Sigma) with d = sqrt(e^T Sigma^-1 e), Sigma the covariance of e. Where only the
expected error sigma = E||e|| in mm is known, Sigma = (sigma / E[d])^2 I, and d is the error's norm in these units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from poseda.errors import ConfigError, ShapeError, choose

LEAST_DISTANCE = 1e-6
"""Smallest d at which a density is read: that of the exponential radius has a pole at 0."""
_NODES = 32


@dataclass(frozen=True)
class Density:
    """The distribution of d, the error's norm in standard deviations, and with it the density of the error."""

    name: str
    mean: float
    """E[d]."""
    _level: Callable[[Tensor], Tensor]
    _log_h: Callable[[Tensor], Tensor]
    _quantile: Callable[[object], object]

    def level(self, distance: Tensor) -> Tensor:
        """P(d' <= d), the probability mass inside the ellipsoid through an error: d (...) -> (...) in [0, 1]."""
        return self._level(distance.double())

    def log_density(self, distance: Tensor) -> Tensor:
        """log h(d): (...) -> (...) nats."""
        return self._log_h(distance.double().clamp_min(LEAST_DISTANCE))

    def quantile(self, level: Tensor) -> Tensor:
        """The d that holds probability `level`: (...) in [0, 1) -> (...)."""
        return torch.from_numpy(np.asarray(self._quantile(level.double().cpu().numpy()))).to(level.device)


def _gamma(shape: float, rate: float) -> Callable[[Tensor], Tensor]:
    return lambda d: torch.special.gammainc(torch.full_like(d, shape), rate * d)


_EXPONENTIAL = math.sqrt(1.5)
"""Mean of an exponential radius whose covariance is I: E[r^2] = 2 mean^2 = 3."""

DENSITIES: dict[str, Density] = {
    # r ~ Exponential(mean sigma): what the loss r / sigma + log sigma of UAO (arXiv 2402.02339) is the negative log
    # likelihood of, in the scalar r; as a density in space it is exp(-r / sigma) / (4 pi r^2 sigma)
    "exponential": Density(
        "exponential",
        _EXPONENTIAL,
        lambda d: -torch.expm1(-d / _EXPONENTIAL),
        lambda d: -d / _EXPONENTIAL - math.log(_EXPONENTIAL * 4 * math.pi) - 2 * d.log(),
        lambda p: stats.expon.ppf(p, scale=_EXPONENTIAL),
    ),
    # N(0, Sigma): d ~ chi with 3 degrees of freedom; isotropic with g an axis, E||e|| = g sqrt(8 / pi) = 1.596 g
    "gaussian": Density(
        "gaussian",
        math.sqrt(8 / math.pi),
        lambda d: torch.special.gammainc(torch.full_like(d, 1.5), d.square() / 2),
        lambda d: -1.5 * math.log(2 * math.pi) - d.square() / 2,
        lambda p: stats.chi.ppf(p, 3),
    ),
    # exp(-||L^-1 e||) / (8 pi det L) with Sigma = 4 L L^T; isotropic exp(-r / s) / (8 pi s^3), so that r ~ Gamma(3, s)
    # and E||e|| = 3 s
    "laplace": Density(
        "laplace",
        1.5,
        _gamma(3.0, 2.0),
        lambda d: -math.log(math.pi) - 2 * d,
        lambda p: stats.gamma.ppf(p, 3, scale=0.5),
    ),
}


def get_density(name: str) -> Density:
    """A density by name: exponential, gaussian or laplace. Raises ConfigError for another."""
    return DENSITIES[choose(name, DENSITIES, "density")]


@dataclass(frozen=True, eq=False)
class Stated:
    """What is claimed of each joint's error. Checked when made: ShapeError, ConfigError."""

    sigma: Tensor
    """(..., J) mm, above 0: the expected error E||e||."""
    density: Density
    covariance: Tensor | None = None
    """(..., J, 3, 3) mm², positive definite; None: the same along all axes, as sigma and the density say."""

    def __post_init__(self) -> None:
        covariance = self.covariance
        if covariance is not None and covariance.shape != (*self.sigma.shape, 3, 3):
            raise ShapeError(f"Expected covariance {(*self.sigma.shape, 3, 3)}, got {tuple(covariance.shape)}.")
        if covariance is not None and self.density.name == "exponential":
            raise ConfigError("An exponential radius has no covariance with axes of its own: laplace or gaussian has.")

    def distance(self, error: Tensor) -> Tensor:
        """Mahalanobis distance d of errors (..., J, 3) mm -> (..., J), float64."""
        error = error.double()
        if self.covariance is None:
            norm: Tensor = error.norm(dim=-1)
            return norm * self.density.mean / self.sigma.double()
        factor = torch.linalg.cholesky(self.covariance.double())
        white: Tensor = torch.linalg.solve_triangular(factor, error.unsqueeze(-1), upper=False)
        distance: Tensor = white.squeeze(-1).norm(dim=-1)
        return distance

    def nll(self, error: Tensor) -> Tensor:
        """Negative log density in nats, errors (..., J, 3) in mm, density per mm³ -> (..., J). Lower is better.

        A proper score (Gneiting & Raftery, JASA 2007), and the same for every density, so that they can be compared.
        """
        if self.covariance is None:
            log_volume = 3 * (self.sigma.double() / self.density.mean).log()
        else:
            log_volume = torch.linalg.cholesky(self.covariance.double()).diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_volume - self.density.log_density(self.distance(error))

    def mean_square(self) -> Tensor:
        """E||e||^2 (..., J) mm²: the trace of the covariance."""
        if self.covariance is None:
            return 3 * (self.sigma.double() / self.density.mean).square()
        trace: Tensor = self.covariance.double().diagonal(dim1=-2, dim2=-1).sum(-1)
        return trace

    def scaled(self, factor: Tensor) -> Stated:
        """The same with all errors `factor` (broadcast to (..., J)) times as large."""
        covariance = self.covariance
        if covariance is not None:
            covariance = covariance * factor.square().expand(self.sigma.shape)[..., None, None]
        return Stated(self.sigma * factor, self.density, covariance)


def expected_norm(covariance: Tensor, density: Density) -> Tensor:
    """E||e|| (...) mm of errors with covariance (..., 3, 3) mm² that follow an elliptical density.

    For the normal law E||e|| = pi^-1/2 int_0^inf (1 - det(I + 2 u^2 Sigma)^-1/2) u^-2 du (from the Laplace transform of
    e^T e), here with u = tan(t) / sqrt(tr Sigma) and Gauss-Legendre nodes in t; another law changes E[d] alone.
    """
    sigma = covariance.double()
    trace = sigma.diagonal(dim1=-2, dim2=-1).sum(-1)
    unit = sigma / trace[..., None, None]
    minors = (1 - unit.square().sum((-2, -1))) / 2  # sum of the principal 2 x 2 minors, the trace being 1
    volume = torch.linalg.det(unit)
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    total = torch.zeros_like(trace)
    for angle, share in zip((node + 1) * math.pi / 4, weight * math.pi / 4, strict=True):
        u = 2 * math.tan(angle) ** 2
        determinant = 1 + u + u**2 * minors + u**3 * volume
        total = total + share / math.sin(angle) ** 2 * (1 - determinant.rsqrt())
    ratio = density.mean / DENSITIES["gaussian"].mean
    return (ratio * (trace / math.pi).sqrt() * total).to(covariance)

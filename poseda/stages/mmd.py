"""MMD: source and target features with the same distribution by maximum mean discrepancy (DAN, Long et al., ICML 2015).

    loss = sum_ij a_i a_j k(s_i, s_j) + sum_ij b_i b_j k(t_i, t_j) - 2 sum_ij a_i b_j k(s_i, t_j)
    k(x, y) = mean over the kernels u of exp(-|x - y|² / h_u)

with bandwidths h_u spread by factors of 2 round the mean squared distance of the batch, as the authors' code takes
them. Departures: the quadratic estimate over all pairs, biased and never negative, and not the linear-time one; equal
kernel weights, not learned ones; one layer, the latent before the output. Windows left out of the step have a_i = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.errors import ConfigError
from poseda.stages.base import Lesson, Setting, Stage
from poseda.stages.features import feature_size, lesson_features, shares


@dataclass(frozen=True)
class MMDConfig:
    """Options of MMD."""

    weight: float = 0.01
    """Weight of the loss beside that of the poses (m²)."""
    kernels: int = 5
    """Gaussian kernels, each twice as wide as the one before (DAN: 5)."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(f"mmd.weight={self.weight}: must be above 0; leave mmd out of stages for none.")
        if self.kernels < 1:
            raise ConfigError(f"mmd.kernels={self.kernels}: must be 1 or more.")


def squared_distances(rows: Tensor) -> Tensor:
    """(N, N) squared distances of the rows of (N, D), by products about their mean, which float32 needs."""
    centred = rows - rows.detach().mean(0)
    squares = centred.square().sum(-1)
    return (squares[:, None] + squares[None] - 2 * centred @ centred.T).clamp_min(0)


def mmd_loss(source: Tensor, target: Tensor, weight: Tensor, kernels: int = 5) -> Tensor:
    """Squared MMD of features (B, D) and (M, D), source rows with weight (B,) 0 left out -> scalar, at least 0.

    The bandwidths follow the batch, and count as constants.
    """
    distance = squared_distances(torch.cat([source, target]))
    part = torch.cat([shares(weight), -shares(torch.ones_like(target[:, 0]))])
    loss = discrepancy(distance, part, mean_distance(distance.detach(), part != 0), kernels)
    return torch.where(weight.sum() >= 1, loss, torch.zeros_like(loss))


def mean_distance(distance: Tensor, used: Tensor) -> Tensor:
    """Mean of (N, N) distances over the pairs of two different rows that are used (N,) bool -> scalar."""
    count = used.sum()
    return torch.where(used[:, None] & used, distance, 0.0).sum() / (count * (count - 1)).clamp_min(1)


def discrepancy(distance: Tensor, part: Tensor, mean: Tensor, kernels: int) -> Tensor:
    """sum_ij part_i part_j k(distance_ij) -> scalar: (N, N) squared distances, signed shares (N,), scale of k."""
    similarity = torch.zeros_like(distance)
    for step in range(kernels):
        width = (mean * 2.0 ** (step - kernels // 2)).clamp_min(1e-12)
        similarity = similarity + torch.exp(-distance / width) / kernels
    return part @ similarity @ part


class MMD(Stage):
    """Distributions of the features alike, in a reproducing kernel Hilbert space."""

    Config = MMDConfig
    name = "mmd"
    label = "MMD"
    wants_features = True

    def __init__(self, config: MMDConfig | None = None) -> None:
        self.config = config or MMDConfig()

    def prepare(self, setting: Setting) -> str:
        """See that the lifter has features."""
        feature_size(setting.lifter, self.name)
        return ""

    def lifter_loss(self, lesson: Lesson) -> Tensor:
        """The weighted loss of this step's features."""
        source, target = lesson_features(lesson)
        return self.config.weight * mmd_loss(source, target, lesson.weight, self.config.kernels)


STAGE = MMD

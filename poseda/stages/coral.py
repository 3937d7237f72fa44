"""CORAL: source and target features get the same covariance (Deep CORAL, Sun & Saenko, ECCV workshops 2016).

    loss = ||C_S - C_T||_F² / 4 d²,   C = (D^T D - (1^T D)^T (1^T D) / n) / (n - 1)          (eqs. 1-3)

on the latent of the lifter's encoder, d long. Departures: the features are those before the output layer, for there is
no layer of class scores; source windows that are left out of the step have no part in C_S.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.errors import ConfigError
from poseda.stages.base import Lesson, Setting, Stage
from poseda.stages.features import feature_size, lesson_features


@dataclass(frozen=True)
class CORALConfig:
    """Options of CORAL."""

    weight: float = 1.0
    """Weight of the loss beside that of the poses (m²)."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(f"coral.weight={self.weight}: must be above 0; leave coral out of stages for none.")


def weighted_covariance(features: Tensor, weight: Tensor) -> Tensor:
    """(D, D) unbiased covariance of the rows of (B, D) that have weight (B,) 1 and not 0; 0 for fewer than two."""
    count = weight.sum()
    centred = features - (weight.unsqueeze(-1) * features).sum(0) / count.clamp_min(1.0)
    return (centred * weight.unsqueeze(-1)).T @ centred / (count - 1).clamp_min(1.0)


def coral_loss(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Distance of covariances of features (B, D) and (M, D), source rows with weight (B,) 0 left out -> scalar."""
    here = weighted_covariance(source, weight)
    there = weighted_covariance(target, torch.ones_like(target[:, 0]))
    enough = weight.sum() >= 2
    return torch.where(enough, (here - there).square().mean() / 4, torch.zeros_like(here[0, 0]))


class CORAL(Stage):
    """Second-order statistics of the features alike."""

    Config = CORALConfig
    name = "coral"
    label = "CORAL"
    wants_features = True

    def __init__(self, config: CORALConfig | None = None) -> None:
        self.config = config or CORALConfig()

    def prepare(self, setting: Setting) -> str:
        """See that the lifter has features."""
        feature_size(setting.lifter, self.name)
        return ""

    def lifter_loss(self, lesson: Lesson) -> Tensor:
        """The weighted loss of this step's features."""
        source, target = lesson_features(lesson)
        return self.config.weight * coral_loss(source, target, lesson.weight)


STAGE = CORAL

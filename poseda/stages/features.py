"""What the feature baselines (CORAL, MMD, DANN) share: one vector a window from the lifter's latent, and weights.

All of them come from classification, where labels do not change with where and how large a thing is seen. A lifter's
features must carry that, so that pulling the domains' features together can also remove what depth is read from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.errors import ConfigError
from poseda.lifters.base import Lifter, evaluation_mode
from poseda.stages.base import Lesson

LARGEST = 4096
"""Longest vector that a latent is laid out to."""


def window_features(latent: Tensor) -> Tensor:
    """(B, ...) latent -> (B, D): laid out where that is at most 4096 numbers, else averaged over all but its ends."""
    if latent[0].numel() <= LARGEST or latent.ndim < 3:
        return latent.flatten(1)
    return latent.mean(tuple(range(1, latent.ndim - 1)))


def feature_size(lifter: Lifter, stage: str) -> int:
    """D of `window_features` of a lifter. Raises ConfigError for one whose encoder does not give windows a latent."""
    parameter = next(lifter.parameters())
    empty = parameter.new_zeros(2, lifter.frames, lifter.skeleton.num_joints, lifter.inputs)
    with torch.no_grad(), evaluation_mode(lifter):
        latent = lifter.encode(empty)
    if not isinstance(latent, Tensor) or latent.ndim < 2 or len(latent) != 2:
        raise ConfigError(f"{stage} needs features, and the encoder of {lifter.name} gives none; leave {stage} out.")
    return window_features(latent).shape[1]


def lesson_features(lesson: Lesson) -> tuple[Tensor, Tensor]:
    """(B, D) features of the source and of the target windows of a lesson."""
    assert lesson.source_features is not None and lesson.target_features is not None  # the stage wants them
    return window_features(lesson.source_features), window_features(lesson.target_features)


def shares(weight: Tensor) -> Tensor:
    """(B,) weights that sum to 1; all 0 where no window is left."""
    return weight / weight.sum().clamp_min(1.0)

"""One number a joint: its mean error on people that the lifter never saw."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.lifters.base import Lifter
from poseda.uncertainty.base import LEAST_SIGMA, Estimator, Lifting


@dataclass(frozen=True)
class ConstantConfig:
    """A constant has no options."""


class Constant(Estimator):
    """The mean error of each joint, the same in every frame."""

    Config = ConstantConfig
    name = "constant"
    frame_by_frame = True
    joint_sigma: Tensor

    def __init__(self, config: ConstantConfig, lifter: Lifter) -> None:
        super().__init__(config, lifter)
        self.register_buffer("joint_sigma", torch.full((lifter.skeleton.num_joints - 1,), 1.0))

    def fit(self, held_out: Lifting, trained_on: Lifting | None = None) -> None:
        """Mean errors of the held-out clips."""
        self.joint_sigma = held_out.error().norm(dim=-1).mean(0).clamp_min(LEAST_SIGMA)

    def forward(self, seen: Lifting) -> tuple[Tensor, Tensor | None]:
        """(F, J - 1) mm, the same in every frame."""
        return self.joint_sigma.to(seen.lifted.poses).expand(len(seen.lifted.poses), -1), None


ESTIMATOR = Constant

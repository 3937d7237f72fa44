"""What the estimators share that let a lifter look several times: disagreement in mm to expected error in mm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poseda.lifters.base import Lifter
from poseda.uncertainty.base import LEAST_SIGMA, Estimator, Lifting, moving_joints


class Disagreement(Estimator):
    """sigma = a + b x disagreement, a and b of each joint fitted on held-out people.

    Looks that agree may be wrong alike, so that disagreement alone is no error. A subclass writes `disagreement`.
    """

    line: Tensor

    def __init__(self, config: Any, lifter: Lifter) -> None:
        super().__init__(config, lifter)
        joints = lifter.skeleton.num_joints - 1
        self.register_buffer("line", torch.stack([torch.zeros(joints), torch.ones(joints)]))

    def disagreement(self, seen: Lifting) -> Tensor:
        """How far the looks lie apart: (F, J) mm, 0 where they agree."""
        raise NotImplementedError

    def fit(self, held_out: Lifting, trained_on: Lifting | None = None) -> None:
        """Least squares of the error's norm on the disagreement, joint by joint."""
        self.line = fit_line(self._moving(held_out), held_out.error().norm(dim=-1))

    def forward(self, seen: Lifting) -> tuple[Tensor, Tensor | None]:
        """(F, J - 1) mm."""
        apart = self._moving(seen)
        offset, slope = self.line.to(apart)
        return (offset + slope * apart).clamp_min(LEAST_SIGMA), None

    def _moving(self, seen: Lifting) -> Tensor:
        return self.disagreement(seen)[:, moving_joints(self.skeleton, seen.lifted.poses.device)]


def fit_line(x: Tensor, y: Tensor) -> Tensor:
    """Least squares y = a + b x with a, b >= 0, column by column: x, y (F, J) -> (2, J) a and b.

    Where the free slope is negative the best line is the mean; where the free offset is, one through 0.
    """
    given, wanted = x.double(), y.double()
    mean_x, mean_y = given.mean(0), wanted.mean(0)
    about = given - mean_x
    slope = (about * wanted).sum(0) / about.square().sum(0).clamp_min(1e-12)
    through_zero = (given * wanted).sum(0) / given.square().sum(0).clamp_min(1e-12)
    offset = mean_y - slope * mean_x
    slope = torch.where(slope < 0, 0.0, torch.where(offset < 0, through_zero, slope))
    offset = torch.where(slope == 0, mean_y, torch.where(offset < 0, 0.0, offset))
    return torch.stack([offset, slope]).to(x)

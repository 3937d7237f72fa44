"""The lifter's own head, which was trained with it (train.sigma_loss)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from poseda.errors import ConfigError
from poseda.lifters.base import Lifter
from poseda.uncertainty.base import LEAST_SIGMA, Estimator, Lifting, moving_joints


@dataclass(frozen=True)
class OwnConfig:
    """The lifter's own head has no options."""


class Own(Estimator):
    """sigma as the lifter gives it: exp(log_sigma) = E||error|| (UAO)."""

    Config = OwnConfig
    name = "own"
    frame_by_frame = True

    def __init__(self, config: OwnConfig, lifter: Lifter) -> None:
        super().__init__(config, lifter)
        if not lifter.has_sigma:
            raise ConfigError(
                f"uncertainty=own: this {lifter.name} has no head of its own (sigma=false); "
                "take uncertainty=posthoc, which gives it one."
            )

    def forward(self, seen: Lifting) -> tuple[Tensor, Tensor | None]:
        """The head's (F, J - 1) mm."""
        assert seen.lifted.sigma is not None
        return seen.lifted.sigma[:, moving_joints(self.skeleton, seen.lifted.sigma.device)].clamp_min(LEAST_SIGMA), None


ESTIMATOR = Own

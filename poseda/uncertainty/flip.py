"""How far the pose of the mirrored input, mirrored back, lies from the pose."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from poseda.uncertainty.base import Lifting
from poseda.uncertainty.disagreement import Disagreement


@dataclass(frozen=True)
class FlipConfig:
    """Flip disagreement has no options."""


class Flip(Disagreement):
    """The pose and its mirrored pass should be one; costs one more pass."""

    Config = FlipConfig
    name = "flip"

    def disagreement(self, seen: Lifting) -> Tensor:
        """Distance (F, J) mm of the two passes: twice that of one of them to their mean."""
        other = seen.again(flip=not seen.flip)
        apart: Tensor = 2 * (seen.lifted.poses - other).norm(dim=-1)
        return apart


ESTIMATOR = Flip

"""The fitted statistics of motion that stand-ins are drawn from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from poseda.errors import choose

FPS = 50.0
COMPONENTS = slice(0, -4)  # of a state; then come forward speed, leftward speed (m/s), turning (rad/s) and lift
MOVES = slice(-4, -1)
LIFT_SCORES = (-2.5, 2.5)  # the normal scores of the first and the last quantile of the lift


@dataclass(frozen=True, eq=False)
class MotionStatistics:
    """C classes of action with M modes in all. A state has D = K + 4 numbers: K of the pose, two speeds, one of
    turning, and the lift as a normal score.
    """

    classes: tuple[str, ...]
    """Names of the classes."""
    rate_hz: float
    """States a second."""
    licence: str
    """Terms and acknowledgement of the motion capture that the numbers were fitted to."""
    mean: Tensor
    """(3E,) mean of the unit bone vectors in the heading frame: x forward, y left, z up."""
    basis: Tensor
    """(3E, K) directions in which poses change."""
    bend: Tensor
    """(E, 2) rad: least and greatest angle between a bone and the one before it."""
    lift: Tensor
    """(C, Q) mm: quantiles of the lower ankle's height above its standing height, at even normal scores."""
    grounded: Tensor
    """(C,) 1 where feet stand on the floor, 0 where on something else."""
    tempo: Tensor
    """(C,) factor on the pace that gives generated clips the speed of real ones."""
    of_class: Tensor
    """(M,) the class of a mode."""
    share: Tensor
    """(M,) how often a class is in the mode."""
    means: Tensor
    """(M, D) mean state."""
    between: Tensor
    """(M, D, D) root of the covariance between clips."""
    regression: Tensor
    """(M, 2, D, D) how a state follows from the two before it."""
    innovation: Tensor
    """(M, D, D) root of the covariance of what is new in a state."""
    pace: Tensor
    """(M, 2) standard deviations of the logarithm of the pace: between clips, and inside one."""

    def index(self, name: str) -> int:
        """The number of a class."""
        return self.classes.index(choose(name, self.classes, "class of stand-in motion"))


_TENSORS = tuple(field.name for field in fields(MotionStatistics) if field.type == "Tensor")


def make_statistics(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> MotionStatistics:
    """Statistics from what a fitted file holds: its tensors by name and its metadata."""
    values = {name: tensors[name].float() for name in _TENSORS}
    return MotionStatistics(tuple(json.loads(about["classes"])), float(about["rate_hz"]), about["licence"], **values)


@cache
def load_statistics(path: Path | None = None) -> MotionStatistics:
    """The statistics that come with the package, or those of another fitted file; do not write to them."""
    shipped = resources.files("poseda.data.standin") / "motion_statistics.safetensors"
    with resources.as_file(shipped) as file, safe_open(path or file, framework="pt") as archive:
        return make_statistics({name: archive.get_tensor(name).clone() for name in _TENSORS}, archive.metadata())

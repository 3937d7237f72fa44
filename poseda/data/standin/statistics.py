"""The fitted statistics of motion that stand-ins are drawn from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from safetensors import safe_open
from torch import Tensor

from poseda.errors import choose

COMPONENTS = slice(0, -3)  # of a state; the last three are forward speed, leftward speed (m/s) and turning (rad/s)


@dataclass(frozen=True, eq=False)
class MotionStatistics:
    """C classes of action; a state has D = K + 3 numbers: K of the pose, two speeds, one of turning."""

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
    means: Tensor
    """(C, D) mean state of a class."""
    between: Tensor
    """(C, D, D) root of the covariance between trials."""
    regression: Tensor
    """(C, 2, D, D) how a state follows from the two before it."""
    innovation: Tensor
    """(C, D, D) root of the covariance of what is new in a state."""
    bend: Tensor
    """(E, 2) rad: least and greatest angle between a bone and the one before it."""

    def index(self, name: str) -> int:
        """The number of a class."""
        return self.classes.index(choose(name, self.classes, "class of stand-in motion"))


@cache
def load_statistics() -> MotionStatistics:
    """The statistics that come with the package; do not write to them."""
    path = resources.files("poseda.data.standin") / "motion_statistics.safetensors"
    with resources.as_file(path) as file, safe_open(file, framework="pt") as archive:
        about = archive.metadata()
        names = ("mean", "basis", "means", "between", "regression", "innovation", "bend")
        tensors = {name: archive.get_tensor(name).clone() for name in names}
    return MotionStatistics(tuple(json.loads(about["classes"])), float(about["rate_hz"]), about["licence"], **tensors)

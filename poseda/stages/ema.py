"""EMA: the lifter that is kept is an exponential moving average of the weights that training runs through.

Mean teacher (Tarvainen & Valpola, NeurIPS 2017); in domain adaptation of lifters the average is cheap and large: the
ablation of lifelong adaptation (arXiv 2512.23860) loses 5.9 mm without it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poseda.errors import ConfigError
from poseda.lifters.base import Lifter
from poseda.stages.averaging import follow, warm_decay
from poseda.stages.base import Setting, Stage


@dataclass(frozen=True)
class EMAConfig:
    """Options of the moving average."""

    decay: float = 0.99
    """Share of the old average that each step keeps; early steps keep less, (1 + n) / (10 + n), to forget the start."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(f"ema.decay={self.decay}: must be at least 0 and below 1.")


class EMA(Stage):
    """Average all floating-point weights and buffers (BatchNorm's running statistics included) on the device."""

    Config = EMAConfig
    name = "ema"
    label = "EMA"
    needs_source = False

    def __init__(self, config: EMAConfig | None = None) -> None:
        self.config = config or EMAConfig()
        self.average: dict[str, Tensor] = {}
        self.steps = 0

    def prepare(self, setting: Setting) -> str:
        """Start from the lifter as it is."""
        self.average = {name: value.detach().clone() for name, value in setting.lifter.state_dict().items()}
        self.steps = 0
        return ""

    @torch.no_grad()
    def after_step(self, lifter: Lifter) -> None:
        """average <- decay average + (1 - decay) weights, in one fused call for all tensors."""
        self.steps += 1
        follow(self.average, lifter.state_dict(), warm_decay(self.config.decay, self.steps))

    def finish(self, lifter: Lifter) -> Lifter:
        """A copy of the lifter that carries the average."""
        if not self.steps:
            return lifter
        averaged = copy.deepcopy(lifter)
        averaged.load_state_dict(self.average)
        return averaged

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of steps behind it."""
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved average; `prepare` has said on which device."""
        for name, average in self.average.items():
            average.copy_(state["average"][name])
        self.steps = int(state["steps"])


STAGE = EMA

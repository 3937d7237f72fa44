"""DANN: features that a classifier cannot tell the domain of (Ganin et al., JMLR 2016), by gradient reversal.

A classifier learns source from target on the lifter's latent; a layer between them passes values on and multiplies the
gradient by -lambda, so that the same backward pass teaches the classifier and makes the features harder to tell apart:

    lambda(p) = 2 / (1 + exp(-10 p)) - 1,   p = step / steps                                        (sec. 5.2.2)

Departures: the features come before the output layer; the classifier has its own Adam and one constant rate (the paper:
one SGD for all, and a falling rate), and its logistic loss is averaged over each domain by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poseda.engine.descent import adam
from poseda.errors import ConfigError
from poseda.lifters.base import Lifter
from poseda.lifters.seeding import seeded
from poseda.stages.base import Lesson, Setting, Stage
from poseda.stages.features import feature_size, lesson_features, shares


@dataclass(frozen=True)
class DANNConfig:
    """Options of DANN."""

    weight: float = 0.001
    """What lambda is multiplied by: the lifter's loss is in m², and far smaller than a classifier's."""
    hidden: int = 256
    """Width of the two hidden layers of the domain classifier."""
    lr: float = 1e-3
    """Learning rate of the domain classifier."""

    def __post_init__(self) -> None:
        if not self.weight > 0 or not self.lr > 0:
            raise ConfigError(f"dann.weight={self.weight}, dann.lr={self.lr}: must be above 0.")
        if self.hidden < 1:
            raise ConfigError(f"dann.hidden={self.hidden}: must be 1 or more.")


class _Reversal(torch.autograd.Function):
    """x -> x, gradient -> -scale gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradient, None


def reverse_gradient(values: Tensor, scale: float) -> Tensor:
    """The same values; the gradient that comes back is multiplied by -scale."""
    reversed_: Tensor = _Reversal.apply(values, scale)  # type: ignore[no-untyped-call]
    return reversed_


def reversal_schedule(index: int, steps: int) -> float:
    """lambda in [0, 1) at step `index` of `steps`."""
    return 2 / (1 + math.exp(-10 * index / steps)) - 1


class DANN(Stage):
    """A domain classifier on the features, and its reversed gradient for the lifter."""

    Config = DANNConfig
    name = "dann"
    label = "DANN"
    wants_features = True
    classifier: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, config: DANNConfig | None = None) -> None:
        self.config = config or DANNConfig()

    def prepare(self, setting: Setting) -> str:
        """A fresh classifier."""
        size, hidden = feature_size(setting.lifter, self.name), self.config.hidden
        with seeded(setting.seed):
            classifier = nn.Sequential(
                nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
            )
        self.classifier = classifier.to(next(setting.lifter.parameters()).device)
        self.optimizer = adam(self.classifier.parameters(), self.config.lr)
        return ""

    def lifter_loss(self, lesson: Lesson) -> Tensor:
        """The classifier's loss, 0.69 where it cannot tell; the lifter gets its reversed gradient."""
        source, target = lesson_features(lesson)
        scale = self.config.weight * reversal_schedule(lesson.index, lesson.steps)
        score = self.classifier(reverse_gradient(torch.cat([source, target]), scale)).squeeze(-1)
        here, there = score[: len(source)], score[len(source) :]
        return ((shares(lesson.weight) * F.softplus(-here)).sum() + F.softplus(there).mean()) / 2

    def after_step(self, lifter: Lifter) -> None:
        """The classifier's own step, on the gradient of the lifter's backward pass."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Classifier and its optimiser."""
        return {"classifier": self.classifier.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])


STAGE = DANN

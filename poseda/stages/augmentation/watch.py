"""A watch on adversarial augmentation, which can fail while every loss stays finite."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from poseda.errors import PosedaError

AT_LIMIT = 0.9
"""Share of all proposals at their limits from which nothing can be learned any more: there is no slope there."""
VARIETY = 0.05
"""Spread of proposals over a batch, as a share of the spread that was meant: below it all windows are changed alike."""
SEEN = 0.01
"""Share of generated windows that the camera sees, below which the lifter gets none; told from 100 windows or more."""


class CollapseWatch:
    """Looks at a step's scalars once in `every` steps, the only time that it waits for the device.

    Reads `at_limit`, `variety` and `seen` where they are given; any value that is not finite stops the run too.
    """

    def __init__(self, stage: str, every: int, advice: str) -> None:
        self.stage, self.every, self.advice = stage, every, advice

    def look(self, index: int, scalars: Mapping[str, Tensor], windows: int) -> None:
        """Raise PosedaError, one sentence, where the stage has collapsed by step `index`, of so many windows."""
        if not self.every or (index + 1) % self.every:
            return
        values = dict(zip(scalars, torch.stack([v.float() for v in scalars.values()]).tolist(), strict=True))
        reason = collapse(values, windows)
        if reason:
            raise PosedaError(f"{self.stage} has collapsed at step {index + 1}: {reason}. {self.advice}")


def collapse(values: Mapping[str, float], windows: int) -> str:
    """Why these scalars are those of a collapsed augmentation, "" where they are not."""
    for name, value in values.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    if values.get("at_limit", 0.0) > AT_LIMIT:
        return f"{100 * values['at_limit']:.0f} % of its proposals lie at their limits"
    if values.get("variety", 1.0) < VARIETY:
        return f"all windows are changed alike (variety {values['variety']:.3f} of what was meant)"
    if windows * SEEN >= 1 and values.get("seen", 1.0) < SEEN:
        return f"the camera sees {100 * values['seen']:.1f} % of the people that it makes"
    return ""


def share_at_limit(values: Tensor, limit: Tensor) -> Tensor:
    """Share of values (..., N) beyond 95 % of their limits (N,), of those whose limit is not 0 -> scalar, detached."""
    free = (limit > 0).expand_as(values)
    beyond = (values.detach().abs() > 0.95 * limit) & free
    return beyond.sum() / free.sum().clamp_min(1)

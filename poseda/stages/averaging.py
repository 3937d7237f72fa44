"""Running averages of a lifter's weights, for EMA and the mean teacher."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def warm_decay(decay: float, steps: int) -> float:
    """The share of the old average that step number `steps` (from 1) keeps: less at first, to forget the start."""
    return min(decay, (1 + steps) / (10 + steps))


@torch.no_grad()
def follow(average: Mapping[str, Tensor], now: Mapping[str, Tensor], decay: float) -> None:
    """average <- decay average + (1 - decay) now, in place, in one fused call; whole numbers are taken over."""
    smooth = [name for name, value in now.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[n] for n in smooth], [now[n] for n in smooth], 1 - decay)
    for name, value in now.items():
        if not value.is_floating_point():
            average[name].copy_(value)

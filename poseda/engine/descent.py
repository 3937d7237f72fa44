"""Fitting of a small network: Adam along a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def descend(module: nn.Module, loss: Callable[[int], Tensor], *, steps: int, lr: float) -> None:
    """Move the weights of `module` against loss(step), a scalar: Adam from `lr` to 0, gradients clipped at norm 1.

    They take gradients inside alone, whatever the mode of the caller.
    """
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    module.requires_grad_(True)
    with torch.enable_grad():
        for index in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * index / steps))
            value = loss(index)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
    module.requires_grad_(False)

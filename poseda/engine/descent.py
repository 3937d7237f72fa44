"""Adam for every network here, and the fitting of a small one along a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def adam(parameters: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """Adam of parameters that are all on one device; on a GPU as one kernel, of whose launches a step is made there."""
    given = list(parameters)
    return torch.optim.Adam(given, lr=lr, betas=betas, fused=True if given and given[0].is_cuda else None)


def descend(module: nn.Module, loss: Callable[[int], Tensor], *, steps: int, lr: float) -> None:
    """Move the weights of `module` against loss(step), a scalar: Adam from `lr` to 0, gradients clipped at norm 1.

    They take gradients inside alone, whatever the mode of the caller.
    """
    optimizer = adam(module.parameters(), lr)
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

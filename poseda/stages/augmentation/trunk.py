"""The network that all heads of the generators share, and the noise that they are given."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

NOISE = 48
"""Numbers of noise that each head is given beside the pose (PoseAug: as many as the pose has)."""


def trunk(inputs: int, outputs: int, hidden: int = 256) -> nn.Sequential:
    """PoseAug's: Linear, BatchNorm, LeakyReLU; two blocks of two such layers; Linear. (B, inputs) -> (B, outputs)."""
    layers: list[nn.Module] = []
    for before, after in pairwise([inputs, *[hidden] * 5]):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def normal(rows: int, columns: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """(rows, columns) draws from N(0, 1) on the device of `like`, by a generator there or on the CPU."""
    drawn = torch.randn(rows, columns, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device, non_blocking=True)

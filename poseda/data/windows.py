"""Windows of frames that never cross a sequence."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from poseda.errors import ConfigError, choose

Padding = Literal["edge", "valid"]


def sequence_limits(bounds: Tensor, frames: int | None = None) -> tuple[Tensor, Tensor]:
    """First and last frame of the sequence that each frame belongs to: (S + 1,) -> (F,), (F,) int64.

    Where `frames`, their number F, is given, nothing waits for the device.
    """
    lengths = bounds.diff()
    first, last = (limit.repeat_interleave(lengths, output_size=frames) for limit in (bounds[:-1], bounds[1:] - 1))
    return first, last


def windows_around(centres: Tensor, first: Tensor, last: Tensor, frames: int) -> Tensor:
    """Windows (N, frames) round centres (N,); outside first..last (N,) the edge frame repeats."""
    offsets = torch.arange(frames, device=centres.device) - frames // 2
    wanted = centres.unsqueeze(-1) + offsets
    return wanted.clamp(min=first.unsqueeze(-1)).clamp(max=last.unsqueeze(-1))


def window_index(bounds: Tensor, frames: int, stride: int = 1, centre_padding: Padding = "edge") -> Tensor:
    """Frame numbers of all windows of all sequences: bounds (S + 1,) -> (W, frames) int64.

    A window's centre is its frame `frames // 2`; centres are the frames 0, stride, 2 stride, ... of each
    sequence. centre_padding: "edge" repeats the first and last frame of the sequence where a window reaches
    beyond it; "valid" leaves such windows out (then a sequence shorter than `frames` gives none).
    """
    if frames < 1 or stride < 1:
        raise ConfigError(f"frames={frames}, stride={stride}: windows need whole numbers of at least 1.")
    choose(centre_padding, get_args(Padding), "centre_padding")
    first, last = sequence_limits(bounds)
    centres = torch.arange(len(first), device=bounds.device)
    kept = (centres - first) % stride == 0
    if centre_padding == "valid":
        kept &= (centres - frames // 2 >= first) & (centres - frames // 2 + frames - 1 <= last)
    return windows_around(centres[kept], first[kept], last[kept], frames)

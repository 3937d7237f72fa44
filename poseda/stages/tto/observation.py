"""What is known of the frames before anything moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from poseda.geometry.boxes import box_scale
from poseda.geometry.camera import Camera
from poseda.skeleton import Skeleton

LEAST_NOISE = 0.005
"""Of a person's size in the image: what even exact 2D is taken to be off by, for no lifter fits it better."""
_THIRD = (-1.0, 3.0, -3.0, 1.0)
PERSISTENCE = 0.8
"""Correlation of a detector's error from one frame to the next; 0.7 to 0.9 in data/noise.py's sources."""
_MEDIAN_TO_SD = 0.6745
"""Median of |x| of a standard normal x."""
PER_AXIS = math.sqrt(8 / math.pi)
"""Mean distance of an isotropic Gaussian in 3D over its standard deviation along an axis."""


@dataclass(frozen=True, eq=False)
class Observation:
    """N frames: their first prediction, their 2D, their cameras."""

    pose: Tensor
    """(N, J, 3) mm, root-relative: the first prediction."""
    sigma: Tensor
    """(N, J) mm: its expected error."""
    pixels: Tensor
    """(N, J, 2) px: the 2D."""
    rays: Tensor
    """(N, J, 2) undistorted rays of the same."""
    confidence: Tensor
    """(N, J) in [0, 1], 0 = missing."""
    cameras: Camera
    """(N,)."""
    noise: Tensor
    """(N,) px: standard deviation of the 2D along an axis."""
    clip: Tensor
    """(N,) int64: which frames are of one sequence; its frames lie side by side, in their order."""
    skeleton: Skeleton
    """Joint order."""
    precision: Tensor | None = None
    """(N, J, 3, 3) 1/mm²: inverse covariance of each joint's error where it is known."""
    root: Tensor | None = None
    """(N, 3) mm where the truth is given, else None."""
    bones: Tensor | None = None
    """(N, E) mm: the person's bones where they have been measured, NaN where they could not be, else None."""

    @property
    def clips(self) -> int:
        """Number of sequences."""
        return int(self.clip[-1]) + 1 if len(self.clip) else 0

    def take(self, index: Tensor) -> Observation:
        """Some of the frames, by index or mask; `clip` keeps its numbers."""
        picked: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "skeleton"}
        picked = {name: value if value is None else value[index] for name, value in picked.items()}
        return replace(self, **picked)

    def twice(self, pose: Tensor, sigma: Tensor) -> Observation:
        """The same 2D for poses (2N, J, 3) of two branches, with their sigma (2N, J); each branch has its own clips."""
        both = torch.arange(len(self.pose), device=pose.device).repeat(2)
        clip = torch.cat([self.clip, self.clip + self.clips])
        return replace(self.take(both), pose=pose, sigma=sigma, clip=clip)


def third_difference(values: Tensor, clip: Tensor) -> Tensor:
    """Third difference in time (N, ...) of frames (N, ...), 0 where four frames of one sequence do not follow."""
    if len(values) < 4:
        return torch.zeros_like(values)
    count = len(values) - 3
    bend = sum(factor * values[k : k + count] for k, factor in enumerate(_THIRD))
    inside = (clip[:-3] == clip[3:]).view(-1, *(1,) * (values.ndim - 1))
    return torch.cat([torch.where(inside, bend, 0.0), torch.zeros_like(values[:3])])


def estimate_noise(pixels: Tensor, confidence: Tensor, clip: Tensor) -> Tensor:
    """Standard deviation (N,) px along an axis of the noise on 2D (N, J, 2) px, one number a sequence.

    Motion is smooth and noise is not: the third difference of noise that persists by `PERSISTENCE` from frame to frame
    has 2.7 times its variance, and the median of its size is robust. White noise is overestimated, slower noise
    underestimated; the mean of two axes has a median a tenth above that of one, so all is a tenth too large. Never
    below `LEAST_NOISE` of the person's size, which also serves where no four frames follow.
    """
    visible = confidence > 0
    followed = torch.ones_like(visible)
    for k in range(4):
        followed &= torch.cat([visible[k:], torch.zeros_like(visible[:k])])
    inside = torch.zeros_like(clip, dtype=torch.bool)
    inside[: max(len(clip) - 3, 0)] = clip[: max(len(clip) - 3, 0)] == clip[3:]
    bend = third_difference(pixels, clip).abs().mean(-1)
    rough = bend.masked_fill(~(followed & inside.unsqueeze(-1)), torch.nan)
    size = box_scale(pixels, visible)
    noise, typical = rough.new_zeros(len(clip)), torch.zeros_like(size)
    starts = [0, *((clip[1:] != clip[:-1]).nonzero().flatten() + 1).tolist(), len(clip)]
    for first, end in pairwise(starts):  # a sequence at a time: medians of ragged parts
        noise[first:end], typical[first:end] = rough[first:end].nanmedian(), size[first:end].median()
    lags = ((a, b) for a in range(4) for b in range(4))
    variance = sum(_THIRD[a] * _THIRD[b] * PERSISTENCE ** abs(a - b) for a, b in lags)
    noise = noise.nan_to_num(0.0) / (_MEDIAN_TO_SD * math.sqrt(variance))
    return torch.maximum(noise, LEAST_NOISE * typical).clamp_min(1e-3)

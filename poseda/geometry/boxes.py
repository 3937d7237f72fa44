"""Size of a person in the image."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_BOX = 0.01
"""People smaller than this share of the image width are degenerate: the depth that they ask for tends to infinity."""


def pixel_box(keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the box of the visible joints: (..., J, 2) px, (..., J) bool -> (...), (...) px.

    Both are 0 where no joint is visible.
    """
    hidden = ~visible.unsqueeze(-1)
    low = keypoints.masked_fill(hidden, torch.inf).amin(-2)
    high = keypoints.masked_fill(hidden, -torch.inf).amax(-2)
    width, height = (high - low).clamp_min(0).unbind(-1)
    return width, height


def box_scale(keypoints: Tensor, visible: Tensor) -> Tensor:
    """Size in the image, (width + height) / 2 of pixel_box: (..., J, 2) px, (..., J) bool -> (...) px."""
    width, height = pixel_box(keypoints, visible)
    return (width + height) / 2

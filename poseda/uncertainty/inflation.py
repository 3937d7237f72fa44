"""Wider uncertainties on a target that the lifter fits worse, without a label.

A pose that is right fits its 2D once the root is solved for; what does not fit is error that can be seen. On held-out
people of the source the residual is small beside the error, and its ratio to the error changes little from domain to
domain, while sigma, learnt on the source, hardly moves. So each joint's sigma is multiplied by the ratio of its median
residual on the target to that on the source; never by less than 1. Medians, because a few lost frames should not widen
all others. Errors along the viewing ray leave no residual: what the ratio does for them is by likeness, and measured in
experiments/uncertainty.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.errors import DataError
from poseda.geometry.root import root_from_keypoints
from poseda.uncertainty.base import Lifting

LEAST_RESIDUAL = 0.1
"""mm: residuals below say nothing but rounding and pixel grid."""


@torch.no_grad()
def residuals(seen: Lifting) -> Tensor:
    """Distance (F, J) mm of each joint from its 2D ray, at its own depth, once the root is solved for.

    NaN for missing joints, and for frames whose root cannot be found.
    """
    clips = seen.clips
    rays = clips.cameras[clips.camera_index].unproject(clips.keypoints)
    root, valid = root_from_keypoints(seen.lifted.poses, rays, clips.confidence)
    place = seen.lifted.poses + root.unsqueeze(-2)
    away: Tensor = (place[..., :2] - rays * place[..., 2:]).norm(dim=-1)
    return torch.where(valid.unsqueeze(-1) & clips.visible, away, torch.nan)


def typical_residual(seen: Lifting) -> Tensor:
    """Median residual (J,) mm of each joint, NaN for one that is never seen. DataError where no root is found."""
    found = residuals(seen)
    if not bool(found.isfinite().any()):
        raise DataError(
            f"{seen.clips.provenance.name}: no frame has a root at which its pose fits the 2D, so nothing says how "
            "uncertain it is; check the camera."
        )
    return found.nanmedian(0).values.clamp_min(LEAST_RESIDUAL)


def inflation(seen: Lifting, reference: Tensor) -> Tensor:
    """Factors (J,), at least 1, of sigma on clips whose residuals exceed `reference` (J,) mm, those of the source."""
    return growth(typical_residual(seen), reference)


def growth(typical: Tensor, reference: Tensor) -> Tensor:
    """Factors (J,), at least 1, for median residuals (J,) mm beside those of the source; 1 where one is NaN."""
    return (typical / reference.to(typical)).nan_to_num(1.0).clamp_min(1.0)

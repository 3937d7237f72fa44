"""Detectors' scores as confidences in [0, 1], and which keypoints count as missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poseda.data.detections.found import Floats
from poseda.errors import DataError

OCCLUDED = 0.5
"""Confidence of a keypoint that COCO's flag 1 calls labelled but not visible."""
_TOP = 99.0
_NORMALISED = 2.0
_FARTHEST = 1e6  # px


@dataclass(frozen=True, eq=False)
class Confidences:
    """(N, J) in [0, 1], 0 = missing, and what is to be said about them."""

    values: Floats
    low: int
    """Keypoints left out because their confidence is too low."""
    broken: int
    """Keypoints left out because a number is not finite, or farther away than any image is large."""
    remarks: tuple[str, ...]


def confidences(keypoints: Floats, scores: Floats, least: float) -> Confidences:
    """Scores (N, J) of keypoints (N, J, 2): flags 0, 1, 2 become 0, 0.5, 1; scores in [0, 1] stay.

    Scores above 1 (AlphaPose, heat-map logits) are divided by their 99th percentile where that is above 1, and cut
    at 1. Below `least`, not finite, or a million pixels away is missing.
    """
    with np.errstate(invalid="ignore"):
        finite = (np.abs(keypoints) < _FARTHEST).all(-1) & np.isfinite(scores)
    values = np.where(finite, scores, 0.0).clip(0.0)
    values, remarks = _normalise(values)
    low = finite & ((values < least) | (values == 0))
    return Confidences(np.where(low, 0.0, values), int(low.sum()), int((~finite).sum()), remarks)


def _normalise(values: Floats) -> tuple[Floats, tuple[str, ...]]:
    top = float(values.max(initial=0.0))
    if top == 2.0 and np.isin(values, (0.0, 1.0, 2.0)).all():
        said = f"confidences are COCO's flags: 2 (visible) counts as 1, 1 (occluded) as {OCCLUDED}"
        return np.where(values == 1.0, OCCLUDED, values.clip(0.0, 1.0)), (said,)
    if top <= 1.0:
        return values, ()
    scale = max(1.0, float(np.percentile(values[values > 0], _TOP)))
    said = f"scores reach {top:.3g}: " + (f"divided by {scale:.3g} and " if scale > 1.0 else "") + "cut at 1"
    return np.minimum(values / scale, 1.0), (said,)


def refuse_normalised(keypoints: Floats, confidence: Floats, where: str) -> None:
    """Raise DataError where all keypoints lie within 2 px of the corner: they are no pixels."""
    seen = np.abs(keypoints[confidence > 0])
    if len(seen) and seen.max() <= _NORMALISED:
        raise DataError(f"{where}: all keypoints lie in [-2, 2]; pixels are needed (OpenPose: --keypoint_scale 0).")

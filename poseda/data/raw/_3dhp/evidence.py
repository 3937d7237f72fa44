"""Metric or universal: found by whether the 3D meets the 2D through the known camera, which only metric labels do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from poseda.data.clips import LabelScale
from poseda.data.raw_root import place_by_keypoints
from poseda.data.recordings import Floats
from poseda.errors import DataError
from poseda.geometry.camera import Camera

_SAMPLED_FRAMES = 64
_METRIC_PX = 5.0
"""Rounded calibrations cost 1 or 2 px; labels some per cent too large or small miss joints by tens of px."""
_FITTING_PX = 30.0
"""A universal pose at its best root: a person of other proportions fits to that; permuted or normalised 2D does not."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Frames of one recording, a few of them spread over it."""

    poses: Floats
    """(T, J, 3) mm, camera frame."""
    keypoints: Floats
    """(T, J, 2) px."""
    camera: Camera
    """One camera."""
    root: int
    """Index of the pelvis."""

    @classmethod
    def of(cls, poses: Floats, keypoints: Floats, camera: Camera, root: int) -> Sample:
        """At most 64 frames, evenly spread."""
        frames = np.unique(np.linspace(0, max(len(poses) - 1, 0), _SAMPLED_FRAMES).astype(int))[: len(poses)]
        return cls(poses[frames].astype(np.float64), keypoints[frames].astype(np.float64), camera, root)

    def relative(self) -> bool:
        """Whether the pelvis lies in the origin in all frames."""
        return bool((np.abs(self.poses[:, self.root]) < 1e-3).all())

    def error_px(self) -> float:
        """Median distance in px between projected 3D and 2D; inf where nothing can be compared."""
        return _median_px(self.poses, self.keypoints, self.camera)

    def fitted_px(self) -> float:
        """The same with the root where it fits the 2D best."""
        relative = self.poses - self.poses[:, self.root : self.root + 1]
        try:
            return _median_px(place_by_keypoints(relative, self.keypoints, self.camera), self.keypoints, self.camera)
        except DataError:
            return float("inf")


def _median_px(poses: Floats, keypoints: Floats, camera: Camera) -> float:
    pixels = camera.project(torch.from_numpy(poses)[None])[0].numpy()
    distance = np.linalg.norm(pixels - keypoints, axis=-1)[poses[..., 2] > 0]
    distance = distance[np.isfinite(distance)]
    return float(np.median(distance)) if distance.size else float("inf")


def find_labels(samples: Iterable[Sample], where: str) -> tuple[LabelScale, str]:
    """Metric or universal, and the evidence in words, from absolute camera-frame samples, one a sequence or more.

    The middle sequence decides: one subject may have the universal skeleton's size, and one camera may be uncertain.
    Raises DataError where the 3D does not fit the 2D even with its root moved: units, joints or cameras are others.
    """
    samples = list(samples)
    error = float(np.median([sample.error_px() for sample in samples]))
    if error <= _METRIC_PX:
        return "metric", f"3D meets 2D to {error:.1f} px"
    fitted = float(np.median([sample.fitted_px() for sample in samples]))
    if not fitted <= _FITTING_PX:
        raise DataError(f"{where}: the 3D does not fit the 2D (mm, px, joint order and cameras of 3DHP are expected).")
    return "universal", f"3D misses 2D by {error:.0f} px"


def fits_better(first: Sequence[Sample], second: Sequence[Sample], where: str) -> bool:
    """Whether the first reading of the same recordings fits the 2D better than the second.

    Raises DataError where neither fits, or both fit alike: then nothing tells which is right.
    """
    errors = [float(np.median([sample.fitted_px() for sample in samples])) for samples in (first, second)]
    if min(errors) > _FITTING_PX or 2 * min(errors) > max(errors):
        raise DataError(f"{where}: the 3D fits the 2D neither left side first nor right first; get the files again.")
    return errors[0] < errors[1]

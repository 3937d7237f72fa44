"""How well 2D and 3D agree: residuals in px at a person's box of 400 px, so that noise levels compare."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from poseda.data.doctor.robust import Floats, Ints, group_median, median
from poseda.data.doctor.sample import Sample
from poseda.geometry.camera import Camera

BOX = 400.0
AGREE = 18.0
"""Median residual of a joint that 2D noise can explain, px at a 400 px box: the worst joint of a detector whose
mean error is 10 px stays below 15."""
EXPLAINED = 12.0
"""Mean over joints of the median residual that is left when the fault is found: noise of 10 px leaves 9."""
LARGE = 400.0
"""What a residual counts at most: joints behind the camera and projections far outside."""


def project(points: Floats, cameras: Camera, camera: Ints) -> Floats:
    """(F, J, 3) mm, camera frame, through the camera of each frame -> (F, J, 2) px."""
    seen: NDArray[np.float64] = cameras[torch.from_numpy(camera)].project(torch.from_numpy(points)).numpy()
    return seen


def rays(sample: Sample) -> Floats:
    """(F, J, 2) x/z and y/z of the 2D; NaN where missing."""
    cameras = sample.cameras[torch.from_numpy(sample.camera)]
    found = cameras.unproject(torch.from_numpy(sample.keypoints)).numpy()
    return np.where(sample.visible[..., None], found, np.nan)


def offsets(sample: Sample, poses: Floats | None = None, camera: Ints | None = None) -> Floats:
    """2D minus projected 3D, (F, J, 2) px at a 400 px box: NaN where missing, LARGE where behind the camera.

    `poses` and `camera` take the place of the sample's own.
    """
    points = sample.labels if poses is None else poses
    seen = project(points, sample.cameras, sample.camera if camera is None else camera)
    return _scaled(sample, sample.keypoints - seen, points[..., 2] > 0)


def mapped_offsets(sample: Sample, seen: Floats) -> Floats:
    """2D minus given projections (F, J, 2) px, as `offsets`."""
    return _scaled(sample, sample.keypoints - seen, np.ones_like(sample.visible))


def _scaled(sample: Sample, difference: Floats, front: NDArray[np.bool_]) -> Floats:
    difference = np.clip(difference * (BOX / sample.box())[:, None, None], -LARGE, LARGE)
    difference = np.where(front[..., None] & np.isfinite(difference), difference, LARGE)
    return np.where(sample.visible[..., None], difference, np.nan)


def distances(difference: Floats) -> Floats:
    """(F, J, 2) -> (F, J), at most LARGE."""
    return np.asarray(np.minimum(np.linalg.norm(difference, axis=-1), LARGE))


def misfit(difference: Floats) -> float:
    """Mean over joints of the median residual: (F, J, 2) -> px at a 400 px box; LARGE where there is none."""
    medians = joint_medians(difference)
    return float(np.nanmean(medians)) if np.isfinite(medians).any() else LARGE


def joint_medians(difference: Floats) -> Floats:
    """(F, J, 2) -> (J,), NaN for joints that are never seen."""
    return np.array([median(column) for column in distances(difference).T])


def sequence_misfit(difference: Floats, sample: Sample) -> Floats:
    """(S,) 80 % of the residuals of each sequence's joints: most joints must fit, a frame's outliers do not count."""
    ordered = np.sort(distances(difference), axis=1)  # NaN last
    last = np.maximum(sample.visible.sum(1) - 1, 0)
    high = np.take_along_axis(ordered, (0.8 * last).astype(np.int64)[:, None], 1)[:, 0]
    return group_median(high, sample.sequence, len(sample.lengths))


def size_ratio(sample: Sample) -> Floats:
    """(F,) size of the 3D over the size that the 2D show, the root's place kept; NaN where it cannot be told.

    In rays (x, y) a joint at root + s d has x (Z + s dz) = X + s dx, linear in s. Means over the joints are
    taken off both sides, so that a shift of the whole 2D body does not count.
    """
    ray, points = rays(sample), sample.labels
    root = centre(sample)[:, None]
    away = points - root
    slope = away[..., :2] - ray * away[..., 2:]
    right = ray * root[..., 2:] - root[..., :2]
    slope, right = (part - np.nanmean(part, axis=1, keepdims=True) for part in (slope, right))
    wide = np.nansum(slope * slope, (1, 2))
    factor = np.nansum(slope * right, (1, 2)) / np.where(wide > 0, wide, np.nan)
    return np.asarray(1 / np.where(factor > 0, factor, np.nan))


def centre(sample: Sample) -> Floats:
    """(F, 3) what labels are scaled about: the pelvis, or the middle of the hips."""
    points, joints = sample.labels, sample.skeleton.joints
    if "pelvis" in joints:
        return sample.joint("pelvis", points)
    return np.asarray((sample.joint("lhip", points) + sample.joint("rhip", points)) / 2)


def person_sizes(sample: Sample) -> Floats:
    """(P,) median size ratio of each person; NaN where it cannot be told."""
    front = (sample.labels[..., 2] > 0).all(1) & (sample.visible.sum(1) >= 4)
    ratios = np.full(len(front), np.nan)
    if front.any():
        ratios[front] = size_ratio(sample.take(front))
    return group_median(ratios, sample.person, len(sample.people))

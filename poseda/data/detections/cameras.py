"""The camera that took a video, as far as anybody says: image size, focal length, principal point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from poseda.data.detections.found import Floats, Video
from poseda.data.detections.options import DetectionOptions
from poseda.data.detections.sequences import Pieces
from poseda.errors import ConfigError, DataError
from poseda.geometry.camera import Camera

_MOST_OUTSIDE = 0.25


def video_cameras(videos: Sequence[Video], options: DetectionOptions, where: str) -> tuple[Camera, tuple[str, ...]]:
    """(V,) cameras of the videos, and what was assumed. Raises ConfigError where nobody gives the image's size.

    Without a focal length it is the diagonal sqrt(w² + h²), as in CLIFF (Li et al. 2022): a diagonal field of view
    of 2 atan(1/2) = 53 degrees.
    """
    width, height = np.array([_size(video, options, where) for video in videos]).T.astype(np.float64).copy()
    estimate = np.hypot(width, height)
    fx, fy = (options.focal[0], options.focal[-1]) if options.focal else (torch.from_numpy(estimate),) * 2
    cx, cy = options.centre or (torch.from_numpy(width / 2), torch.from_numpy(height / 2))
    width, height = torch.from_numpy(width), torch.from_numpy(height)
    camera = Camera.create(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)
    return camera, () if options.focal else (_estimated(estimate),)


def _size(video: Video, options: DetectionOptions, where: str) -> tuple[float, float]:
    size = options.width or video.width, options.height or video.height
    if not all(size):
        name = "width" if not size[0] else "height"
        raise ConfigError(f"{where} does not say how large the image is: give {name}= in pixels.")
    return size


def _estimated(focal: Floats) -> str:
    values = sorted({round(value) for value in focal.tolist()})
    said = " and ".join(map(str, values[:3])) + (" ..." if len(values) > 3 else "")
    return f"focal length unknown: taken as the image's diagonal, {said} px (53 degrees across it; focal= says better)"


def refuse_outside(pieces: Pieces, cameras: Camera, where: str) -> None:
    """Raise DataError where over a quarter of the keypoints lies outside the image: its size is wrong."""
    video = np.repeat(pieces.video, np.diff(pieces.bounds))
    width, height = (value.numpy()[video][:, None] for value in (cameras.width, cameras.height))
    x, y = pieces.points[..., 0], pieces.points[..., 1]
    seen = pieces.confidence > 0
    outside = seen & ((x < 0) | (y < 0) | (x > width) | (y > height))
    if outside.sum() > _MOST_OUTSIDE * seen.sum():
        reach = f"{math.ceil(x[seen].max())} x {math.ceil(y[seen].max())}"
        size = f"{cameras.width[0]:g} x {cameras.height[0]:g}"
        share = f"{outside.sum()} of {seen.sum()} keypoints"
        raise DataError(f"{where}: {share} lie outside the image of {size} px and reach {reach}; check width, height.")

"""Absolute camera-frame poses for formats that give root-relative ones: the root is solved for from the 2D."""

from __future__ import annotations

import numpy as np
import torch

from poseda.data.recordings import Floats
from poseda.errors import DataError
from poseda.geometry.camera import Camera
from poseda.geometry.root import root_from_keypoints


def place_by_keypoints(poses: Floats, keypoints: Floats, camera: Camera) -> Floats:
    """Poses (T, J, 3) mm, root-relative in camera axes, with 2D (T, J, 2) px -> absolute poses (T, J, 3) mm.

    The root is the one at which the pose fits its keypoints best (`root_from_keypoints`, in float64). Exact for metric
    labels and true 2D; labels of another scale stand at a depth scaled alike. A frame without a solution gets NaN,
    which preparing drops and counts. Raises DataError where no frame has one.
    """
    pixels = torch.from_numpy(np.asarray(keypoints, dtype=np.float64))
    pose = torch.from_numpy(np.asarray(poses, dtype=np.float64))
    seen = pixels.isfinite().all(-1)
    rays = camera.to(dtype=torch.float64).unproject(torch.where(seen.unsqueeze(-1), pixels, 0.0)[None])[0]
    root, valid = root_from_keypoints(pose, rays, seen.double())
    if len(valid) and not bool(valid.any()):
        raise DataError("no frame's 3D fits its 2D at any depth: joint order, units or camera of the file are others.")
    root = torch.where(valid.unsqueeze(-1), root, torch.nan)
    return (pose + root.unsqueeze(1)).numpy()

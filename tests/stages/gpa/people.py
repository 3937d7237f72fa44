"""People before mixed cameras, seen by a float64 camera of their own, and what the stage makes of them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import brentq, fsolve

from poseda.data.batches import SourceBatch, TargetBatch
from poseda.geometry.camera import Camera
from poseda.stages.gpa import aligned_root

ROOT = 0


def lens(camera, x, y):
    """(x/z, y/z) -> px of one camera, NumPy float64, written from the published models."""
    k1, k2, k3 = camera.radial[0].numpy()
    p1, p2 = camera.tangential[0].numpy()
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    if float(camera.tangential_factor) == 2:  # OpenCV
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
        v = y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
    else:  # Human3.6M
        tangent = p1 * y + p2 * x
        u, v = x * (radial + tangent) + p2 * r2, y * (radial + tangent) + p1 * r2
    return float(camera.fx) * u + float(camera.cx), float(camera.fy) * v + float(camera.cy)


def see(camera, joints):
    """(J, 3) mm -> (J, 2) px of one camera."""
    return np.stack(lens(camera, joints[:, 0] / joints[:, 2], joints[:, 1] / joints[:, 2]), -1)


def side(points):
    """Mean side of the box of points (J, 2)."""
    return np.ptp(points, axis=0).mean()


def ray_of(camera, pixel):
    start = [
        (pixel[0] - float(camera.cx)) / float(camera.fx),
        (pixel[1] - float(camera.cy)) / float(camera.fy),
    ]
    return fsolve(lambda r: np.array(lens(camera, r[0], r[1])) - pixel, start, xtol=1e-13)


def exact_depth(camera, relative, ray, wanted):
    """Depth mm at which a root-relative pose on a ray has a box of the wanted mean side."""
    return brentq(lambda z: side(see(camera, relative + z * ray)) - wanted, 1200, 40_000, xtol=1e-9)


def align(source, keypoints, cameras, **options):
    visible = torch.ones(keypoints.shape[:-1], dtype=torch.bool)
    return aligned_root(source, keypoints, visible, cameras, root=ROOT, **options)


def place(source, keypoints, cameras, iterations=2):
    root, found = align(source, keypoints, cameras, refine_iters=iterations)
    assert bool(found.all())
    return (source - source[:, :1] + root[:, None]).numpy()


def hide(scene, joints, count=12):
    """The first people with some joints missing, as clips store it: visible False, keypoints 0."""
    source, keypoints, cameras = (part[:count] for part in scene)
    visible = torch.ones(count, 17, dtype=torch.bool)
    visible[:, joints] = False
    return source, keypoints.masked_fill(~visible.unsqueeze(-1), 0.0), visible, cameras


def batches(scene, frames=1, dtype=torch.float32):
    """Source windows 5 m away and target windows, with some motion when there are several frames."""
    source, keypoints, cameras = scene
    drift = 20.0 * torch.arange(frames, dtype=torch.float64).view(1, -1, 1, 1)
    poses = source[:, None] + torch.tensor([0.0, 0.0, 5000.0]) + drift * torch.tensor([1.0, 0.3, -0.5])
    cameras = cameras.to(dtype=dtype)
    points = (keypoints[:, None] + 0.1 * drift).to(dtype)
    target = TargetBatch(points, torch.ones(points.shape[:-1], dtype=torch.bool), cameras)
    elsewhere = Camera.create(fx=1000.0, fy=1000.0, cx=512.0, cy=512.0, width=1024.0, height=1024.0, dtype=dtype)
    return SourceBatch(poses.to(dtype), elsewhere.expand(len(poses)), torch.ones(len(poses), dtype=dtype)), target

"""Motion at another frame rate."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from poseda.data.recordings import Floats


def resample(joints: Floats, fps: float, wanted: float) -> Floats:
    """Joints (T, J, 3) at `fps` -> (T', J, 3) at `wanted` frames/s, over the same time, by cubic splines.

    Frames that both rates share stay exact. A single frame stays one.
    """
    frames = len(joints)
    if fps == wanted or frames < 2:
        return joints
    times = np.arange(frames) / fps
    count = int(np.floor(times[-1] * wanted * (1 + 1e-12))) + 1
    spline = CubicSpline(times, joints.astype(np.float64), axis=0)
    return np.asarray(spline(np.arange(count) / wanted), dtype=np.float32)

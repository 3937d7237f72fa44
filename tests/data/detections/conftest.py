"""Known people in the plane, and writers of each detector's exact layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from poseda.skeleton import get_skeleton

Poses = NDArray[np.float64]
Named = dict[str, Poses]

SIZE = {"width": 640, "height": 480}

_STANDING = {
    "head": (0, -95), "nose": (2, -80), "leye": (6, -85), "reye": (-4, -84), "lear": (11, -82), "rear": (-9, -81),
    "thorax": (0, -62), "spine": (0, -31), "pelvis": (1, 1), "lshoulder": (18, -60), "rshoulder": (-17, -58),
    "lelbow": (25, -35), "relbow": (-24, -33), "lwrist": (28, -10), "rwrist": (-29, -8),
    "lhip": (11, 1), "rhip": (-10, 0), "lknee": (13, 42), "rknee": (-12, 41), "lankle": (14, 82), "rankle": (-13, 83),
    "lbigtoe": (17, 90), "rbigtoe": (-16, 91), "lsmalltoe": (20, 89), "rsmalltoe": (-19, 88),
    "lheel": (12, 88), "rheel": (-11, 87),
}  # fmt: skip


@pytest.fixture
def person() -> Callable[..., Named]:
    """A person who walks from (x, y) by `speed` px a frame for `frames` frames: joints by name, (T, 2) px."""

    def make(frames: int = 8, x: float = 200.0, y: float = 200.0, speed: float = 2.0) -> Named:
        time = np.arange(frames)[:, None]
        centre = np.array([x, y]) + time * np.array([speed, 0.25])
        swing = np.sin(time / 3 + np.arange(2))
        return {name: centre + np.array(place) + swing for name, place in _STANDING.items()}

    return make


@pytest.fixture
def joints_of() -> Callable[[Named, str], Poses]:
    """The joints of a named person in the order of a skeleton: (T, J, 2)."""
    return lambda named, skeleton: np.stack([named[joint] for joint in get_skeleton(skeleton).joints], 1)


@pytest.fixture
def h36m() -> Callable[..., Poses]:
    """Human3.6M-17 of a named person, (T, 17, 2), as MMPose makes what `own` does not hold."""

    def make(named: Named, own: tuple[str, ...] = ()) -> Poses:
        made = {
            "pelvis": (named["lhip"] + named["rhip"]) / 2,
            "thorax": (named["lshoulder"] + named["rshoulder"]) / 2,
            "head": (named["leye"] + named["reye"]) / 2,
        }
        made |= {joint: named[joint] for joint in own}
        made["spine"] = made.get("spine", (made["pelvis"] + made["thorax"]) / 2)
        joints = get_skeleton("h36m17").joints
        return np.stack([made.get(joint, named[joint]) for joint in joints], 1)

    return make


def flat(pose: Poses, scores: Poses | float = 0.9) -> list[float]:
    """(J, 2) and scores -> [x, y, c, ...]."""
    scores = np.broadcast_to(scores, len(pose))
    return np.concatenate((pose, scores[:, None]), 1).reshape(-1).tolist()


def coco_entries(poses: Poses, scores: Poses | float = 0.9, first: int = 0, **more: object) -> list[dict[str, object]]:
    """COCO results of one person, (T, J, 2)."""
    return [
        {"image_id": first + t, "category_id": 1, "keypoints": flat(pose, scores), "score": 0.8, **more}
        for t, pose in enumerate(poses)
    ]


def write(path: Path, value: object) -> Path:
    """JSON file of a value."""
    path.write_text(json.dumps(value), encoding="utf-8")
    return path

"""Random people with plausible bodies, and clips of them seen by known cameras."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from poseda.data.clips import LabelledClips, Provenance, Sequence
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import load_rig
from poseda.lifters import create_lifter
from poseda.skeleton import get_skeleton

# bone from the parent joint, mm, camera axes (y down), of a person who stands upright
STANDING = {
    "rhip": (-130, 0, 0), "rknee": (0, 450, 0), "rankle": (0, 440, 0),
    "lhip": (130, 0, 0), "lknee": (0, 450, 0), "lankle": (0, 440, 0),
    "spine": (0, -240, 0), "thorax": (0, -250, 0), "nose": (0, -110, -60), "head": (0, -115, 20),
    "lshoulder": (150, 20, 0), "lelbow": (40, 280, 0), "lwrist": (20, 250, -30),
    "rshoulder": (-150, 20, 0), "relbow": (-40, 280, 0), "rwrist": (-20, 250, -30),
}  # fmt: skip
SKELETON = get_skeleton("h36m17")

RandomPeople = Callable[..., Tensor]
MakeClips = Callable[..., LabelledClips]


def _people(count: int, frames: int, seed: int, bend: float = 0.45, size: float = 1.0) -> np.ndarray:
    """(count, frames, 17, 3) mm, root at 0: bones turned at random and swinging, the body facing anywhere."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[None, :, None]
    joints = np.zeros((count, frames, 17, 3))
    body = Rotation.from_rotvec(rng.uniform(-np.pi, np.pi, (count, 1)) * (0.0, 1.0, 0.0))
    for child, parent in enumerate(SKELETON.parents):
        if parent < 0:
            continue
        still, swing = rng.normal(0, bend, (2, count, 1, 3))
        turns = still + 0.2 * swing * np.sin(0.3 * time)
        turned = Rotation.from_rotvec(turns.reshape(-1, 3)).apply(np.array(STANDING[SKELETON.joints[child]], float))
        bones = np.einsum("nij,ntj->nti", body.as_matrix(), turned.reshape(count, frames, 3))
        joints[:, :, child] = joints[:, :, parent] + size * bones
    return joints


@pytest.fixture(scope="session")
def random_people() -> RandomPeople:
    """Root-relative people (count, 17, 3) float64 mm in camera axes."""

    def make(count: int, seed: int = 0, **options: float) -> Tensor:
        return torch.from_numpy(_people(count, 1, seed, **options)[:, 0])

    return make


@pytest.fixture(scope="session")
def mixed_cameras() -> Callable[[int], Camera]:
    """n float64 cameras in turn: Human3.6M's lens, OpenCV's with distortion (TS5-6), and none (TS1-4)."""
    rigs = [load_rig(name, dtype=torch.float64).cameras for name in ("h36m", "3dhp_ts5-6", "3dhp_ts1-4")]

    def make(count: int) -> Camera:
        return Camera.cat([rigs[i % 3][i % len(rigs[i % 3])] for i in range(count)])

    return make


@pytest.fixture(scope="session")
def straight_camera() -> Camera:
    """One camera without distortion, its principal point in the image's centre."""
    return Camera.create(fx=1145.0, fy=1145.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0)


@pytest.fixture(scope="session")
def make_clips(straight_camera: Camera) -> MakeClips:
    """Clips with exact 2D: sequences of `frames` frames around `place` mm, before the cameras in turn."""

    def make(
        sequences: int = 6,
        frames: int = 12,
        seed: int = 0,
        place: tuple[float, float, float] = (0.0, 0.0, 4500.0),
        spread: float = 300.0,
        cameras: Camera | None = None,
        **options: float,
    ) -> LabelledClips:
        cameras = straight_camera if cameras is None else cameras.to(dtype=torch.float32)
        rng = np.random.default_rng(seed + 1000)
        roots = np.array(place) + rng.uniform(-spread, spread, (sequences, 1, 1, 3))
        poses = torch.from_numpy(_people(sequences, frames, seed, **options) + roots).float()
        used = torch.arange(sequences) % len(cameras)
        return LabelledClips(
            poses=poses.flatten(0, 1),
            keypoints=cameras[used].project(poses).flatten(0, 1),
            confidence=torch.ones(sequences * frames, 17),
            bounds=torch.arange(sequences + 1) * frames,
            sequences=tuple(
                Sequence(f"clip{i}", f"P{i % 3}", f"action{i % 2}", int(used[i])) for i in range(sequences)
            ),
            cameras=cameras,
            skeleton=SKELETON,
            fps=50.0,
            provenance=Provenance("made", "stand-in", "none", "metric", "gt"),
        )

    return make


@pytest.fixture(scope="session")
def tiny_clips(make_clips: MakeClips) -> tuple[LabelledClips, LabelledClips]:
    """A small source, and a small target that stands elsewhere before other cameras."""
    target = make_clips(seed=1, place=(500.0, 0.0, 3500.0), cameras=load_rig("3dhp_test").cameras)
    return make_clips(seed=0), target


@pytest.fixture
def small_lifter():
    """Makes a small SimpleBaseline with the same weights each time."""

    def make(**options: object):
        return create_lifter("simplebaseline", seed=0, **{"hidden": 16, "blocks": 1, **options})

    return make

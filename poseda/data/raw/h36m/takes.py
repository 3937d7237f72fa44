"""What all layouts of Human3.6M share: subjects, splits, cameras, joints, and how cameras see a take in the world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from poseda.data.recordings import Floats, RawOptions, Recording, Split
from poseda.errors import DataError, choose
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import load_rig
from poseda.skeleton import Skeleton, convert_confidence, convert_joints, get_skeleton

FPS = 50.0
CAMERAS = ("54138969", "55011271", "58860488", "60457274")  # the order of the arrays in VideoPose3D's files
SPLITS: dict[str, Split] = {
    **{f"S{number}": "train" for number in (1, 5, 6, 7, 8)},
    **{f"S{number}": "test" for number in (9, 11)},
}
JOINTS_OF_32 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
# Frames at 50/s over four cameras without S11's damaged Directions, as public loaders of these files count them.
EXPECTED = {"train": 1_559_752, "test": 543_344}
_DAMAGED = ("S11", "Directions")
_RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}


class Keypoints(NamedTuple):
    """2D of one take and camera, in the joints of the archive."""

    pixels: Floats
    """(T, J, 2) px."""
    confidence: Floats | None = None
    """(T, J) in [0, 1]; None where the file has none."""


def chosen_cameras(options: RawOptions) -> tuple[str, ...]:
    """The cameras asked for, or all four; ConfigError for a name that is none of them."""
    return tuple(choose(name, CAMERAS, "camera of Human3.6M") for name in options.cameras) or CAMERAS


def expected_frames(options: RawOptions, counts: Mapping[str, int] = EXPECTED) -> Mapping[str, int] | None:
    """`counts` where all cameras and the standard split are taken; else nothing is known."""
    return None if options.cameras or options.test_subjects else counts


def split_of(subject: str, where: Path) -> Split:
    """train or test; DataError for a subject whose cameras are not published."""
    if subject not in SPLITS:
        raise DataError(f"{where}: subject {subject!r} has no published cameras; known: {', '.join(SPLITS)}.")
    return SPLITS[subject]


def in_order(subjects: Sequence[str]) -> list[str]:
    """Subjects of the training split first, then by number; what is unknown last."""
    places = {name: place for place, name in enumerate(SPLITS)}
    return sorted(subjects, key=lambda name: places.get(name, len(places)))


def take_name(name: str) -> str:
    """The take as the field writes it: "TakingPhoto 1" -> "Photo 1"."""
    first, _, rest = name.partition(" ")
    return f"{_RENAMED.get(first, first)} {rest}".rstrip()


def is_damaged(subject: str, take: str) -> bool:
    """S11's Directions: one of its videos is damaged, and everybody leaves all of it out."""
    return (subject, take) == _DAMAGED


@cache
def _rig() -> dict[str, Camera]:
    rig = load_rig("h36m", torch.float64)
    return {name: rig.cameras[number] for number, name in enumerate(rig.camera_names)}


def camera_of(subject: str, camera: str) -> Camera:
    """The published camera (one, float64) of a subject."""
    return _rig()[f"{subject}/{camera}"]


def skeleton_of(joints: int, where: str) -> Skeleton:
    """Joint order of 3D with that many joints: the 32 of the recordings, or what loaders make of them."""
    if joints not in (32, 17, 16):
        raise DataError(f"{where}: has {joints} joints; Human3.6M has 32, reduced files 17 or 16.")
    return get_skeleton("h36m16" if joints == 16 else "h36m17")


def reduce_joints(poses: Floats) -> Floats:
    """(T, 32, 3) -> (T, 17, 3); 17 and 16 joints stay."""
    return poses[:, list(JOINTS_OF_32)] if poses.shape[1] == 32 else poses


def convert(keypoints: Keypoints, source: Skeleton, target: Skeleton) -> Keypoints:
    """The same keypoints in another joint set, by names; a made joint is as sure as its least sure part."""
    if source == target:
        return keypoints
    pixels = convert_joints(torch.from_numpy(np.ascontiguousarray(keypoints.pixels)), source, target).numpy()
    if keypoints.confidence is None:
        return Keypoints(pixels)
    confidence = torch.from_numpy(np.ascontiguousarray(keypoints.confidence))
    return Keypoints(pixels, convert_confidence(confidence, source, target).numpy())


def cut_to(array: Floats, frames: int, where: str) -> Floats:
    """The first `frames` frames of 2D (T, J, D): videos run on after the motion capture ends.

    Raises DataError where there are fewer.
    """
    if len(array) < frames:
        raise DataError(f"{where}: has {len(array)} frames of 2D for {frames} of 3D; the files do not belong together.")
    return array[:frames]


def see(
    subject: str,
    take: str,
    world: Floats,
    skeleton: Skeleton,
    target: Skeleton,
    cameras: Sequence[str],
    keypoints: Mapping[str, Keypoints] | None,
) -> Iterator[Recording]:
    """One recording a camera of a take in the world (T, J, 3) mm, in `target`'s joints.

    2D is projected, lens distortion included, where none is given.
    """
    points = convert_joints(torch.from_numpy(np.asarray(world, dtype=np.float64)), skeleton, target)[None]
    for name in cameras:
        camera = camera_of(subject, name)
        poses = camera.world_to_camera(points)
        seen = Keypoints(camera.project(poses)[0].float().numpy()) if keypoints is None else keypoints[name]
        yield Recording(
            name=f"{subject}/{take}/{name}",
            subject=subject,
            action=take.split(" ")[0],
            camera=camera,
            fps=FPS,
            keypoints=seen.pixels.astype(np.float32, copy=False),
            poses=poses[0].float().numpy(),
            confidence=seen.confidence,
        )

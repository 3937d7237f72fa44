"""VideoPose3D's npz files: 3D in the world, and 2D of any detector; HumanEva comes in the same layout.

positions_3d is a 0-d object array of {subject: {take: (T, J, 3) metres}}, positions_2d one of {subject: {take: list of
(T, J, 2 or 3) px, one a camera}}, metadata one of {num_joints, keypoints_symmetry: [left, right], layout_name}.
Layout: VideoPose3D, DATASETS.md and data/prepare_data_*.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from poseda.data.raw.h36m.takes import Keypoints, convert, cut_to
from poseda.data.recordings import Floats
from poseda.errors import DataError, MissingDataError
from poseda.files.checks import a_dict, a_list, a_number, an_array
from poseda.files.npz import open_npz
from poseda.skeleton import Skeleton, get_skeleton

Takes = dict[str, dict[str, Any]]

HOURGLASS16 = Skeleton(
    "hourglass16",
    ("rankle", "rknee", "rhip", "lhip", "lknee", "lankle", "pelvis", "spine", "thorax", "head", "rwrist", "relbow",
     "rshoulder", "lshoulder", "lelbow", "lwrist"),
    (1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 8, 8, 13, 14),
)  # fmt: skip
"""Joints of Stacked Hourglass (MPII's), named as 3d-pose-baseline names them."""

_ORDERS = (*(get_skeleton(name) for name in ("h36m17", "h36m16", "coco17", "humaneva15")), HOURGLASS16)


@dataclass(frozen=True)
class Detections:
    """A file of 2D keypoints; its arrays are read when they are first asked for."""

    path: Path
    name: str
    """gt, or the detector's name."""
    skeleton: Skeleton
    """Joint order of the file."""
    takes: Callable[[], Takes]

    def keypoints(self, subject: str, take: str, camera: int, cameras: int, frames: int, target: Skeleton) -> Keypoints:
        """2D in `target`'s joints of the first `frames` frames of a take, by camera number `camera` of `cameras`."""
        where = f"{self.path}: positions_2d['{subject}']['{take}']"
        arrays = a_list(lookup(self.takes(), subject, take, f"{self.path}: positions_2d"), where)
        if len(arrays) != cameras:
            raise DataError(f"{where}: has {len(arrays)} cameras; expected {cameras}.")
        where = f"{where}[{camera}]"
        array = an_array(arrays[camera], where, (None, self.skeleton.num_joints, None))
        if array.shape[-1] not in (2, 3):
            raise DataError(f"{where}: has {array.shape[-1]} numbers a joint; expected x, y and perhaps a confidence.")
        array = cut_to(array, frames, where).astype(np.float32)
        confidence = array[..., 2] if array.shape[-1] == 3 else None
        return convert(Keypoints(array[..., :2], confidence), self.skeleton, target)


def lazy_takes(path: Path, key: str) -> Callable[[], Takes]:
    """A function that reads {subject: {take: value}} when it is first called, once for all who share it."""

    @cache
    def takes() -> Takes:
        with open_npz(path) as npz:
            if key not in npz:
                raise DataError(f"{path}: has no '{key}'; it is not a file of VideoPose3D's layout.")
            subjects = a_dict(npz.objects(key), f"{path}: {key}")
        return {str(name): a_dict(value, f"{path}: {key}['{name}']") for name, value in subjects.items()}

    return takes


def lookup(takes: Takes, subject: str, take: str, where: str) -> Any:
    """The entry of a take; DataError that names what is not there."""
    if subject not in takes:
        raise DataError(f"{where}: has no subject '{subject}', which the 3D has; the files do not belong together.")
    if take not in takes[subject]:
        raise DataError(f"{where}['{subject}']: has no '{take}', which the 3D has; the files do not belong together.")
    return takes[subject][take]


def world_poses(value: object, where: str) -> Floats:
    """(T, J, 3) metres in the world -> float64 mm."""
    metres = an_array(value, where, (None, None, 3))
    return metres.astype(np.float64) * 1000.0


def open_detections(path: Path, prefix: str) -> Detections:
    """A file of 2D; its joint order is that of its metadata. Raises DataError where that is none known."""
    with open_npz(path) as npz:
        if "positions_2d" not in npz or "metadata" not in npz:
            raise DataError(f"{path}: needs 'positions_2d' and 'metadata'; has {', '.join(npz.keys)[:200]}.")
        metadata = a_dict(npz.objects("metadata"), f"{path}: metadata")
    name = path.stem.removeprefix(prefix)
    return Detections(path, name, _joint_order(metadata, path), lazy_takes(path, "positions_2d"))


def _joint_order(metadata: dict[Any, Any], path: Path) -> Skeleton:
    """The joint set with the left and right joints that the metadata states: no two known sets share them."""
    where = f"{path}: metadata['keypoints_symmetry']"
    sides = a_list(metadata.get("keypoints_symmetry"), where)
    if len(sides) != 2:
        raise DataError(f"{where}: expected the left and the right joints.")
    left, right = (_numbers(side, where) for side in sides)
    count = a_number(metadata.get("num_joints"), f"{path}: metadata['num_joints']")
    for skeleton in _ORDERS:
        if (count, left, right) == (skeleton.num_joints, set(skeleton.left), set(skeleton.right)):
            return skeleton
    known = ", ".join(skeleton.name for skeleton in _ORDERS)
    raise DataError(f"{path}: metadata: {count:g} joints with left {sorted(left)} are no known order ({known}).")


def _numbers(side: object, where: str) -> set[int]:
    values = side.tolist() if isinstance(side, np.ndarray) else a_list(side, where)
    if not all(isinstance(value, int | np.integer) for value in values):
        raise DataError(f"{where}: joints must be whole numbers.")
    return {int(value) for value in values}


def find_detections(folder: Path, prefix: str, keypoints: str) -> Path | None:
    """The file of the 2D asked for: a path, or a detector's name; None where gt is asked for and no file has it.

    Raises MissingDataError that lists the detections that are there.
    """
    if keypoints.endswith(".npz") or "/" in keypoints:
        if not Path(keypoints).is_file():
            raise MissingDataError(f"keypoints={keypoints}: there is no such file.")
        return Path(keypoints)
    path = folder / f"{prefix}{keypoints or 'gt'}.npz"
    if path.is_file():
        return path
    if keypoints in ("", "gt"):
        return None
    there = _names(folder.glob(f"{prefix}*.npz"), prefix)
    raise MissingDataError(f"{path}: there is no such file; 2D in this folder: {', '.join(there) or 'none'}.")


def _names(paths: Iterable[Path], prefix: str) -> list[str]:
    return sorted(path.stem.removeprefix(prefix) for path in paths)

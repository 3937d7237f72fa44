"""Human3.6M as folders: 3d-pose-baseline's h5 files, and the data set's own CDF files (or their .mat conversion).

S1/MyPoses/3D_positions/Directions 1.h5                      3D_positions (96, T) mm, world
S1/StackedHourglass/Directions_1.54138969.h5                 poses (T, 16, 2) px, MPII joints
S1/MyPoseFeatures/D3_Positions/Directions 1.cdf[.mat]        Pose (1, T, 96) mm, world
S1/MyPoseFeatures/D2_Positions/Directions 1.54138969.cdf     Pose (1, T, 64) px
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from poseda.data.raw.h36m.takes import (
    FPS,
    JOINTS_OF_32,
    Keypoints,
    chosen_cameras,
    convert,
    cut_to,
    expected_frames,
    in_order,
    is_damaged,
    see,
    split_of,
    take_name,
)
from poseda.data.raw.h36m.videopose3d import HOURGLASS16
from poseda.data.recordings import Floats, RawDataset, RawOptions, Recording, Unit
from poseda.errors import DataError, MissingDataError, choose
from poseda.files.cdf import load_cdf
from poseda.files.checks import an_array
from poseda.files.hdf5 import open_hdf5
from poseda.files.matlab import load_mat
from poseda.skeleton import Skeleton, get_skeleton

BASELINE = "MyPoses/3D_positions"
RAW = "MyPoseFeatures/D3_Positions"
_RAW_2D = "MyPoseFeatures/D2_Positions"
_HOURGLASS = {"sh": "StackedHourglass", "sh_ft": "StackedHourglassFineTuned240"}
_ENDINGS = (".cdf.mat", ".cdf", ".h5")


def open_baseline(folder: Path, options: RawOptions, licence: str) -> RawDataset:
    """The h5 files of 3d-pose-baseline: 2D is projected, or Stacked Hourglass where the options say sh or sh_ft."""
    detector = choose(options.keypoints or "gt", ("gt", *_HOURGLASS), "2D in 3d-pose-baseline's files")
    sources = {}
    for subject, take, path in _takes(folder, BASELINE):
        sources[subject, take] = path, _hourglass(folder, subject, path, detector, chosen_cameras(options))
    said = "2D projected through the published cameras" if detector == "gt" else f"2D of {_HOURGLASS[detector]}"
    return _dataset(sources, options, licence, detector, f"Human3.6M, 3d-pose-baseline h5 (mm, world; {said})")


def open_features(folder: Path, options: RawOptions, licence: str) -> RawDataset:
    """The CDF files of the data set: its own 2D where D2_Positions is there, else projected."""
    choose(options.keypoints or "gt", ("gt",), "2D in Human3.6M's CDF files")
    sources, cameras = {}, chosen_cameras(options)
    given = any(folder.glob(f"S*/{_RAW_2D}/*.cdf*"))
    for subject, take, path in _takes(folder, RAW):
        files = {name: folder / subject / _RAW_2D / f"{_stem(path)}.{name}{_ending(path)}" for name in cameras}
        sources[subject, take] = path, files if given else {}
    said = "2D of D2_Positions" if given else "2D projected through the published cameras"
    return _dataset(sources, options, licence, "gt", f"Human3.6M, pose features in CDF (mm, world; {said})")


def _takes(folder: Path, inside: str) -> Iterator[tuple[str, str, Path]]:
    """Subject, take and 3D file of everything in the folder, by subject and name."""
    subjects = [path.parent.parent.name for path in folder.glob(f"S*/{inside}")]
    for subject in in_order(subjects):
        for path in sorted((folder / subject / inside).iterdir()):
            take = take_name(_stem(path))
            if _ending(path) and not is_damaged(subject, take):
                yield subject, take, path


def _ending(path: Path) -> str:
    return next((ending for ending in _ENDINGS if path.name.endswith(ending)), "")


def _stem(path: Path) -> str:
    return path.name.removesuffix(_ending(path))


def _hourglass(folder: Path, subject: str, path: Path, detector: str, cameras: tuple[str, ...]) -> dict[str, Path]:
    """Camera -> file of detections of a take; {} for gt."""
    if detector == "gt":
        return {}
    inside = folder / subject / _HOURGLASS[detector]
    if not inside.is_dir():
        raise MissingDataError(f"{inside}: there is no such folder; keypoints={detector} needs it.")
    return {name: inside / f"{_stem(path).replace(' ', '_')}.{name}.h5" for name in cameras}


def _dataset(
    sources: Mapping[tuple[str, str], tuple[Path, dict[str, Path]]],
    options: RawOptions,
    licence: str,
    detector: str,
    recognised: str,
) -> RawDataset:
    target = get_skeleton("h36m17" if detector == "gt" else "h36m16")
    cameras = chosen_cameras(options)
    for path in (file for _, files in sources.values() for file in files.values()):
        if not path.is_file():
            raise MissingDataError(f"{path}: there is no such file, but there is 3D for it; the 2D is incomplete.")
    units = [
        Unit(
            name=f"{subject}/{take}",
            split=split_of(subject, path),
            files=(path, *files.values()),
            read=partial(_read, subject, take, path, files, target, cameras),
        )
        for (subject, take), (path, files) in sources.items()
    ]
    return RawDataset(
        name="h36m",
        recognised=recognised,
        skeleton=target,
        fps=FPS,
        licence=licence,
        label_scale="metric",
        keypoints=detector,
        units=tuple(units),
        notes="" if target.name == "h36m17" else "16 joints: Stacked Hourglass (MPII) has no nose.",
        expected=expected_frames(options),
    )


def _read(
    subject: str, take: str, path: Path, files: Mapping[str, Path], target: Skeleton, cameras: tuple[str, ...]
) -> Iterator[Recording]:
    world = load_world(path)[:, list(JOINTS_OF_32)]
    keypoints = {name: _load_2d(file, len(world), target) for name, file in files.items()} or None
    yield from see(subject, take, world, get_skeleton("h36m17"), target, cameras, keypoints)


def load_world(path: Path) -> Floats:
    """All 32 joints of a 3D file: (T, 32, 3) mm, world."""
    if path.suffix == ".h5":
        with open_hdf5(path) as file:
            if "3D_positions" not in file:
                raise DataError(f"{path}: has no '3D_positions'; it is not a file of 3d-pose-baseline.")
            stored = an_array(file.array("3D_positions"), f"{path}: 3D_positions", (96, None))
        return stored.reshape(32, 3, -1).transpose(2, 0, 1)
    return _pose(path, 96).reshape(-1, 32, 3)


def _load_2d(path: Path, frames: int, target: Skeleton) -> Keypoints:
    if path.suffix == ".h5":
        with open_hdf5(path) as file:
            if "poses" not in file:
                raise DataError(f"{path}: has no 'poses'; it is not a file of Stacked Hourglass detections.")
            pixels = an_array(file.array("poses"), f"{path}: poses", (None, 16, 2))
        return convert(Keypoints(cut_to(pixels, frames, f"{path}: poses").astype(np.float32)), HOURGLASS16, target)
    pixels = cut_to(_pose(path, 64), frames, f"{path}: Pose").reshape(-1, 32, 2)
    return Keypoints(pixels[:, list(JOINTS_OF_32)].astype(np.float32))


def _pose(path: Path, numbers: int) -> Floats:
    """(T, numbers) of a CDF file's Pose (1, T, numbers), or of the cell `data` of its .mat conversion."""
    if path.suffix == ".mat":
        cell = load_mat(path, ["data"]).get("data")
        if not isinstance(cell, np.ndarray) or cell.dtype != object or cell.size != 1:
            raise DataError(f"{path}: 'data' is not a cell with one array; give the CDF file itself.")
        return an_array(cell.reshape(-1)[0], f"{path}: data", (None, numbers))
    pose = load_cdf(path, "Pose")
    return an_array(pose[0] if pose.ndim == 3 and len(pose) == 1 else pose, f"{path}: Pose", (None, numbers))

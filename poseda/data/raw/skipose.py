"""Ski-PosePTZ: six pan-tilt-zoom cameras around alpine skiers, labels in train/labels.h5 and test/labels.h5.

One row an image: seq, cam, frame, subj (N,); 3D (N, 51) and 2D (N, 34) of 17 joints in Human3.6M's order;
cam_intrinsic (N, 9), cam_position (N, 3) and R_cam_2_world (N, 9). 3D is in metres along the camera's axes and
relative to the pelvis; 2D and intrinsics are in units of the image's side, 256 px (public loaders of these files
agree on all of this). Intrinsics change from frame to frame, as the camera pans and zooms and the image is cut to the
skier.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from poseda.data.raw_root import place_by_keypoints
from poseda.data.recordings import Floats, RawDataset, RawOptions, Recording, Unit
from poseda.errors import DataError, MissingDataError, choose
from poseda.files.checks import an_array
from poseda.files.hdf5 import Hdf5, open_hdf5
from poseda.geometry.camera import Camera
from poseda.skeleton import get_skeleton

TITLE = "Ski-PosePTZ"
SITE = "www.epfl.ch/labs/cvlab/data/ski-poseptz-dataset"
LAYOUTS = ("train/labels.h5 and test/labels.h5 (Ski-PosePTZ-CameraDataset)",)
USES = ("cameras",)

FPS = 30.0
_SIDE = 256.0
_CAMERAS = ("0", "1", "2", "3", "4", "5")
_FIELDS = {"seq": 1, "cam": 1, "frame": 1, "subj": 1, "3D": 51, "2D": 34, "cam_intrinsic": 9}
_NOTES = (
    "Intrinsics change with every frame: 2D is re-projected along its own rays into one pinhole camera a sequence "
    "(median focal length, centre of the 256 px image), which is exact. 3D is relative to the pelvis: the root is the "
    "one at which the pose fits its 2D. Frame rate: 30/s is assumed, for the files state none."
)


def open_raw(raw: Path, options: RawOptions) -> RawDataset:
    """Ski-PosePTZ in the folder that holds train/ and test/ (or one of these, or labels.h5 itself), h36m17.

    Cameras are named by their numbers, 0 to 5. Raises MissingDataError without labels.h5, DataError where fields are
    missing or have other shapes, ConfigError for another camera.
    """
    found = _labels(raw)
    cameras = tuple(choose(name, _CAMERAS, f"camera of {TITLE}") for name in options.cameras) or _CAMERAS
    units = [
        Unit(
            name=split,
            split="test" if split == "test" else "train",
            files=(path,),
            read=partial(_read, path, cameras),
        )
        for split, path in found.items()
    ]
    return RawDataset(
        name="skipose",
        recognised=f"{TITLE}, labels.h5 of {' and '.join(found)} (root-relative metres in camera axes)",
        skeleton=get_skeleton("h36m17"),
        fps=FPS,
        licence=f"{TITLE}: research only, no redistribution; terms at {SITE}.",
        label_scale="metric",
        keypoints="gt",
        units=tuple(units),
        notes=_NOTES,
    )


def _labels(raw: Path) -> dict[str, Path]:
    """train and test -> file; a file alone is what the folder that it lies in is called."""
    if raw.is_file():
        return {raw.resolve().parent.name if raw.resolve().parent.name in ("train", "test") else "test": raw}
    for folder in (raw, raw / "Ski-PosePTZ-CameraDataset-png"):
        found = {split: folder / split / "labels.h5" for split in ("train", "test")}
        if there := {split: path for split, path in found.items() if path.is_file()}:
            return there
    if (raw / "labels.h5").is_file():
        return _labels(raw / "labels.h5")
    raise MissingDataError(f"{raw}: holds no {TITLE}; looked for train/labels.h5 and test/labels.h5.")


def _read(path: Path, cameras: tuple[str, ...]) -> Iterator[Recording]:
    with open_hdf5(path) as file:
        rows = {name: _field(file, path, name) for name in _FIELDS}
    for name, values in rows.items():
        if len(values) != len(rows["seq"]):
            raise DataError(f"{path}: {name} has {len(values)} rows, seq {len(rows['seq'])}.")
    numbers = {name: _whole(rows[name], f"{path}: {name}") for name in ("subj", "seq", "cam", "frame")}
    order = np.lexsort([numbers[name] for name in ("frame", "cam", "seq", "subj")])
    keys = np.stack([numbers[name][order] for name in ("subj", "seq", "cam", "frame")], -1)
    cuts = np.flatnonzero((np.diff(keys[:, :3], axis=0) != 0).any(-1) | (np.diff(keys[:, 3]) != 1)) + 1
    for piece in np.split(np.arange(len(order)), cuts):
        subject, seq, cam, frame = keys[piece[0]].tolist()
        if str(cam) in cameras:
            some = {name: values[order[piece]] for name, values in rows.items()}
            name = f"seq{seq:03d}/cam{cam:02d}/frame{frame:06d}"
            yield _recording(some, name, f"skier{subject}", f"{path}: seq {seq}, cam {cam}")


def _field(file: Hdf5, path: Path, name: str) -> Floats:
    """(N, numbers) of one field; MATLAB and Python store single numbers and matrices in more than one shape."""
    if name not in file:
        raise DataError(f"{path}: has no '{name}'; it is not {TITLE}'s labels.h5 (it needs {', '.join(_FIELDS)}).")
    stored = file.array(name)
    rows = len(stored) if stored.ndim else 0
    if rows == 0 or stored.size != rows * _FIELDS[name]:
        raise DataError(f"{path}: {name} has shape {stored.shape}; expected {_FIELDS[name]} numbers a row.")
    return an_array(stored.reshape(rows, -1), f"{path}: {name}", (None, _FIELDS[name])).astype(np.float64)


def _whole(values: Floats, where: str) -> NDArray[np.int64]:
    numbers = values[:, 0]
    if not (np.isfinite(numbers) & (numbers == np.round(numbers))).all():
        raise DataError(f"{where}: must be whole numbers.")
    return numbers.astype(np.int64)


def _recording(rows: dict[str, Floats], name: str, subject: str, where: str) -> Recording:
    """Consecutive frames of one camera; intrinsics of each are taken out, and those of one pinhole put in."""
    intrinsics = rows["cam_intrinsic"].reshape(-1, 3, 3)
    focal = intrinsics[:, [0, 1], [0, 1]]
    if not (focal > 0).all() or (intrinsics[:, 2] != (0, 0, 1)).any():
        raise DataError(f"{where}: cam_intrinsic is not a matrix with focal lengths and 0 0 1 in its last row.")
    f = float(np.median(focal)) * _SIDE
    keypoints = _rays(rows["2D"].reshape(-1, 17, 2), intrinsics) * f + _SIDE / 2
    camera = Camera.create(fx=f, fy=f, cx=_SIDE / 2, cy=_SIDE / 2, width=_SIDE, height=_SIDE)
    poses = place_by_keypoints(rows["3D"].reshape(-1, 17, 3) * 1000.0, keypoints, camera)
    return Recording(
        name=name, subject=subject, action="Skiing", camera=camera, fps=FPS, keypoints=keypoints, poses=poses
    )


def _rays(keypoints: Floats, intrinsics: Floats) -> Floats:
    """x/z, y/z (T, J, 2) of keypoints under the intrinsics (T, 3, 3) of their own frames, skew included."""
    y = (keypoints[..., 1] - intrinsics[:, 1, 2, None]) / intrinsics[:, 1, 1, None]
    x = (keypoints[..., 0] - intrinsics[:, 0, 2, None] - intrinsics[:, 0, 1, None] * y) / intrinsics[:, 0, 0, None]
    return np.stack([x, y], -1)

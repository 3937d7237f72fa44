"""The data set as it is published: annot.mat of the training set, annot_data.mat of the test set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from poseda.data.raw._3dhp import facts
from poseda.data.raw._3dhp.calibration import read_calibration
from poseda.data.recordings import Floats, RawDataset, RawOptions, Recording, Unit
from poseda.errors import ConfigError, DataError
from poseda.files.checks import an_array
from poseda.files.hdf5 import open_hdf5
from poseda.files.matlab import is_hdf5, load_mat
from poseda.skeleton import Skeleton, get_skeleton

_KEYS = {"metric": "annot3", "universal": "univ_annot3"}


def find_annotations(raw: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Training ("S1 Seq1") and test ("TS1") annotations in `raw` or one folder below. Raises DataError for doubles."""
    train = _found(raw, "S[1-8]/Seq[12]/annot.mat", r"(S\d)/(Seq\d)/annot\.mat$")
    return train, _found(raw, "TS[1-6]/annot_data.mat", r"(TS\d)/annot_data\.mat$")


def _found(raw: Path, pattern: str, name: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted([*raw.glob(pattern), *raw.glob(f"*/{pattern}")]):
        match = re.search(name, path.as_posix())
        key = " ".join(match.groups()) if match else ""
        if key in found:
            raise DataError(f"{raw}: {key} is there twice, {found[key]} and {path}; name the folder of one.")
        found[key] = path
    return found


def open_official(train: dict[str, Path], test: dict[str, Path], options: RawOptions) -> RawDataset:
    """Published annotations: 28 joints, or the 17 that the test set has where it is there too.

    Raises ConfigError for cameras that 3DHP does not have and for detections.
    """
    facts.refuse_detections(options)
    cameras = facts.chosen_cameras(options, facts.ALL_CAMERAS)
    if not train:
        facts.refuse_cameras(options)
    skeleton = get_skeleton("3dhp17" if test else "3dhp28")
    units = [_train_unit(name, path, options, cameras, skeleton) for name, path in train.items()]
    units += [Unit(name, "test", (path,), partial(_read_test, name, path, options)) for name, path in test.items()]
    sets = ["training set, MATLAB annotations"] * bool(train) + ["test set, HDF5 annotations"] * bool(test)
    return RawDataset(
        name="3dhp",
        recognised=f"{facts.TITLE} {' and '.join(sets)}: {facts.called(options.labels)}",
        skeleton=skeleton,
        fps=facts.FPS,
        licence=facts.LICENCE,
        label_scale=options.labels,
        keypoints="gt",
        units=tuple(units),
        notes=_notes(train, test, options),
        expected=facts.expected_frames(len(cameras) if train else 0, bool(test)),
    )


def _notes(train: dict[str, Path], test: dict[str, Path], options: RawOptions) -> str:
    bare = [name for name, path in train.items() if not _calibration(path).is_file()]
    notes = [facts.UNIVERSAL_NOTE] * (options.labels == "universal") + [facts.TEST_NOTE] * bool(test)
    if bare:
        notes.append(f"No camera.calibration beside {', '.join(bare)}. {facts.RIG_NOTE}")
    if train and test:
        notes.append("17 of the 28 training joints: those of the test set.")
    return " ".join(notes)


def _calibration(annotations: Path) -> Path:
    return annotations.with_name("camera.calibration")


def _train_unit(name: str, path: Path, options: RawOptions, cameras: tuple[str, ...], skeleton: Skeleton) -> Unit:
    calibration = _calibration(path)
    files = (path, calibration) if calibration.is_file() else (path,)
    return Unit(name.replace(" ", "/"), "train", files, partial(_read_train, name, files, options, cameras, skeleton))


def _read_train(
    name: str, files: tuple[Path, ...], options: RawOptions, names: tuple[str, ...], skeleton: Skeleton
) -> Iterator[Recording]:
    """Recordings of one sequence: annot2 and (univ_)annot3 are 14x1 cells of (F, 56) px and (F, 84) mm by camera."""
    path, key = files[0], _KEYS[options.labels]
    cameras = read_calibration(files[1]) if len(files) > 1 else {camera: facts.train_camera(camera) for camera in names}
    cells = load_mat(path, ("annot2", key))
    joints = [get_skeleton("3dhp28").index(joint) for joint in skeleton.joints]
    frames, fps = facts.TRAIN_FRAMES[name]
    for camera in names:
        if camera not in cameras:
            raise DataError(f"{files[-1]}: has no camera {camera}; the file is incomplete.")
        keypoints = _cell(cells, "annot2", camera, 2, path)[:frames, joints]
        poses = _cell(cells, key, camera, 3, path)[:frames, joints]
        if len(keypoints) != len(poses):
            raise DataError(f"{path}: camera {camera} has {len(keypoints)} 2D and {len(poses)} 3D frames.")
        unit, subject = name.replace(" ", "/"), name.split()[0]
        yield Recording(f"{unit}/{camera}", subject, name.split()[1], cameras[camera], fps, keypoints, poses)


def _cell(cells: dict[str, Any], key: str, camera: str, dims: int, path: Path) -> Floats:
    """(F, 28, dims) of one camera."""
    if key not in cells:
        raise DataError(f"{path}: has no '{key}'; it is not an annotation file of the training set.")
    cell = cells[key]
    if not isinstance(cell, np.ndarray) or cell.dtype != object or cell.size != len(facts.ALL_CAMERAS):
        raise DataError(f"{path}: key {key}: expected a cell array of 14 cameras.")
    values = an_array(cell.ravel()[int(camera)], f"{path}: key {key}, camera {camera}", (None, 28 * dims))
    if not len(values):
        raise ConfigError(f"{path}: key {key} has no frames of camera {camera}; choose others with cameras=[...].")
    return values.reshape(-1, 28, dims)


def _read_test(name: str, path: Path, options: RawOptions) -> Iterator[Recording]:
    """The recording of one test sequence: 17 joints, valid_frame says which frames count."""
    key = _KEYS[options.labels]
    arrays = _test_arrays(path, ("annot2", key, "valid_frame"))
    keypoints, poses = (frames_first(arrays[k], dims, f"{path}: key {k}") for k, dims in (("annot2", 2), (key, 3)))
    valid = arrays["valid_frame"].ravel()
    if not len(keypoints) == len(poses) == len(valid):
        counts = f"{len(keypoints)} 2D, {len(poses)} 3D and {len(valid)} valid_frame entries"
        raise DataError(f"{path}: has {counts}; the file is incomplete.")
    yield Recording(name, name, "", facts.test_camera(name), facts.FPS, keypoints, poses, scored=valid != 0)


def _test_arrays(path: Path, keys: tuple[str, ...]) -> dict[str, Floats]:
    """As stored; also from a copy that was saved in MATLAB's older format."""
    if is_hdf5(path):
        with open_hdf5(path) as file:
            return {key: file.array(key) for key in keys}
    arrays = load_mat(path, keys)
    for key in keys:
        if key not in arrays:
            raise DataError(f"{path}: has no '{key}'; it is not an annotation file of the test set.")
    return {key: np.asarray(arrays[key]) for key in keys}


def frames_first(array: Floats, dims: int, where: str) -> Floats:
    """(N, 17, dims) from (N, 1, 17, dims), as HDF5 stores MATLAB's dims x 17 x 1 x N, or from that order itself.

    The joint axis tells them apart: 17 stands third in one and second in the other. Raises DataError for other shapes.
    """
    if array.ndim == 4 and array.shape[:3] == (dims, 17, 1):
        array = array.transpose(3, 2, 1, 0)
    values = an_array(array, where, (None, 1, 17, dims), "fiu")
    return values.reshape(-1, 17, dims)

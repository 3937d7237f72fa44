"""P-STMO's data_train_3dhp.npz and data_test_3dhp.npz (universal), and PoSynDA's *_ori.npz (metric) of the same layout.

    data["S1 Seq1"] = [{"0": {"data_2d": (F, 17, 2) px, "data_3d": (F, 17, 3) mm}, ...}, fps]
    data["TS1"] = {"data_2d": (N, 17, 2) px, "data_3d": (N, 17, 3) mm, "valid": (N,)}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from poseda.data.clips import LabelScale
from poseda.data.raw._3dhp import facts
from poseda.data.raw._3dhp.evidence import Sample, find_labels
from poseda.data.recordings import Floats, RawDataset, RawOptions, Recording, Split, Unit
from poseda.errors import DataError
from poseda.files.checks import a_dict, a_list, a_number, an_array
from poseda.files.npz import open_npz
from poseda.files.opening import printable
from poseda.geometry.camera import Camera
from poseda.skeleton import get_skeleton

_SKELETON = get_skeleton("3dhp17")


@dataclass(frozen=True, eq=False)
class _View:
    """One camera's arrays of a sequence, not yet checked."""

    where: str
    entry: dict[Any, Any]
    camera: Camera

    def arrays(self) -> tuple[Floats, Floats]:
        """(F, 17, 2) px and (F, 17, 3) mm."""
        keypoints, poses = (self._array(key, dims) for key, dims in (("data_2d", 2), ("data_3d", 3)))
        if len(keypoints) != len(poses):
            raise DataError(f"{self.where}: has {len(keypoints)} 2D and {len(poses)} 3D frames.")
        return keypoints, poses

    def _array(self, key: str, dims: int) -> Floats:
        if key not in self.entry:
            raise DataError(f"{self.where}: has no '{key}'; it is not of P-STMO's layout.")
        return an_array(self.entry[key], f"{self.where}, {key}", (None, _SKELETON.num_joints, dims))

    def sample(self) -> Sample:
        """A few frames, to find the labels."""
        keypoints, poses = self.arrays()
        return Sample.of(poses, keypoints, self.camera, _SKELETON.root)


@dataclass(frozen=True, eq=False)
class _File:
    """One file, taken apart as far as sequences and cameras."""

    path: Path
    sequences: dict[str, dict[str, _View]]
    fps: dict[str, float]
    labels: LabelScale
    evidence: str


def open_stmo(paths: Sequence[Path], options: RawOptions) -> RawDataset:
    """All P-STMO or PoSynDA files of a folder whose labels are those asked for.

    An .npz of one pickled object can only be read whole: it stays in memory while its sequences are prepared. Raises
    ConfigError where no file has the labels or cameras asked for, DataError for another layout.
    """
    facts.refuse_detections(options)
    files = [_open(path) for path in paths]
    chosen = [file for file in files if file.labels == options.labels]
    if not chosen:
        facts.require_labels(files[0].labels, options, f"{files[0].path} ({files[0].evidence})")
    _refuse_doubles(chosen)
    names = [name for file in chosen for name in file.sequences]
    train, test = ([name for name in names if name.startswith(first)] for first in ("S", "TS"))
    if not train:
        facts.refuse_cameras(options)
    there = list(dict.fromkeys(camera for file in chosen for views in file.sequences.values() for camera in views))
    cameras = facts.chosen_cameras(options, [camera for camera in there if camera]) if train else ()
    evidence = ", ".join(f"{file.path.name}: {file.evidence}" for file in chosen)
    notes = [facts.UNIVERSAL_NOTE] * (options.labels == "universal") + [facts.TEST_NOTE] * bool(test)
    return RawDataset(
        name="3dhp",
        recognised=f"{facts.TITLE} of P-STMO's layout: {facts.called(options.labels)}, since {evidence}",
        skeleton=_SKELETON,
        fps=facts.FPS,
        licence=facts.LICENCE,
        label_scale=options.labels,
        keypoints="gt",
        units=tuple(_unit(file, name, cameras) for file in chosen for name in file.sequences),
        notes=" ".join([*notes, *[facts.RIG_NOTE] * bool(train)]),
        expected=facts.expected_frames(len(cameras), bool(test)),
    )


def _refuse_doubles(files: list[_File]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        for name in file.sequences:
            if name in seen:
                raise DataError(f"{name} is in {seen[name]} and in {file.path} with the same labels; name one file.")
            seen[name] = file.path


def _open(path: Path) -> _File:
    with open_npz(path) as npz:
        data = a_dict(npz.objects("data"), f"{path}: key data")
    sequences: dict[str, dict[str, _View]] = {}
    fps: dict[str, float] = {}
    for name, value in data.items():
        where = f"{path}: key data, {printable(str(name), 40)}"
        if name in facts.TRAIN_FRAMES:
            sequences[name], fps[name] = _train_views(value, where)
        elif name in facts.VALID_FRAMES:
            sequences[name] = {"": _View(where, a_dict(value, where), facts.test_camera(name))}
        else:
            raise DataError(f"{where}: is no 3DHP sequence ('S1 Seq1' or 'TS1' is expected); it is of another layout.")
    if not sequences:
        raise DataError(f"{path}: key data holds no sequences; get the file again.")
    labels, evidence = find_labels((next(iter(views.values())).sample() for views in sequences.values()), str(path))
    return _File(path, sequences, fps, labels, evidence)


def _train_views(value: object, where: str) -> tuple[dict[str, _View], float]:
    parts = a_list(value, where)
    if len(parts) != 2:
        raise DataError(f"{where}: has {len(parts)} parts; expected the cameras and the frame rate.")
    views = {}
    for camera, entry in a_dict(parts[0], where).items():
        here = f"{where}, camera {printable(str(camera), 20)}"
        if not re.fullmatch(r"\d|1[0-3]", str(camera)):
            raise DataError(f"{here}: 3DHP has the cameras 0 to 13.")
        views[str(camera)] = _View(here, a_dict(entry, here), facts.train_camera(str(camera)))
    if not views:
        raise DataError(f"{where}: has no cameras; get the file again.")
    return views, a_number(parts[1], f"{where}, frame rate")


def _unit(file: _File, name: str, cameras: tuple[str, ...]) -> Unit:
    read = _read_train if name in file.fps else _read_test
    split: Split = "train" if name in file.fps else "test"
    return Unit(name.replace(" ", "/"), split, (file.path,), partial(read, file, name, cameras))


def _read_train(file: _File, name: str, cameras: tuple[str, ...]) -> Iterator[Recording]:
    subject, sequence = name.split()
    for camera in cameras:
        if camera not in file.sequences[name]:
            there = ", ".join(file.sequences[name])
            raise DataError(f"{file.path}: {name} has no camera {camera}, only {there}; choose with cameras=[...].")
        view = file.sequences[name][camera]
        recording = f"{subject}/{sequence}/{camera}"
        yield Recording(recording, subject, sequence, view.camera, file.fps[name], *view.arrays())


def _read_test(file: _File, name: str, cameras: tuple[str, ...]) -> Iterator[Recording]:
    view = file.sequences[name][""]
    keypoints, poses = view.arrays()
    if "valid" not in view.entry:
        raise DataError(f"{view.where}: has no 'valid', the frames that count; it is not of P-STMO's layout.")
    valid = np.asarray(view.entry["valid"])
    valid = an_array(valid.ravel(), f"{view.where}, valid", (len(poses),), "fiub") != 0
    yield Recording(name, name, "", view.camera, facts.FPS, keypoints, poses, scored=valid)

"""AdaptPose's files: data_3dhp_gt_test.npz, and data_3dhp_{gt}_train.npz with data_3dhp_gt_train_3d.npz.

    test:  positions_2d["TS1"] (N, 16, 2) px and positions_3d["TS1"] (N, 16, 3) mm, right side first
    train: positions_2d["S1"][seq][cam] (F, 16, 2) px, left side first; positions_3d["S1"][seq][cam] (F, 16, 3) mm
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from poseda.data.clips import LabelScale
from poseda.data.raw._3dhp import facts
from poseda.data.raw._3dhp.evidence import Sample, find_labels, fits_better
from poseda.data.raw_root import place_by_keypoints
from poseda.data.recordings import Floats, RawDataset, RawOptions, Recording, Split, Unit
from poseda.errors import DataError, MissingDataError, choose
from poseda.files.checks import a_dict, a_list, an_array
from poseda.files.npz import open_npz
from poseda.files.opening import printable
from poseda.geometry.camera import Camera
from poseda.skeleton import get_skeleton

NAMES = "data_3dhp_*.npz"
_SKELETON = get_skeleton("h36m16")
_RIGHT_FIRST = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 13, 14, 15, 10, 11, 12]
"""h36m16 from the left-first order: what AdaptPose's loader does with the training 2D, and not with the test set."""
_UNUSED_FRAMES = {"TS3": 100, "TS4": 100}
"""First frames that AdaptPose's evaluation leaves out."""
_EVALUATED_FRAMES = sum(facts.VALID_FRAMES.values()) - sum(_UNUSED_FRAMES.values())
_NOTE = "The first 100 frames of TS3 and TS4 count as invalid, as in AdaptPose. AdaptPose trains on S1 to S7."
_NUMBERED = "Cameras numbered 0 to 7 are taken as 0, 1, 2, 4, 5, 6, 7 and 8."


@dataclass(frozen=True, eq=False)
class _View:
    """One recording as in the files, joints in h36m16's order."""

    name: str
    unit: str
    camera: str
    intrinsics: Camera
    keypoints: Floats
    """(T, 16, 2) px."""
    poses: Floats
    """(T, 16, 3) mm."""

    def sample(self) -> Sample:
        """A few frames."""
        return Sample.of(self.poses, self.keypoints, self.intrinsics, _SKELETON.root)


@dataclass(frozen=True)
class _Files:
    """2D sources and their files, told apart by their keys."""

    test: dict[str, Path]
    train_2d: dict[str, Path]
    train_3d: dict[str, Path]


def open_adaptpose(raw: Path, options: RawOptions) -> RawDataset:
    """AdaptPose's training set, its test set or both, 16 joints; the files stay in memory while they are prepared.

    `raw` is their folder or one of them; a training file needs its counterpart beside it. Absolute 3D shows its labels
    by meeting the 2D or not; of root-relative 3D nobody can tell, and the user's word stands. Raises ConfigError for
    labels, cameras or 2D that are not there, MissingDataError for a missing counterpart, DataError for another layout.
    """
    files = _find(raw)
    source = choose(options.keypoints or _own_source(raw), {*files.test, *files.train_2d}, "2D in AdaptPose's files")
    test = _test_views(files.test[source]) if source in files.test else []
    pair = (files.train_2d[source], next(iter(files.train_3d.values()))) if source in files.train_2d else None
    train = _train_views(*pair) if pair else []
    if train:
        cameras = facts.chosen_cameras(options, list(dict.fromkeys(view.camera for view in train)))
        train = [view for view in train if view.camera in cameras]
    else:
        facts.refuse_cameras(options)
    labels, evidence = _labels([*train, *test], options, source, raw)
    relative = any(view.sample().relative() for view in [*train, *test])
    notes = [_NOTE, *[facts.TEST_NOTE] * bool(test), *[f"{facts.RIG_NOTE} {_NUMBERED}"] * bool(train)]
    notes += [facts.PLACED_NOTE] * relative + [facts.UNIVERSAL_NOTE] * (labels == "universal" and not relative)
    return RawDataset(
        name="3dhp",
        recognised=f"{facts.TITLE}, AdaptPose's files: {facts.called(labels)}, {evidence}",
        skeleton=_SKELETON,
        fps=facts.FPS,
        licence=facts.LICENCE,
        label_scale=labels,
        keypoints=source,
        units=(*_units(train, "train", pair or ()), *_units(test, "test", (files.test[source],) if test else ())),
        notes=" ".join(notes),
        expected={"test": _EVALUATED_FRAMES} if test else None,
    )


def _units(views: list[_View], split: Split, files: tuple[Path, ...]) -> Iterator[Unit]:
    for name in dict.fromkeys(view.unit for view in views):
        own = [view for view in views if view.unit == name]
        yield Unit(name, split, files, partial(_read, own))


def _read(views: list[_View]) -> Iterator[Recording]:
    for view in views:
        poses = view.poses
        if view.sample().relative():
            poses = place_by_keypoints(poses, view.keypoints, view.intrinsics)
        subject, _, action = view.unit.partition("/")
        keep = np.arange(len(poses)) >= _UNUSED_FRAMES.get(view.name, 0)
        yield Recording(view.name, subject, action, view.intrinsics, _fps(view), view.keypoints, poses, keep=keep)


def _fps(view: _View) -> float:
    """25, or 50 for a sequence recorded at 50 of which more than every second frame is there."""
    frames, fps = facts.TRAIN_FRAMES.get(view.unit.replace("/", " "), (0, 25))
    return float(fps) if len(view.poses) > (frames + 1) // 2 else facts.FPS


def _labels(views: list[_View], options: RawOptions, source: str, raw: Path) -> tuple[LabelScale, str]:
    """The labels and how they are known. Raises ConfigError where they are not those asked for."""
    samples = [view.sample() for view in views]
    if source != "gt" or any(sample.relative() for sample in samples):
        return options.labels, "as asked for: root-relative 3D or detected 2D does not show which they are"
    found, evidence = find_labels(samples, str(raw))
    facts.require_labels(found, options, f"{raw} ({evidence})")
    return found, f"since {evidence}"


def _own_source(raw: Path) -> str:
    """The 2D that a file's name speaks of: "gt" in data_3dhp_gt_train.npz."""
    match = re.fullmatch(r"data_3dhp_(.+?)_(train_3d|train|test)\.npz", raw.name)
    return match[1] if match else "gt"


def _find(raw: Path) -> _Files:
    """The files of a folder, or one file and its counterpart beside it."""
    found = _Files({}, {}, {})
    _sort_in(found, sorted(raw.glob(NAMES)) if raw.is_dir() else [raw])
    if not raw.is_dir() and not found.test:
        beside = _Files({}, {}, {})
        _sort_in(beside, sorted(raw.parent.glob(NAMES)))
        found = replace(
            found, train_2d=found.train_2d or beside.train_2d, train_3d=found.train_3d or beside.train_3d
        )  # what was named goes before what lies beside it
    if bool(found.train_2d) != bool(found.train_3d):
        there = next(iter({**found.train_2d, **found.train_3d}.values()))
        wanted = "data_3dhp_gt_train.npz (2D) and data_3dhp_gt_train_3d.npz"
        raise MissingDataError(f"{there}: AdaptPose's training set is {wanted} in one folder; one of them is missing.")
    return found


def _sort_in(found: _Files, paths: list[Path]) -> None:
    for path in paths:
        with open_npz(path) as npz:
            kinds = ("positions_2d" in npz, "positions_3d" in npz)
        places = {(True, True): found.test, (True, False): found.train_2d, (False, True): found.train_3d}
        if kinds in places:
            places[kinds][_own_source(path)] = path


def _dictionary(path: Path, key: str) -> dict[Any, Any]:
    with open_npz(path) as npz:
        return a_dict(npz.objects(key), f"{path}: key {key}")


def _test_views(path: Path) -> list[_View]:
    keypoints, poses = _dictionary(path, "positions_2d"), _dictionary(path, "positions_3d")
    wrong = [name for name in keypoints if name not in facts.VALID_FRAMES or name not in poses]
    if wrong or not keypoints:
        name = printable(str(wrong[0]), 40) if wrong else "nothing"
        raise DataError(f"{path}: has 2D of {name}; expected TS1 to TS6 with 2D and 3D each (AdaptPose's test set).")
    return [
        _view(name, name, "", facts.test_camera(name), keypoints[name], poses[name], path)
        for name in facts.VALID_FRAMES
        if name in keypoints
    ]


def _train_views(path_2d: Path, path_3d: Path) -> list[_View]:
    """Training recordings; the order of the 3D's joints is the one that agrees with the 2D."""
    keypoints, poses = _recordings(path_2d, "positions_2d"), _recordings(path_3d, "positions_3d")
    if not keypoints:
        raise DataError(f"{path_2d}: holds no sequences of S1 to S8; get the file again.")
    views = []
    for unit, cameras in keypoints.items():
        if unit not in poses or len(poses[unit]) != len(cameras):
            raise DataError(f"{path_3d}: {unit} has {len(poses.get(unit, {}))} cameras, the 2D has {len(cameras)}.")
        by_name = poses[unit].keys() == cameras.keys()
        names = _camera_names(list(cameras), path_2d)
        for place, (key, pixels) in enumerate(cameras.items()):
            camera = names[key]
            pose = poses[unit][key] if by_name else [*poses[unit].values()][place]
            views.append(_view(f"{unit}/{camera}", unit, camera, facts.train_camera(camera), pixels, pose, path_2d))
    views = [replace(view, keypoints=view.keypoints[:, _RIGHT_FIRST]) for view in views]
    turned = [replace(view, poses=view.poses[:, _RIGHT_FIRST]) for view in views]
    first = [view.sample() for view in views], [view.sample() for view in turned]
    return views if fits_better(*first, str(path_3d)) else turned


def _camera_names(keys: list[str], path: Path) -> dict[str, str]:
    """Published camera of each key. Keys 0 to 7 count the eight cameras that papers train on, of which none is 3."""
    if sorted(keys) == [str(number) for number in range(len(facts.EIGHT_CAMERAS))]:
        return {key: facts.EIGHT_CAMERAS[int(key)] for key in keys}
    return {key: choose(key, facts.ALL_CAMERAS, f"3DHP camera ({path.name})") for key in keys}


def _recordings(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """"S1/Seq1" -> camera's key -> array, from nested dictionaries, or lists of cameras."""
    found: dict[str, dict[str, Any]] = {}
    for subject, sequences in _dictionary(path, key).items():
        if not re.fullmatch(r"S[1-8]", str(subject)):
            raise DataError(f"{path}: key {key} has '{printable(str(subject), 40)}'; expected S1 to S8 (AdaptPose).")
        for sequence, cameras in a_dict(sequences, f"{path}: key {key}, {subject}").items():
            where = f"{path}: key {key}, {subject}, {printable(str(sequence), 40)}"
            entries = cameras if isinstance(cameras, dict) else dict(enumerate(a_list(cameras, where)))
            name = str(sequence) if str(sequence).startswith("Seq") else f"Seq{sequence}"
            found[f"{subject}/{name}"] = {str(camera): values for camera, values in entries.items()}
    return found


def _view(name: str, unit: str, camera: str, intrinsics: Camera, pixels: Any, pose: Any, path: Path) -> _View:
    joints = _SKELETON.num_joints
    keypoints = an_array(pixels, f"{path}: {name}, positions_2d", (None, joints, 2))
    poses = an_array(pose, f"{path}: {name}, positions_3d", (None, joints, 3))
    if len(keypoints) != len(poses):
        raise DataError(f"{path}: {name} has {len(keypoints)} 2D and {len(poses)} 3D frames; the 2D is of another set.")
    return _View(name, unit, camera, intrinsics, keypoints, poses)

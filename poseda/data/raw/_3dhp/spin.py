"""SPIN's mpi_inf_3dhp_valid.npz (or _test.npz), and PoseAug's test_3dhp.npz, which is made from it.

SPIN fills 17 of its 24 joints from 3DHP's test annotations: 12 is 3DHP's neck (our thorax), 17 ("jaw") its head (our
nose) and 18 ("head") its head_top (our head); 13, 15 and 19 to 23 stay empty. PoseAug's list [14, 2, 1, 0, 3, 4, 5, 16,
12, 18, 9, 10, 11, 8, 7, 6] takes the same 12 and 18 in the places of thorax and head. Both files hold univ_annot3,
root-relative, of the valid frames alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from poseda.data.raw._3dhp import facts
from poseda.data.raw_root import place_by_keypoints
from poseda.data.recordings import RawDataset, RawOptions, Recording, Unit
from poseda.errors import DataError
from poseda.files.checks import an_array
from poseda.files.npz import Npz, open_npz
from poseda.files.opening import printable
from poseda.geometry.camera import denormalise_screen
from poseda.skeleton import Skeleton, get_skeleton

_SPIN_JOINTS = {
    "pelvis": 14, "rhip": 2, "rknee": 1, "rankle": 0, "lhip": 3, "lknee": 4, "lankle": 5, "spine": 16, "thorax": 12,
    "nose": 17, "head": 18, "lshoulder": 9, "lelbow": 10, "lwrist": 11, "rshoulder": 8, "relbow": 7, "rwrist": 6,
}  # fmt: skip
_MM = 1000.0
_IMAGE = re.compile(r"(?:^|/)(TS[1-6])/(?:.*[^0-9])?([0-9]{1,9})\.\w+$")
_TEST_FRAMES = sum(facts.VALID_FRAMES.values())


def is_spin_test(npz: Npz) -> bool:
    """Whether an .npz of SPIN's keys is of 3DHP's test set; SPIN has others of the same keys."""
    names = npz.texts("imgname")
    return bool(names) and _IMAGE.search(names[0]) is not None


def open_spin(path: Path, options: RawOptions) -> RawDataset:
    """SPIN's test file: a unit for each of TS1 to TS6.

    Raises ConfigError where metric labels are asked for, DataError for images that are not of the test set.
    """
    with open_npz(path) as npz:
        sequences, numbers = _image_numbers(npz.texts("imgname"), path)
    names = [name for name in facts.VALID_FRAMES if (sequences == name).any()]
    units = []
    for name in names:
        rows = np.flatnonzero(sequences == name)
        units.append(Unit(name, "test", (path,), partial(_read_spin, name, path, rows, numbers[rows])))
    about = "SPIN's test file; frames that do not follow each other are sequences of their own"
    return _dataset(about, path, options, get_skeleton("h36m17"), units)


def open_poseaug(path: Path, options: RawOptions) -> RawDataset:
    """PoseAug's test_3dhp.npz: pose3d (2929, 16, 3) m and pose2d (2929, 16, 2), one unit for each of TS1 to TS6.

    Raises ConfigError where metric labels are asked for, DataError where it has other frames than the 2929.
    """
    skeleton = get_skeleton("h36m16")
    with open_npz(path) as npz:
        for key, dims in (("pose3d", 3), ("pose2d", 2)):
            if npz.shape(key) != (_TEST_FRAMES, skeleton.num_joints, dims):
                wanted = (_TEST_FRAMES, skeleton.num_joints, dims)
                raise DataError(f"{path}: key {key} has shape {npz.shape(key)}; PoseAug's file has {wanted}.")
    ends = np.cumsum(list(facts.VALID_FRAMES.values())).tolist()
    units = []
    for name, end in zip(facts.VALID_FRAMES, ends, strict=True):
        rows = slice(end - facts.VALID_FRAMES[name], end)
        units.append(Unit(name, "test", (path,), partial(_read_poseaug, name, path, rows)))
    about = "PoseAug's test file, which does not say which frames of the videos these are: neighbours may be apart"
    return _dataset(about, path, options, skeleton, units)


def _dataset(about: str, path: Path, options: RawOptions, skeleton: Skeleton, units: list[Unit]) -> RawDataset:
    facts.refuse_detections(options)
    facts.refuse_cameras(options)
    facts.require_labels("universal", options, f"{path} (made from univ_annot3)")
    return RawDataset(
        name="3dhp",
        recognised=f"{facts.TITLE}, {about}: {facts.called('universal')}",
        skeleton=skeleton,
        fps=facts.FPS,
        licence=facts.LICENCE,
        label_scale="universal",
        keypoints="gt",
        units=tuple(units),
        notes=f"{facts.PLACED_NOTE} {facts.TEST_NOTE}",
        expected=facts.expected_frames(0, True),
    )


def _image_numbers(images: list[str], path: Path) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Test sequence and frame number of each image."""
    matches = [_IMAGE.search(image) for image in images]
    for row, match in enumerate(matches):
        if match is None:
            image = printable(images[row], 60)
            raise DataError(f"{path}: imgname {row} is '{image}', expected .../TS1/.../img_000001.jpg of the test set.")
    if not matches:
        raise DataError(f"{path}: key imgname is empty; get the file again.")
    found = [match.groups() for match in matches if match]
    return np.array([name for name, _ in found]), np.array([int(number) for _, number in found])


def _read_spin(name: str, path: Path, rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> Iterator[Recording]:
    """Recordings of consecutive frames of one test sequence."""
    joints = [_SPIN_JOINTS[joint] for joint in get_skeleton("h36m17").joints]
    with open_npz(path) as npz:
        part = an_array(npz.array("part"), f"{path}: key part", (len(npz.texts("imgname")), 24, 3))
        labels = an_array(npz.array("S"), f"{path}: key S", (len(part), 24, 4))
    part, labels = part[rows][:, joints], labels[rows][:, joints]
    keypoints = np.where(part[..., 2:] > 0, part[..., :2], np.nan)
    poses = np.where(labels[..., 3:] > 0, labels[..., :3], np.nan) * _MM
    camera = facts.test_camera(name)
    placed = place_by_keypoints(poses, keypoints, camera)
    for run in _runs(numbers):
        frames = f"{name}/{numbers[run.start]:06d}"
        confidence = part[run, :, 2].clip(0, 1)
        yield Recording(frames, name, "", camera, facts.FPS, keypoints[run], placed[run], confidence)


def _runs(numbers: NDArray[np.int64]) -> list[slice]:
    """Runs of frame numbers that follow each other."""
    ends = [*(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _read_poseaug(name: str, path: Path, rows: slice) -> Iterator[Recording]:
    """The recording of one test sequence. PoseAug's 2D is x/w*2-1, y/w*2-h/w, by the width of each video."""
    with open_npz(path) as npz:
        normalised, poses = (npz.array(key)[rows].astype(np.float64) for key in ("pose2d", "pose3d"))
    if np.median(np.abs(normalised)) > 1:
        raise DataError(f"{path}: key pose2d of {name} is not normalised to the image; PoseAug's file is.")
    camera = facts.test_camera(name)
    keypoints = denormalise_screen(torch.from_numpy(normalised)[None], camera.width, camera.height)[0].numpy()
    placed = place_by_keypoints(poses * _MM, keypoints, camera)
    yield Recording(name, name, "", camera, facts.FPS, keypoints, placed)

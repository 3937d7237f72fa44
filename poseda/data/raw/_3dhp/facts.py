"""What is published about MPI-INF-3DHP: sequences, frames, cameras, terms; and options that its layouts share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from poseda.data.clips import LabelScale
from poseda.data.recordings import RawOptions
from poseda.errors import ConfigError, choose
from poseda.geometry.camera import Camera
from poseda.geometry.rigs import Rig, load_rig

TITLE = "MPI-INF-3DHP"
SITE = "https://vcai.mpi-inf.mpg.de/3dhp-dataset"
LICENCE = "MPI-INF-3DHP licence: non-commercial research only; vcai.mpi-inf.mpg.de/3dhp-dataset"
FPS = 25.0

TRAIN_FRAMES: dict[str, tuple[int, int]] = {
    "S1 Seq1": (6416, 25), "S1 Seq2": (12430, 50), "S2 Seq1": (6502, 25), "S2 Seq2": (6081, 25),
    "S3 Seq1": (12488, 50), "S3 Seq2": (12283, 50), "S4 Seq1": (6171, 25), "S4 Seq2": (6675, 25),
    "S5 Seq1": (12820, 50), "S5 Seq2": (12312, 50), "S6 Seq1": (6188, 25), "S6 Seq2": (6145, 25),
    "S7 Seq1": (6239, 25), "S7 Seq2": (6320, 25), "S8 Seq1": (6468, 25), "S8 Seq2": (6054, 25),
}  # fmt: skip
"""Training sequence -> frames that the videos have, and frames a second. Annotations may run on after the video."""
VALID_FRAMES = {"TS1": 603, "TS2": 540, "TS3": 505, "TS4": 553, "TS5": 276, "TS6": 452}
"""Test sequence -> frames that its annotations call valid: 2929 together."""
EIGHT_CAMERAS = ("0", "1", "2", "4", "5", "6", "7", "8")
"""The chest-high and elevated cameras that papers train on."""
ALL_CAMERAS = tuple(str(number) for number in range(14))

UNIVERSAL_NOTE = "Universal labels are scaled to one skeleton: in the camera's coordinates they do not meet the 2D."
TEST_NOTE = (
    "TS1 to TS4 are seen by training camera 8; of TS5 and TS6 the intrinsics are published and the camera's place in "
    "the world is assumed; test videos count as 25 frames/s."
)
RIG_NOTE = "Training cameras: the one published calibration, which public code uses for S1 to S8."
PLACED_NOTE = "The file has root-relative 3D; the root is placed by the 2D."


@cache
def _rig(name: str) -> Rig:
    return load_rig(name, torch.float64)


def train_camera(camera: str) -> Camera:
    """Published camera "0" to "13" of the training set, float64."""
    rig = _rig("3dhp_train")
    return rig.cameras[rig.camera_names.index(camera)]


def test_camera(sequence: str) -> Camera:
    """The camera of "TS1" to "TS6", float64."""
    return _rig("3dhp_ts5-6" if sequence in ("TS5", "TS6") else "3dhp_ts1-4").cameras


def expected_frames(train_cameras: int, test: bool) -> dict[str, int]:
    """Frames that come out of the whole training set, with that many cameras and at 25 frames/s, and of the test set.

    A split that is not there at all (no cameras; False) is left out.
    """
    train = train_cameras * sum(-(-frames // (fps // 25)) for frames, fps in TRAIN_FRAMES.values())
    counts = {"train": train, "test": sum(VALID_FRAMES.values()) if test else 0}
    return {split: count for split, count in counts.items() if count}


def chosen_cameras(options: RawOptions, there: Sequence[str]) -> tuple[str, ...]:
    """Cameras asked for, or those of the eight that are there. Raises ConfigError for one that is not."""
    wanted = tuple(choose(camera, there, "camera in this data") for camera in options.cameras)
    return tuple(dict.fromkeys(wanted)) or tuple(camera for camera in EIGHT_CAMERAS if camera in there)


def refuse_cameras(options: RawOptions) -> None:
    """Raise ConfigError where cameras are chosen of test sequences, which have one each."""
    if options.cameras:
        raise ConfigError("cameras: each 3DHP test sequence has one camera; leave the option out.")


def refuse_detections(options: RawOptions) -> None:
    """Raise ConfigError where 2D is asked for that the layout does not have."""
    if options.keypoints not in ("", "gt"):
        raise ConfigError(f"keypoints={options.keypoints}: these files have the true 2D alone; leave the option out.")


def require_labels(found: LabelScale, options: RawOptions, where: str) -> None:
    """Raise ConfigError where the file's labels are not those asked for."""
    if found != options.labels:
        raise ConfigError(f"{where}: holds {found} labels, asked for were {options.labels} ones; write labels={found}.")


def called(found: LabelScale) -> str:
    """The labels with the annotation's name: "universal labels (univ_annot3)"."""
    return f"{found} labels ({'annot3' if found == 'metric' else 'univ_annot3'})"

"""Human3.6M: whichever of its four widespread forms lies in the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from poseda.data.raw.h36m.features import BASELINE, RAW, open_baseline, open_features
from poseda.data.raw.h36m.motionbert import open_motionbert
from poseda.data.raw.h36m.npz import open_videopose3d
from poseda.data.recordings import RawDataset, RawOptions
from poseda.errors import MissingDataError

TITLE = "Human3.6M"
SITE = "vision.imar.ro/human3.6m"
LAYOUTS = (
    "data_3d_h36m.npz with any data_2d_h36m_<detector>.npz (VideoPose3D, PoseAug)",
    "h36m/S*/MyPoses/3D_positions/*.h5 (3d-pose-baseline's h36m.zip)",
    "S*/MyPoseFeatures/D3_Positions/*.cdf or *.cdf.mat (the data set's own pose features)",
    "h36m_sh_conf_cam_source_final.pkl (MotionBERT)",
)
USES = ("keypoints", "cameras")

_LICENCE = "Human3.6M licence: academic use only, no redistribution; terms at vision.imar.ro/human3.6m."
_POSITIONS = "data_3d_h36m.npz"
_PICKLE = "h36m_sh_conf_cam_source_final.pkl"

Opener = Callable[[Path, RawOptions, str], RawDataset]


def open_raw(raw: Path, options: RawOptions) -> RawDataset:
    """Human3.6M in a file or folder, h36m17 or h36m16, 50 frames/s; train S1 S5 S6 S7 S8, test S9 S11.

    Where a folder holds several layouts, the first of LAYOUTS is taken. Raises MissingDataError where there is none,
    DataError for files that are not what their names say, ConfigError for an unknown camera or detector.
    """
    opener, path = _recognise(raw)
    return opener(path, options, _LICENCE)


def _recognise(raw: Path) -> tuple[Opener, Path]:
    """The layout's opener and the file or folder for it."""
    if raw.is_file() and raw.suffix in (".npz", ".pkl"):
        return (open_videopose3d if raw.suffix == ".npz" else open_motionbert), raw
    for folder in (raw, raw / "h36m"):
        if (folder / _POSITIONS).is_file():
            return open_videopose3d, folder / _POSITIONS
        if any(folder.glob(f"S*/{BASELINE}/*.h5")):
            return open_baseline, folder
        if any(folder.glob(f"S*/{RAW}/*.cdf*")):
            return open_features, folder
        if (folder / _PICKLE).is_file():
            return open_motionbert, folder / _PICKLE
    raise MissingDataError(
        f"{raw}: holds no Human3.6M; looked for {_POSITIONS}, S*/{BASELINE}/*.h5, S*/{RAW}/*.cdf and {_PICKLE}."
    )

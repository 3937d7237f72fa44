"""MPI-INF-3DHP as published, and as P-STMO, PoSynDA, SPIN, PoseAug and AdaptPose keep it."""

from __future__ import annotations

from pathlib import Path

from poseda.data.raw._3dhp.adaptpose import NAMES as ADAPTPOSE_NAMES
from poseda.data.raw._3dhp.adaptpose import open_adaptpose
from poseda.data.raw._3dhp.facts import SITE, TITLE
from poseda.data.raw._3dhp.official import find_annotations, open_official
from poseda.data.raw._3dhp.spin import is_spin_test, open_poseaug, open_spin
from poseda.data.raw._3dhp.stmo import open_stmo
from poseda.data.recordings import RawDataset, RawOptions
from poseda.errors import DataError, MissingDataError
from poseda.files.npz import open_npz

__all__ = ["LAYOUTS", "SITE", "TITLE", "USES", "open_raw"]

LAYOUTS = (
    "training set as published: S1/Seq1/annot.mat and camera.calibration",
    "test set as published: mpi_inf_3dhp_test_set/TS1/annot_data.mat",
    "P-STMO: data_train_3dhp.npz, data_test_3dhp.npz (universal labels)",
    "PoSynDA: data_train_3dhp_ori.npz, data_test_3dhp_ori.npz (metric labels)",
    "PoseAug: test_3dhp.npz (universal labels)",
    "SPIN: mpi_inf_3dhp_valid.npz or mpi_inf_3dhp_test.npz (universal labels)",
    "AdaptPose: data_3dhp_gt_train.npz with data_3dhp_gt_train_3d.npz, data_3dhp_gt_test.npz",
)
USES = ("labels", "cameras", "keypoints")


def open_raw(raw: Path, options: RawOptions) -> RawDataset:
    """Recognise 3DHP in a folder or file by the files' keys; read what that takes, the 3D's scale included.

    Raises MissingDataError where nothing of 3DHP is there, DataError for two layouts in one folder or damaged files,
    and ConfigError for labels, cameras or 2D that are not in them.
    """
    train, test = find_annotations(raw) if raw.is_dir() else ({}, {})
    if train or test:
        return open_official(train, test, options)
    if raw.suffix == ".mat":
        raise DataError(f"{raw}: one annotation file does not say whose it is; give the folder that S1 or TS1 lies in.")
    found = _npz_layouts(raw)
    if len(found) > 1:
        files = "; ".join(f"{name}: {', '.join(path.name for path in paths)}" for name, paths in found.items())
        raise DataError(f"{raw}: holds several layouts ({files}); give one file, or a folder of one layout.")
    if not found:
        raise MissingDataError(f"{raw}: holds nothing of {TITLE} ({SITE}). Looked for: {'; '.join(LAYOUTS)}.")
    layout, paths = next(iter(found.items()))
    if layout == "P-STMO":
        return open_stmo(paths, options)
    if layout == "AdaptPose":
        return open_adaptpose(raw, options)
    if len(paths) > 1:
        raise DataError(f"{raw}: {paths[0].name} and {paths[1].name} are both {layout}'s test set; give one file.")
    return open_spin(paths[0], options) if layout == "SPIN" else open_poseaug(paths[0], options)


def _npz_layouts(raw: Path) -> dict[str, list[Path]]:
    """Layouts of the .npz files, by their keys. In a folder, other people's files are passed over."""
    found: dict[str, list[Path]] = {}
    for path in sorted(raw.glob("*.npz")) if raw.is_dir() else [raw]:
        layout = _npz_layout(path, alone=not raw.is_dir())
        if layout:
            found.setdefault(layout, []).append(path)
    return found


def _npz_layout(path: Path, alone: bool) -> str:
    """P-STMO, PoseAug, SPIN, AdaptPose, or "" for none of them."""
    with open_npz(path) as npz:
        keys = set(npz.keys)
        if keys == {"data"} and npz.dtype("data").hasobject:
            return "P-STMO"
        if keys >= {"pose3d", "pose2d"}:
            return "PoseAug"
        if keys >= {"imgname", "part", "S"}:
            return "SPIN" if alone or is_spin_test(npz) else ""
        # Human3.6M's and 3DPW's files have the same keys: in a folder the published names tell them apart.
        positions = bool(keys & {"positions_2d", "positions_3d"})
        return "AdaptPose" if positions and (alone or path.match(ADAPTPOSE_NAMES)) else ""

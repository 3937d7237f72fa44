"""3DPW: people outdoors, filmed by a moving phone; labels are SMPL bodies, or joints that others made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poseda.data.body_files import LICENCE as BODY_LICENCE
from poseda.data.body_files import REGRESSOR, Bodies
from poseda.data.body_model import Doubles
from poseda.data.raw._3dpw.rows import adaptpose_layout, spin_layout
from poseda.data.recordings import RawDataset, RawOptions, Recording, Split, Unit
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.files.checks import a_dict, a_list, a_text, an_array
from poseda.files.pickles import load_pickle
from poseda.geometry.camera import Camera
from poseda.skeleton import convert_confidence, convert_joints, get_skeleton

TITLE = "3DPW (3D Poses in the Wild)"
SITE = "https://virtualhumans.mpi-inf.mpg.de/3DPW"
LAYOUTS = (
    "sequenceFiles/{train,validation,test}/*.pkl as published, with body_model=<your SMPL folder>",
    "SPIN's 3dpw_test.npz (imgname center scale pose shape gender), with body_model=<your SMPL folder>",
    "AdaptPose's data_3dpw_gt_{train,test}.npz (positions_3d positions_2d)",
)
USES = ("keypoints", "body_model")
FPS = 30.0
TEST_FRAMES = 35515  # people times frames with a valid camera, in the 24 test sequences
_SPLITS: dict[str, Split] = {"train": "train", "validation": "train", "test": "test"}
_LICENCE = f"3DPW: non-commercial research only ({SITE}/license.html); {BODY_LICENCE}"
_DETECTED = ("openpose", "coco")
_COCO18 = (
    "nose", "neck", "rshoulder", "relbow", "rwrist", "lshoulder", "lelbow", "lwrist", "rhip", "rknee", "rankle",
    "lhip", "lknee", "lankle", "reye", "leye", "rear", "lear",
)  # fmt: skip
"""Rows of poses2d: OpenPose's COCO model, whose neck is the midpoint of the shoulders, as h36m17's thorax is made."""


def open_raw(raw: Path, options: RawOptions) -> RawDataset:
    """Recognise one of LAYOUTS in a folder or file. Raises MissingDataError, ConfigError and DataError."""
    folder = next((place for place in (raw / "sequenceFiles", raw) if _sequences(place)), None)
    if folder is not None:
        return _open_official(folder, options)
    if options.keypoints not in ("", "gt"):
        raise ConfigError(f"keypoints={options.keypoints}: only 3DPW's sequenceFiles hold detections; leave it out.")
    files = [raw] if raw.is_file() else sorted(raw.glob("*3dpw*.npz"))
    layout = adaptpose_layout(files) or spin_layout(files)
    if layout is None:
        raise MissingDataError(f"{raw}: no 3DPW there; looked for {'; '.join(LAYOUTS)}; get it from {SITE}.")
    recognised, units, notes = layout.open(lambda: _smpl(options))
    return RawDataset(
        name="3dpw", recognised=recognised, skeleton=get_skeleton(layout.skeleton), fps=FPS, licence=_LICENCE,
        label_scale="metric", keypoints="gt", units=units, notes=notes, expected=layout.expected,
    )  # fmt: skip


def _smpl(options: RawOptions) -> Bodies:
    """The user's SMPL with Human3.6M's regressor. Raises MissingDataError where the regressor is not beside it."""
    bodies = Bodies.find(options.body_model, ("SMPL",))
    if bodies.rows_file is None:
        # Hips of SMPL's own skeleton lie centimetres off: numbers would look like those of papers, and not be.
        raise MissingDataError(
            f"no {REGRESSOR} for this SMPL beside {options.body_model}, and papers measure 3DPW at Human3.6M's joints: "
            "put SPIN's J_regressor_h36m.npy or Pose2Mesh's J_regressor_h36m_correct.npy there."
        )
    return bodies


def _sequences(folder: Path) -> list[tuple[str, Path]]:
    return [(part, file) for part in _SPLITS for file in sorted((folder / part).glob("*.pkl"))]


def _open_official(folder: Path, options: RawOptions) -> RawDataset:
    if options.keypoints not in ("", "gt", *_DETECTED):
        raise ConfigError(f"keypoints={options.keypoints}: 3DPW has gt and openpose (its poses2d).")
    detected = options.keypoints in _DETECTED
    bodies = _smpl(options)
    found = _sequences(folder)
    units = tuple(
        Unit(f"{part}/{file.stem}", _SPLITS[part], (file, *bodies.paths), partial(_read, file, bodies, detected))
        for part, file in found
    )
    counts = ", ".join(f"{part} {sum(of == part for of, _ in found)}" for part in _SPLITS)
    notes = (
        "poses in the frame of the moving camera; people are known by sequence and number only; one sequence's people "
        "may be in another; validation counts as train"
    )
    whole = sum(part == "test" for part, _ in found) == 24 and not detected
    return RawDataset(
        name="3dpw",
        recognised=f"3DPW sequenceFiles ({counts} sequences), {bodies.found}",
        skeleton=get_skeleton("h36m17"),
        fps=FPS,
        licence=_LICENCE,
        label_scale="metric",
        keypoints="openpose" if detected else "gt",
        units=units,
        notes="; ".join(filter(None, (notes, bodies.notes))),
        expected={"test": TEST_FRAMES} if whole else None,
    )


def _read(path: Path, bodies: Bodies, detected: bool) -> Iterator[Recording]:
    """Every person of a sequence; frames without an aligned camera are marked as invalid."""
    fields = a_dict(load_pickle(path), str(path))
    camera, motion = _camera(fields, path), _extrinsics(fields, path)
    frames = len(motion)
    name = a_text(_get(fields, "sequence", path), f"{path}: key sequence")
    for person in range(len(a_list(_get(fields, "poses", path), f"{path}: key poses"))):
        part = partial(_part, fields, path=path, person=person)
        betas = part("betas", None)[:10]
        gender = a_text(_item(fields, "genders", path, person), f"{path}: key genders")
        world = bodies.skinning(gender).joints(part("poses", frames, 72), betas, part("trans", frames, 3))
        poses = 1000 * (np.einsum("tab,tjb->tja", motion[:, :3, :3], world) + motion[:, None, :3, 3])
        projected = camera.project(torch.from_numpy(poses)[None])[0].numpy()
        seen = _detections(part("poses2d", frames, 3, 18)) if detected else (projected, None)
        yield Recording(
            name=f"{name}/person{person}",
            subject=f"{name}/person{person}",
            action=re.sub(r"_\d+$", "", name),
            camera=camera,
            fps=FPS,
            keypoints=seen[0],
            poses=poses,
            confidence=seen[1],
            keep=part("campose_valid", frames).astype(np.bool_),
        )


def _get(fields: dict[Any, Any], key: str, path: Path) -> Any:
    if key not in fields:
        raise DataError(f"{path}: no key {key}; 3DPW's sequenceFiles have it.")
    return fields[key]


def _item(fields: dict[Any, Any], key: str, path: Path, person: int) -> Any:
    """What a key holds for one person."""
    value = _get(fields, key, path)
    people = value if isinstance(value, np.ndarray) else a_list(value, f"{path}: key {key}")
    if person >= len(people):
        raise DataError(f"{path}: key {key}: no person {person}; it has {len(people)}.")
    return people[person]


def _part(fields: dict[Any, Any], key: str, *shape: int | None, path: Path, person: int) -> Doubles:
    where = f"{path}: key {key}, person {person}"
    return an_array(_item(fields, key, path, person), where, shape, "fiub").astype(np.float64)


def _extrinsics(fields: dict[Any, Any], path: Path) -> Doubles:
    """cam_poses (T, 4, 4): world to camera, metres."""
    where = f"{path}: key cam_poses"
    return an_array(_get(fields, "cam_poses", path), where, (None, 4, 4)).astype(np.float64)


def _camera(fields: dict[Any, Any], path: Path) -> Camera:
    """The phone's lens; its principal point is the centre of the image, so it tells portrait from landscape."""
    where = f"{path}: key cam_intrinsics"
    matrix = an_array(_get(fields, "cam_intrinsics", path), where, (3, 3)).astype(np.float64)
    if not (np.isfinite(matrix).all() and (matrix[[0, 1, 0, 1], [0, 1, 2, 2]] > 0).all()):
        raise DataError(f"{where}: focal lengths and principal point must be positive; found {matrix.tolist()}.")
    cx, cy = float(matrix[0, 2]), float(matrix[1, 2])
    return Camera.create(
        fx=float(matrix[0, 0]), fy=float(matrix[1, 1]), cx=cx, cy=cy, width=float(round(2 * cx)),
        height=float(round(2 * cy)), dtype=torch.float64,
    )  # fmt: skip


def _detections(poses2d: Doubles) -> tuple[Doubles, Doubles]:
    """OpenPose's COCO-18 (T, 3, 18) -> h36m17 keypoints (T, 17, 2) px, NaN where missing, and confidence (T, 17)."""
    coco, wanted = get_skeleton("coco17"), get_skeleton("h36m17")
    rows = [_COCO18.index(joint) for joint in coco.joints]
    x, y, sure = torch.from_numpy(poses2d[:, :, rows]).unbind(1)
    pixels = torch.stack((x, y), -1).masked_fill((sure <= 0).unsqueeze(-1), torch.nan)
    return convert_joints(pixels, coco, wanted).numpy(), convert_confidence(sure, coco, wanted).numpy()

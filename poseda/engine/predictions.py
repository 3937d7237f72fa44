"""Predicted poses as files that others read: npz, JSON, BVH."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from poseda.data.clips import Clips
from poseda.data.mocap.bvh_writer import write_bvh
from poseda.errors import ConfigError
from poseda.files.atomic import atomic_write
from poseda.geometry.root import root_from_keypoints
from poseda.lifters.inference import LiftedClips

FRAME = "camera: x right, y down, z forward; relative to the root"
FORMATS = (".npz", ".json", ".bvh")


def save_predictions(path: str | Path, lifted: LiftedClips, clips: Clips) -> tuple[Path, ...]:
    """Write predictions in the format that the suffix of `path` names, and return the files.

    .npz and .json hold poses (F, J, 3) mm relative to the root, sigma (F, J) mm and radius90 (F, J) mm where there
    are any, the root (F, 3) mm that fits the 2D (NaN, in JSON null, where none does), joint names, sequences with
    their bounds, and frames a second. .bvh holds one sequence a file: with several, the sequence's number is added to
    the name. Raises ConfigError for another suffix.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ConfigError(f"output={path} must end in {', '.join(FORMATS)}.")
    root = estimated_root(lifted.poses, clips)
    if path.suffix == ".bvh":
        return _save_bvh(path, lifted, clips, root)
    arrays = _arrays(lifted, clips, root)
    if path.suffix == ".npz":
        write: Any = partial(_write_npz, arrays=arrays)
    else:
        plain = {name: _plain(value) for name, value in arrays.items()}
        write = json.dumps(plain, allow_nan=False).encode()
    atomic_write(path, write)
    return (path,)


@torch.no_grad()
def estimated_root(poses: Tensor, clips: Clips) -> Tensor:
    """Root (F, 3) mm in the camera frame at which poses (F, J, 3) mm fit the clips' 2D; NaN where nothing does."""
    rays = clips.cameras[clips.camera_index].unproject(clips.keypoints)
    root, valid = root_from_keypoints(poses, rays, clips.confidence)
    return torch.where(valid.unsqueeze(-1), root, torch.nan)


def _arrays(lifted: LiftedClips, clips: Clips, root: Tensor) -> dict[str, Any]:
    arrays = {
        "poses": lifted.poses.cpu().numpy(),
        "root": root.cpu().numpy(),
        "joints": np.array(clips.skeleton.joints),
        "parents": np.array(clips.skeleton.parents),
        "bounds": clips.bounds.cpu().numpy(),
        "sequences": np.array([sequence.name for sequence in clips.sequences]),
        "fps": np.array(clips.fps),
        "units": np.array("mm"),
        "frame": np.array(FRAME),
    }
    if lifted.sigma is not None:
        arrays["sigma"] = lifted.sigma.cpu().numpy()
    if lifted.radius90 is not None:
        arrays["radius90"] = lifted.radius90.cpu().numpy()
    return arrays


def _write_npz(file: BinaryIO, arrays: dict[str, Any]) -> None:
    np.savez_compressed(file, allow_pickle=False, **arrays)


def _plain(value: Any) -> Any:
    """An array as JSON values, numbers to a thousandth of a millimetre, what is not finite as null."""
    if value.dtype.kind == "f":
        rounded = np.asarray(np.round(value.astype(np.float64), 3), dtype=object)
        rounded[~np.isfinite(value)] = None
        return rounded.tolist()
    return value.tolist()


def _save_bvh(path: Path, lifted: LiftedClips, clips: Clips, root: Tensor) -> tuple[Path, ...]:
    """One file a sequence; a root that could not be found is taken from the nearest frame that has one."""
    files = []
    for number, (first, end) in enumerate(pairwise(clips.bounds.tolist())):
        name = path if len(clips.sequences) == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        place = _filled(root[first:end].cpu().double().numpy())
        joints = lifted.poses[first:end].cpu().double().numpy() + place[:, None]
        write_bvh(name, joints, clips.skeleton, clips.fps)
        files.append(name)
    return tuple(files)


def _filled(root: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    known = np.flatnonzero(np.isfinite(root).all(-1))
    if not len(known):
        return np.zeros_like(root)
    frames = np.arange(len(root))
    return np.stack([np.interp(frames, known, root[known, axis]) for axis in range(3)], axis=-1)


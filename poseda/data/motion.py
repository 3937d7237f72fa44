"""World-space motion capture in one npz file, seen through a rig: real motion with known cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseda.data.clips import LabelledClips, Provenance
from poseda.data.views import Take, see_takes
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.files.checks import an_array
from poseda.files.json_files import load_json
from poseda.files.npz import Npz, open_npz
from poseda.geometry.rigs import Rig, load_rig
from poseda.geometry.rotations import yaw_matrix
from poseda.skeleton import get_skeleton

LARGEST_BYTES = 4 << 30
DEFAULT_FPS = 50.0


@dataclass(frozen=True)
class Motion:
    """Trials of a motion file: joints (F, 17, 3) mm, world, z up; bounds (S + 1,); keys 'subject/trial'."""

    joints: Tensor
    bounds: Tensor
    keys: tuple[str, ...]
    actions: tuple[str, ...]
    fps: float
    licence: str

    @property
    def subjects(self) -> tuple[str, ...]:
        """The person of each trial."""
        return tuple(_subject(key) for key in self.keys)


def motion_keys(path: str | Path) -> tuple[str, ...]:
    """Sorted keys 'subject/trial' of a motion file, without reading the motion."""
    with _open(Path(path)) as archive:
        keys = tuple(sorted(archive.keys))
    wrong = [key for key in keys if len(key.split("/")) != 2 or not all(key.split("/"))]
    if wrong or not keys:
        found = f"key '{wrong[0]}'" if wrong else "no key"
        raise DataError(f"{path}: {found} found; expected keys of the form 'subject/trial'.")
    return keys


def motion_subjects(path: str | Path) -> tuple[str, ...]:
    """Sorted names of the people in a motion file."""
    return tuple(sorted({_subject(key) for key in motion_keys(path)}))


def load_motion(path: str | Path, subjects: SequenceOf[str] | None = None) -> Motion:
    """The trials of some subjects (all where None) of a motion npz: 'subject/trial' -> (T, 17, 3) metres, z
    up.

    A file of the same name that ends in .json may hold fps, licence and trials[key].action. Raises
    MissingDataError for a missing file, ConfigError for an unknown subject, DataError that names file, key
    and frame for bad data.
    """
    path = Path(path)
    keys = motion_keys(path)
    keys = keys if subjects is None else _chosen(path, keys, subjects)
    with _open(path) as archive:
        trials = [_read_trial(archive, key) for key in keys]
    counts = torch.tensor([0, *(len(trial) for trial in trials)])
    joints = torch.from_numpy(np.concatenate(trials)) * 1000.0
    bounds = counts.cumsum(0)
    _check_motion(path, joints, bounds, keys)
    about = _read_about(path.with_suffix(".json"))
    details = about.get("trials", {})
    actions = tuple(str(details.get(key, {}).get("action", "")) for key in keys)
    licence = str(about.get("licence", "unknown"))
    return Motion(joints, bounds, keys, actions, float(about.get("fps", DEFAULT_FPS)), licence)


def read_motion(
    path: str | Path,
    rig: Rig | str,
    *,
    subjects: SequenceOf[str] | None = None,
    spread_mm: float = 500.0,
    seed: int = 0,
) -> LabelledClips:
    """Motion of some subjects (all where None) through every camera of their group of a rig, as labelled
    clips.

    Each trial is turned by a seeded yaw and moved so that its mean root lies within `spread_mm` (in world x
    and y) of the point where the rig's axes meet. A subject named like a group of the rig gets that group;
    others take turns.
    """
    rig = load_rig(rig) if isinstance(rig, str) else rig
    everyone = motion_keys(path)
    motion = load_motion(path, subjects)
    chosen = torch.tensor([everyone.index(key) for key in motion.keys])
    # drawn for every trial of the file, so that a trial's place does not depend on who else is read
    draws = torch.rand(len(everyone), 3, generator=torch.Generator().manual_seed(seed))[chosen]
    offset = (draws[:, 1:] * 2 - 1) * spread_mm
    world = place_takes(motion.joints, motion.bounds, draws[:, 0] * 2 * math.pi, offset, rig.centre_mm)
    groups = _groups(sorted({_subject(key) for key in everyone}), rig)
    takes = [
        Take(key, _subject(key), action, groups[_subject(key)])
        for key, action in zip(motion.keys, motion.actions, strict=True)
    ]
    notes = f"motion of {Path(path).name} through the cameras of {rig.name}, seed {seed}"
    if rig.assumed_extrinsics:
        notes += "; some extrinsics of this rig are assumed, not published"
    provenance = Provenance(f"{Path(path).stem}-{rig.name}", "motion", motion.licence, "metric", "gt", notes)
    return see_takes(world, motion.bounds, takes, rig.cameras, get_skeleton("h36m17"), motion.fps, provenance)


def _subject(key: str) -> str:
    return key.split("/")[0]


def _open(path: Path) -> Npz:
    if not path.is_file():
        raise MissingDataError(f"no motion file {path}: expected an npz of 'subject/trial' -> (T, 17, 3) metres, z up.")
    return open_npz(path, limit=LARGEST_BYTES)


def _read_trial(archive: Npz, key: str) -> NDArray[np.float32]:
    trial = an_array(archive.array(key, "f"), f"{archive.path}: key '{key}'", (None, 17, 3), "f")
    if len(trial) == 0:
        raise DataError(f"{archive.path}: key '{key}' holds no frame; expected (T, 17, 3), T at least 1.")
    return np.ascontiguousarray(trial, dtype=np.float32)


def _check_motion(path: Path, joints: Tensor, bounds: Tensor, keys: tuple[str, ...]) -> None:
    broken = ~joints.isfinite().flatten(1).all(-1)
    if bool(broken.any()):
        frame = int(broken.to(torch.uint8).argmax())
        trial = int(torch.searchsorted(bounds, frame, right=True)) - 1
        raise DataError(
            f"{path}: key '{keys[trial]}', frame {frame - int(bounds[trial])} has a joint that is not finite."
        )
    thigh = float((joints[:, 2] - joints[:, 1]).norm(dim=-1).median())
    if not 100.0 < thigh < 1000.0:
        raise DataError(f"{path}: the median right thigh is {thigh / 1000:.3g} m long; motion must be in metres.")


def _chosen(path: Path, keys: tuple[str, ...], subjects: SequenceOf[str]) -> tuple[str, ...]:
    known = sorted({_subject(key) for key in keys})
    unknown = sorted(set(subjects) - set(known))
    if unknown or not subjects:
        asked = f"no subject {', '.join(unknown)}" if unknown else "no subject was asked for"
        raise ConfigError(f"{path}: {asked}. Known: {', '.join(known)}.")
    return tuple(key for key in keys if _subject(key) in set(subjects))


def _read_about(path: Path) -> dict[str, Any]:
    """The optional JSON beside a motion file."""
    if not path.is_file():
        return {}
    about = load_json(path)
    trials = about.get("trials", {}) if isinstance(about, dict) else None
    if not isinstance(trials, dict) or not all(isinstance(trial, dict) for trial in trials.values()):
        raise DataError(f"{path}: expected an object whose 'trials' maps keys to objects.")
    if about.get("up", "z") != "z":
        raise DataError(f"{path}: up is '{about['up']}'; motion must be z up.")
    if not isinstance(about.get("fps", DEFAULT_FPS), (int, float)):
        raise DataError(f"{path}: fps is {about['fps']!r}; expected a number.")
    return dict(about)


def place_takes(joints: Tensor, bounds: Tensor, yaw: Tensor, offset: Tensor, centre: Tensor) -> Tensor:
    """World joints (F, J, 3) mm of S takes, each turned by yaw (S,) rad and moved so that its mean root stands at
    centre (3,) + offset (S, 2) mm; heights stay.
    """
    lengths = bounds.diff()
    trial = torch.arange(len(lengths)).repeat_interleave(lengths)
    sums = torch.zeros(len(lengths), 3).index_add_(0, trial, joints[:, 0])
    mean = sums / lengths.unsqueeze(-1)
    mean[:, 2] = 0.0
    goal = torch.cat([centre[:2].to(offset) + offset, torch.zeros(len(lengths), 1)], dim=-1)
    turned = (joints - mean[trial].unsqueeze(1)) @ yaw_matrix(yaw).mT[trial]  # (F, J, 3) @ (F, 3, 3)
    return turned + goal[trial].unsqueeze(1)


def _groups(subjects: SequenceOf[str], rig: Rig) -> dict[str, tuple[int, ...]]:
    """The cameras of each subject."""
    names = list(rig.groups)
    return {
        subject: rig.groups[subject if subject in rig.groups else names[turn % len(names)]]
        for turn, subject in enumerate(subjects)
    }

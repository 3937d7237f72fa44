"""AMASS: motion capture of many laboratories as SMPL+H or SMPL-X bodies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from poseda.data.body_files import LICENCE as BODY_LICENCE
from poseda.data.body_files import Bodies
from poseda.data.body_model import Doubles
from poseda.data.recordings import RawDataset, RawOptions, Unit, WorldTake
from poseda.errors import DataError, MissingDataError
from poseda.files.checks import a_number, a_text, an_array
from poseda.files.npz import Npz, open_npz
from poseda.skeleton import get_skeleton

TITLE = "AMASS (Archive of Motion Capture as Surface Shapes)"
SITE = "https://amass.is.tue.mpg.de"
LAYOUTS = (
    "<subset>/<subject>/<motion>_poses.npz (SMPL+H), with body_model=<your SMPL+H or SMPL folder>",
    "<subset>/<subject>/<motion>_stageii.npz (SMPL-X), with body_model=<your SMPL-X folder>",
)
USES = ("body_model", "rig", "test_subjects", "seed")
FPS = 50.0
_BODY_COLUMNS = 66  # the root and 21 joints, which all three models share
_ENDINGS = {"_poses.npz": ("SMPL+H", "SMPL"), "_stageii.npz": ("SMPL-X",)}
"""End of a file's name -> body models that can pose it; shape.npz and neutral_stagei.npz hold no motion."""
_NOTES = "the floor is each laboratory's own; shape coefficients beyond the body model's are left out"


def open_raw(raw: Path, options: RawOptions) -> RawDataset:
    """All motions under a folder, or one file. Raises MissingDataError, ConfigError and DataError."""
    files = [raw] if raw.is_file() else sorted(raw.rglob("*.npz"), key=lambda file: (file.parent, file.name))
    found = {ending: [file for file in files if file.name.endswith(ending)] for ending in _ENDINGS}
    endings = [ending for ending, group in found.items() if group]
    if not endings:
        raise MissingDataError(f"{raw}: no AMASS there; looked for {'; '.join(LAYOUTS)}; get it from {SITE}.")
    if len(endings) > 1:
        raise DataError(f"{raw}: SMPL+H and SMPL-X motions, which may be the same ones; give a folder of one of them.")
    group, families = found[endings[0]], _ENDINGS[endings[0]]
    bodies = Bodies.find(options.body_model, families)
    hands = ["SMPL poses SMPL+H's motions: its hands rest"] if bodies.family == "SMPL" else []
    return RawDataset(
        name="amass", recognised=f"AMASS, {families[0]}: motions {len(group)}, {bodies.found}",
        skeleton=get_skeleton("h36m17"), fps=FPS,
        licence=f"AMASS: non-commercial research only ({SITE}/license.html); {BODY_LICENCE}", label_scale="metric",
        keypoints="gt", units=tuple(_units(raw, group, bodies)), kind="motion",
        notes="; ".join(filter(None, [_NOTES, *hands, bodies.notes])),
    )  # fmt: skip


def _units(raw: Path, files: Sequence[Path], bodies: Bodies) -> Iterator[Unit]:
    """One unit a subject: <subset>/<subject>."""
    for folder, group in groupby(files, key=lambda file: file.parent):
        part = tuple(group)
        subject = folder.relative_to(raw).as_posix() if folder.is_relative_to(raw) else folder.name
        subject = raw.absolute().name if subject == "." else subject
        yield Unit(subject, None, (*part, *bodies.paths), partial(_read, part, subject, bodies))


def _read(files: Sequence[Path], subject: str, bodies: Bodies) -> Iterator[WorldTake]:
    """One take a file."""
    for file in files:
        with open_npz(file) as archive:
            skinning = bodies.skinning(_gender(archive, file))
            betas = _array(archive, "betas", file, (None,))[: skinning.rest_shapes.shape[-1]]
            poses = _array(archive, "poses", file, (None, None))
            trans = _array(archive, "trans", file, (len(poses), 3))
            fps = _rate(archive, file)
        joints = skinning.joints(_fit(poses, 3 * len(skinning.parents), file), betas, trans)
        motion = file.stem.rpartition("_")[0]
        yield WorldTake(f"{subject}/{motion}", subject, "", fps, 1000 * joints)


def _fit(poses: Doubles, columns: int, file: Path) -> Doubles:
    """Poses (T, n) for a model of that many columns: SMPL has two hands where SMPL+H has fingers; they stay at rest."""
    if poses.shape[1] == columns:
        return poses
    if poses.shape[1] != 156:
        known = f"the body model has {columns} (SMPL+H 156, SMPL-X 165)"
        raise DataError(f"{file}: key poses: {poses.shape[1]} columns; {known}.")
    return np.pad(poses[:, :_BODY_COLUMNS], ((0, 0), (0, columns - _BODY_COLUMNS)))


def _array(archive: Npz, key: str, file: Path, shape: tuple[int | None, ...]) -> Doubles:
    where = f"{file}: key {key}"
    if key not in archive:
        raise DataError(f"{where}: not there; AMASS's motions have it.")
    return an_array(archive.array(key), where, shape).astype(np.float64)


def _gender(archive: Npz, file: Path) -> str:
    """gender: a text or bytes, in an array of no dimensions; neutral where it is not there."""
    if "gender" not in archive:
        return "neutral"
    where = f"{file}: key gender"
    if archive.dtype("gender").kind == "O":
        return a_text(archive.objects("gender"), where)
    return a_text(archive.array("gender", "US"), where)


def _rate(archive: Npz, file: Path) -> float:
    """Frames a second: mocap_framerate in SMPL+H files, mocap_frame_rate in SMPL-X ones."""
    key = next((key for key in ("mocap_framerate", "mocap_frame_rate") if key in archive), None)
    if key is None:
        raise DataError(f"{file}: no key mocap_framerate or mocap_frame_rate; AMASS's motions have one.")
    rate = a_number(archive.array(key), f"{file}: key {key}")
    if not 1 <= rate <= 1000:
        raise DataError(f"{file}: key {key}: {rate:g} frames/s is no motion capture's rate.")
    return rate

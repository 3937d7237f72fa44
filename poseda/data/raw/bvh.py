"""BVH files of any motion capture system or animation program, through a rig of cameras.

Joints are found by the names that common programs give them, or by a mapping file, JSON:

    {"joints": {"thorax": "Neck", "head": "Head_end", "pelvis": ["LeftUpLeg", "RightUpLeg"]},
     "unit_m": 0.01, "up": "y", "name": "mine", "licence": "my own"}

All fields are optional. "joints" gives h36m17 joints as a joint of the file, or as the middle of two; an End Site is
"<parent>_end". Joints that it leaves out are found by name. "unit_m" is the file's unit in metres, "up" its upward axis
(x y z -x -y -z). Without them, the unit is the one of m, cm, mm, inch and CMU's in which the person is 1.2 to 2.2 m
tall by the bones' lengths, and up is the axis along which the head is above the feet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from poseda.data.mocap.bvh import Bvh, read_bvh
from poseda.data.mocap.cgspeed import MARKS, mend_bones, without_t_pose
from poseda.data.mocap.joint_names import (
    JOINTS,
    Recipe,
    feet,
    find_joints,
    names_found,
    read_recipe,
    standing_height,
    take_joints,
)
from poseda.data.mocap.kinematics import TO_Z_UP, Array, on_floor
from poseda.data.recordings import RawDataset, RawOptions, Unit, WorldTake
from poseda.errors import DataError, MissingDataError
from poseda.files.checks import a_dict, a_number, a_text
from poseda.files.json_files import load_json
from poseda.skeleton import get_skeleton

TITLE = "BVH motion capture"
SITE = "your own motion capture"
LAYOUTS = (
    "<subject>/.../<take>.bvh: folders are subjects",
    "<subject>_<take>.bvh in one folder: the part before the first underscore is the subject",
    "mapping=<JSON> for joints of other names, units and upward axis",
)
USES = ("mapping", "rig", "test_subjects", "seed")
FPS = 50.0
UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "CMU unit": 0.0254 / 0.45}
_FIELDS = ("joints", "unit_m", "up", "name", "licence")
_SHORTEST_M, _TALLEST_M = 1.2, 2.2
_UPRIGHT = 0.8


@dataclass(frozen=True)
class _Mapping:
    """What the mapping file says."""

    where: str = ""
    joints: dict[str, Any] = field(default_factory=dict)
    unit_m: float | None = None
    up: str = ""
    name: str = "bvh"
    licence: str = "not stated in the files: the owner's terms"


def open_raw(raw: Path, options: RawOptions) -> RawDataset:
    """All BVH files under a folder, or one file; unit and upward axis are taken from the first one.

    Raises MissingDataError without a file, DataError where joints, unit or upward axis cannot be told.
    """
    files = [raw] if raw.is_file() else sorted(file for file in raw.rglob("*") if file.suffix.lower() == ".bvh")
    if not files:
        raise MissingDataError(f"{raw}: no .bvh file there.")
    mapping = _read_mapping(options.mapping)
    first = _load(files[0])
    points, recipe = first.positions(), _recipe(first, mapping)
    joints = take_joints(points, first.index, recipe)
    unit, up = _unit(joints, mapping, files[0]), _up(joints, mapping, files[0])
    extra = (Path(options.mapping),) if options.mapping else ()
    return RawDataset(
        name=mapping.name,
        recognised=f"{len(files)} BVH files, {_said(unit)}, {up} up",
        skeleton=get_skeleton("h36m17"),
        fps=FPS,
        licence=mapping.licence,
        label_scale="metric",
        keypoints="gt",
        units=tuple(
            Unit(_name(file, raw), None, (file, *extra), partial(_read, file, raw, mapping, unit, up)) for file in files
        ),
        kind="motion",
        notes="joints: " + ", ".join(f"{joint}={'+'.join(recipe[joint])}" for joint in JOINTS),
    )


def _said(unit: float) -> str:
    known = [name for name, metres in UNITS_M.items() if abs(metres - unit) < 1e-6 * metres]
    return f"in {known[0]}" if known else f"in units of {unit:g} m"


def _read_mapping(path: str) -> _Mapping:
    """The mapping file, checked field by field; an empty one where no path is given."""
    if not path:
        return _Mapping()
    given = a_dict(load_json(Path(path)), path)
    unknown = sorted(set(given) - set(_FIELDS))
    if unknown:
        raise DataError(f"{path}: {unknown[0]}: no such field; known: {', '.join(_FIELDS)}.")
    values: dict[str, Any] = {"where": path, "joints": a_dict(given.get("joints", {}), f"{path}: joints")}
    if "unit_m" in given:
        values["unit_m"] = a_number(given["unit_m"], f"{path}: unit_m")
        if values["unit_m"] <= 0:
            raise DataError(f"{path}: unit_m: is {given['unit_m']}; expected metres above 0.")
    for key in set(given) & {"up", "name", "licence"}:
        values[key] = a_text(given[key], f"{path}: {key}")
    if values.get("up", "y") not in TO_Z_UP:
        raise DataError(f"{path}: up: is '{values['up']}'; expected one of {', '.join(TO_Z_UP)}.")
    return _Mapping(**values)


def _load(file: Path) -> Bvh:
    """A file, with the flaws of CMU's widespread conversion mended."""
    motion = read_bvh(file)
    return mend_bones(without_t_pose(motion), None) if set(motion.names) >= MARKS else motion


def _recipe(motion: Bvh, mapping: _Mapping) -> Recipe:
    """Which joints of the file are which: the mapping's, then those found by name."""
    given = read_recipe(mapping.joints, motion, f"{mapping.where}: joints")
    found = find_joints(motion)
    missing = [joint for joint in found.missing if joint not in given]
    if missing:
        raise DataError(
            f"{motion.path}: {', '.join(missing)} not found by name; say which they are in mapping=<JSON>, "
            f'{{"joints": {{"{missing[0]}": "..."}}}}; {names_found(motion)}'
        )
    return {**found.recipe, **given}


def _unit(joints: Array, mapping: _Mapping, file: Path) -> float:
    """The file's unit in metres."""
    height = standing_height(joints)  # in the file's units, whatever they are
    if mapping.unit_m is not None:
        return mapping.unit_m
    fits = [metres for metres in UNITS_M.values() if _SHORTEST_M <= height * metres <= _TALLEST_M]
    if len(fits) != 1:
        raise DataError(
            f"{file}: a person {height:.4g} units tall is {_SHORTEST_M} to {_TALLEST_M} m tall in {len(fits)} of "
            f"{', '.join(UNITS_M)}; give unit_m in mapping=<JSON>."
        )
    return fits[0]


def _up(joints: Array, mapping: _Mapping, file: Path) -> str:
    """The axis along which the head is above the feet, on average over the file."""
    if mapping.up:
        return mapping.up
    rise = joints[:, JOINTS.index("head")] - joints[:, [JOINTS.index("lankle"), JOINTS.index("rankle")]].mean(1)
    mean = (rise / np.linalg.norm(rise, axis=-1, keepdims=True)).mean(0)
    axis = int(np.abs(mean).argmax())
    if not abs(mean[axis]) >= _UPRIGHT:
        raise DataError(f"{file}: nobody stands upright along one axis, so up is unknown; give up in mapping=<JSON>.")
    return ("" if mean[axis] > 0 else "-") + "xyz"[axis]


def _name(file: Path, raw: Path) -> str:
    return file.stem if raw.is_file() else file.relative_to(raw).with_suffix("").as_posix()


def _read(file: Path, raw: Path, mapping: _Mapping, unit: float, up: str) -> Iterator[WorldTake]:
    """The one take of a file."""
    motion = _load(file)
    recipe = _recipe(motion, mapping)
    points = motion.positions() * (1000 * unit) @ TO_Z_UP[up].T
    joints = take_joints(points, motion.index, recipe)
    height = standing_height(joints) / 1000
    if not _SHORTEST_M <= height <= _TALLEST_M:
        raise DataError(f"{file}: the person is {height:.3g} m tall {_said(unit)}; prepare it on its own.")
    ankles = [motion.index[name] for side in "lr" for name in recipe[f"{side}ankle"]]
    name = _name(file, raw)
    folder, _, take = name.rpartition("/")
    subject = folder.split("/")[0] or name.partition("_")[0]
    yield WorldTake(name, subject, take, motion.fps, on_floor(joints, points[:, feet(motion.parents, ankles)]))

"""The mapping file of data of one's own, read and checked field by field; what its fields mean is in the package."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from poseda.data.clips import LabelScale
from poseda.data.mocap.kinematics import TO_Z_UP
from poseda.errors import DataError, MissingDataError, PosedaError, choose
from poseda.files.checks import a_dict, a_list, a_number, a_text, an_array
from poseda.files.json_files import load_json
from poseda.geometry.camera import Camera
from poseda.skeleton import Skeleton, get_skeleton

_FIELDS = ("name", "licence", "skeleton", "joints", "fps", "units", "frame", "up", "label_scale", "detector", "cameras",
           "recordings")  # fmt: skip
_ENTRY_FIELDS = ("files", "name", "subject", "action", "split", "fps", "poses", "keypoints", "confidence", "camera")
_TEXTS = {"name": "mapped", "licence": "not stated", "detector": "gt"}
_PLACE_FIELDS = ("file", "key", "index")
_CAMERA_NUMBERS = ("fx", "fy", "cx", "cy", "width", "height")
_CAMERA_OPTIONAL: dict[str, tuple[int | None, ...]] = {"radial": (3,), "tangential": (2,), "R": (3, 3), "t": (3,)}
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Place:
    """Where an array is."""

    where: str
    """The field that says so, for messages: "map.json: recordings[3].poses"."""
    file: str
    """Pattern of another file than the recording's; "" for the recording's own."""
    key: str
    index: tuple[int, ...]
    path: Path = Path()
    """The file, once it is known."""


@dataclass(frozen=True)
class Entry:
    """One entry of "recordings"."""

    where: str
    files: str
    name: str
    subject: str
    action: str
    split: str
    fps: float | None
    places: dict[str, Place]
    """poses, keypoints and confidence, as far as they are given."""
    camera: str | Camera | None


@dataclass(frozen=True)
class Mapping:
    """A whole mapping file."""

    path: Path
    name: str
    licence: str
    skeleton: Skeleton
    joints: tuple[str, ...]
    """Names of the files' joints in their order."""
    fps: float | None
    units: str
    frame: str
    up: str
    label_scale: LabelScale
    detector: str
    cameras: dict[str, Camera] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()

    @property
    def scale(self) -> float:
        """Millimetres in one unit."""
        return {"mm": 1.0, "m": 1000.0}[self.units]

    @property
    def order(self) -> list[int]:
        """Places of the skeleton's joints among the files' joints."""
        return [self.joints.index(joint) for joint in self.skeleton.joints]

    def camera_of(self, entry: Entry, values: dict[str, str]) -> Camera | None:
        """The camera of one file of an entry, float64. Raises DataError for an unknown name."""
        if not isinstance(entry.camera, str):
            return entry.camera
        name = fill(entry.camera, values, f"{entry.where}.camera")
        return self.cameras[_choice(name, tuple(self.cameras), f"{entry.where}.camera")]


def read_mapping(path: Path) -> Mapping:
    """Read and check a mapping file. Raises MissingDataError, and DataError that names the field."""
    given = _fields(load_json(path), _FIELDS, f"{path}: ", str(path))
    where = f"{path}: "
    units = _one_of(given, "units", ("mm", "m"), where)
    scale = {"mm": 1.0, "m": 1000.0}[units]
    skeleton = _skeleton(given.get("skeleton", "h36m17"), f"{where}skeleton")
    cameras = a_dict(given.get("cameras", {}), f"{where}cameras")
    mapping = Mapping(
        path=path,
        **{key: a_text(given.get(key, absent), f"{where}{key}") for key, absent in _TEXTS.items()},
        skeleton=skeleton,
        joints=_joints(given, skeleton, f"{where}joints"),
        fps=_rate(given, where),
        units=units,
        frame=_one_of(given, "frame", ("camera", "world"), where),
        up=_one_of(given, "up", tuple(TO_Z_UP), where),
        label_scale=_label_scale(given, where),
        cameras={name: _camera(value, scale, f"{where}cameras.{name}") for name, value in cameras.items()},
        entries=tuple(
            _entry(value, scale, f"{where}recordings[{number}]")
            for number, value in enumerate(a_list(given.get("recordings"), f"{where}recordings"))
        ),
    )
    _check_entries(mapping)
    return mapping


def _fields(value: object, known: Sequence[str], prefix: str, where: str) -> dict[str, Any]:
    """An object all of whose fields are known."""
    given = a_dict(value, where)
    for name in given:
        _choice(name, tuple(known), f"{prefix}{name}", "no such field")
    return given


def _choice(name: str, known: tuple[str, ...], where: str, said: str = "") -> str:
    """`name` if it is known; DataError with the known names and the nearest otherwise."""
    try:
        return choose(name, known, "field" if said else "name")
    except PosedaError as error:
        raise DataError(f"{where}: {error}") from None


def _one_of(given: dict[str, Any], name: str, known: tuple[str, ...], where: str) -> str:
    """A text that is one of some; the first where it is absent."""
    return _choice(a_text(given.get(name, known[0]), f"{where}{name}"), known, f"{where}{name}")


def _label_scale(given: dict[str, Any], where: str) -> LabelScale:
    said = _one_of(given, "label_scale", ("metric", "universal"), where)
    return "universal" if said == "universal" else "metric"


def _rate(given: dict[str, Any], where: str) -> float | None:
    if "fps" not in given:
        return None
    rate = a_number(given["fps"], f"{where}fps")
    if rate <= 0:
        raise DataError(f"{where}fps: is {rate:g}; expected frames a second above 0.")
    return rate


def _skeleton(value: object, where: str) -> Skeleton:
    if isinstance(value, str):
        try:
            return get_skeleton(value)
        except PosedaError as error:
            raise DataError(f"{where}: {error}") from None
    given = _fields(value, ("name", "joints", "parents"), f"{where}.", where)
    joints = tuple(a_text(joint, f"{where}.joints") for joint in a_list(given.get("joints"), f"{where}.joints"))
    parents = an_array(given.get("parents"), f"{where}.parents", (len(joints),), "iu")
    try:
        return Skeleton(a_text(given.get("name", "mapped"), f"{where}.name"), joints, tuple(map(int, parents)))
    except PosedaError as error:
        raise DataError(f"{where}: {error}") from None


def _joints(given: dict[str, Any], skeleton: Skeleton, where: str) -> tuple[str, ...]:
    """Names of the files' joints; each of the skeleton's must be there once."""
    if "joints" not in given:
        return skeleton.joints
    joints = tuple(a_text(joint, where) for joint in a_list(given["joints"], where))
    wrong = [joint for joint in skeleton.joints if joints.count(joint) != 1]
    if wrong:
        raise DataError(f"{where}: '{wrong[0]}' is there {joints.count(wrong[0])} times; it must be there once.")
    return joints


def _entry(value: object, scale: float, where: str) -> Entry:
    given = _fields(value, _ENTRY_FIELDS, f"{where}.", where)
    texts = {
        name: a_text(given.get(name, ""), f"{where}.{name}") for name in ("files", "name", "subject", "action", "split")
    }
    kinds: tuple[str, ...] = ("poses", "keypoints", "confidence")
    places = {name: _place(given[name], f"{where}.{name}") for name in kinds if name in given}
    camera = given.get("camera")
    if camera is not None and not isinstance(camera, str):
        camera = _camera(camera, scale, f"{where}.camera")
    _check_path(texts["files"], f"{where}.files")
    return Entry(where=where, fps=_rate(given, f"{where}."), places=places, camera=camera, **texts)


def _place(value: object, where: str) -> Place:
    if isinstance(value, str):
        return Place(where, "", value, ())
    given = _fields(value, _PLACE_FIELDS, f"{where}.", where)
    index = given.get("index", [])
    indices = [index] if isinstance(index, int) else a_list(index, f"{where}.index")
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in indices):
        raise DataError(f"{where}.index: is {index}; expected a whole number or a list of them.")
    file = a_text(given.get("file", ""), f"{where}.file")
    _check_path(file, f"{where}.file")
    return Place(where, file, a_text(given.get("key", ""), f"{where}.key"), tuple(indices))


def _check_path(pattern: str, where: str) -> None:
    """A mapping file reads under raw only, whoever wrote it."""
    path = PurePosixPath(pattern)
    if path.is_absolute() or ".." in path.parts or "\\" in pattern:
        raise DataError(f"{where}: '{pattern}' leads out of raw; give a path below it, with /.")


def _camera(value: object, scale: float, where: str) -> Camera:
    """A camera in px and mm, float64, from its fields."""
    known = (*_CAMERA_NUMBERS, *_CAMERA_OPTIONAL, "tangential_factor")
    given = _fields(value, known, f"{where}.", where)
    lacking = [name for name in _CAMERA_NUMBERS if name not in given]
    if lacking:
        raise DataError(f"{where}.{lacking[0]}: is missing; a camera needs {', '.join(_CAMERA_NUMBERS)}.")
    single = (*_CAMERA_NUMBERS, "tangential_factor")
    numbers: dict[str, Any] = {name: a_number(given[name], f"{where}.{name}") for name in single if name in given}
    for name, shape in _CAMERA_OPTIONAL.items():
        if name in given:
            array = an_array(given[name], f"{where}.{name}", shape).astype(np.float64)
            numbers[name] = torch.from_numpy(array * scale if name == "t" else array)
    for name in ("fx", "fy", "width", "height"):
        if numbers[name] <= 0:
            raise DataError(f"{where}.{name}: is {numbers[name]:g}; expected pixels above 0.")
    rotation = numbers.get("R", torch.eye(3, dtype=torch.float64))
    if not torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64), atol=1e-3) or rotation.det() < 0:
        raise DataError(f"{where}.R: is no rotation; expected world to camera, 3 x 3.")
    return Camera.create(**numbers, dtype=torch.float64)


def _check_entries(mapping: Mapping) -> None:
    """What fields ask of each other."""
    if not mapping.entries:
        raise DataError(f"{mapping.path}: recordings: is empty; expected at least one.")
    for entry in mapping.entries:
        if mapping.fps is None and entry.fps is None:
            raise DataError(f"{entry.where}.fps: is missing, and so is fps of the whole file.")
        if not {"poses", "keypoints"} & set(entry.places):
            raise DataError(f"{entry.where}: has neither poses nor keypoints.")
        if "confidence" in entry.places and "keypoints" not in entry.places:
            raise DataError(f"{entry.where}.confidence: is given without keypoints.")
        needs = "keypoints" in entry.places or mapping.frame == "camera"
        if entry.camera is None and (needs or any(other.camera is not None for other in mapping.entries)):
            raise DataError(f"{entry.where}.camera: is missing; only poses in a world that a rig shall see need none.")


def fill(template: str, values: dict[str, str], where: str) -> str:
    """A text with its {placeholders} replaced. Raises DataError for one that the file's pattern does not have."""
    unknown = [name for name in _PLACEHOLDER.findall(template) if name not in values]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in values) or "none"
        raise DataError(f"{where}: there is no {{{unknown[0]}}} in files; it has {known}.")
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def expand(entry: Entry, raw: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Files that an entry's pattern matches, sorted, with what its placeholders stand for.

    Raises MissingDataError where none does.
    """
    if not entry.files:
        if not raw.is_file():
            raise DataError(f"{entry.where}.files: is missing, and raw is a folder; say which files in it.")
        yield raw, {}
        return
    root = raw.parent if raw.is_file() else raw
    wildcard, regex = _patterns(entry.files)
    found = [(file, match) for file in sorted(root.glob(wildcard)) if file.is_file()
             and (match := regex.fullmatch(file.relative_to(root).as_posix()))]  # fmt: skip
    if not found:
        raise MissingDataError(f"{entry.where}.files: no file under {root} matches '{entry.files}'.")
    for file, match in found:
        yield file, match.groupdict()


def _patterns(files: str) -> tuple[str, re.Pattern[str]]:
    """For the file system, and to take names apart; a placeholder that comes again must stand for the same."""
    wildcard, regex = "", ""
    seen: set[str] = set()
    for place, part in enumerate(_PLACEHOLDER.split(files)):
        if place % 2 == 0:
            wildcard, regex = wildcard + glob.escape(part), regex + re.escape(part)
        else:
            wildcard, regex = wildcard + "*", regex + (f"(?P={part})" if part in seen else f"(?P<{part}>[^/]+)")
            seen.add(part)
    return wildcard, re.compile(regex)

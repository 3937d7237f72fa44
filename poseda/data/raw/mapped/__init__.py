"""Data of one's own: a JSON file says where keypoints, poses and cameras are (docs/datasets.md).

    {"name": "mine", "licence": "my own", "skeleton": "h36m17", "fps": 50, "units": "m", "frame": "world",
     "recordings": [{"files": "data/{subject}/{action}.npz", "subject": "{subject}", "action": "{action}",
                     "poses": {"key": "joints3d"}, "keypoints": {"key": "joints2d"}, "camera": "left"}],
     "cameras": {"left": {"fx": 1145, "fy": 1145, "cx": 500, "cy": 500, "width": 1000, "height": 1000,
                          "R": [[1, 0, 0], [0, 0, -1], [0, 1, 0]], "t": [0, 0, 5]}}}

| field | meaning |
|---|---|
| name, licence | of the domain |
| skeleton | a name (h36m17 ...) or {"name", "joints", "parents"} |
| joints | names of the files' joints in their order, where that is not the skeleton's; others are left out |
| fps | frames a second; a recording may have its own |
| units | "mm" (default) or "m": of poses and of a camera's t |
| frame | "camera" (default; x right, y down, z forward) or "world" |
| up | "z" (default), "y", "-y" ...: of a world without cameras, which a rig then sees |
| label_scale | "metric" (default) or "universal" |
| detector | name of what made the keypoints; default gt |
| cameras | name -> camera: fx fy cx cy width height px; radial, tangential, tangential_factor; R, t from the world |
| recordings | a list; each stands for all files that its pattern matches |

| field of a recording | meaning |
|---|---|
| files | path under raw, with {placeholders} for parts of names; default: raw itself, if it is a file |
| name, subject, action | texts with these placeholders; name defaults to the path, subject to the name |
| split | train or test, or a text with these placeholders; all recordings have one, or none |
| poses | where (T, J, 3) or (T, 3 J) is: {"key", "index", "file"}, or the key alone |
| keypoints | where (T, J, 2) px is, or (T, J, 3) with confidence; default: the poses as the camera sees them |
| confidence | where (T, J) in 0..1 is |
| camera | a camera, or a name out of cameras |
| fps | frames a second |

key: name in an npz or HDF5 file, path such as "people.0.joints" in a JSON file, nothing for an npy file. index: one or
several numbers for leading dimensions, such as which camera of (C, T, J, 2). file: another file's path, with the
placeholders. Poses in a world are brought into the camera's frame by R and t.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from poseda.data.mocap.kinematics import TO_Z_UP
from poseda.data.raw.mapped.arrays import read_array
from poseda.data.raw.mapped.schema import Entry, Mapping, Place, expand, fill, read_mapping
from poseda.data.recordings import RawDataset, RawOptions, Recording, Split, Unit, WorldTake
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.geometry.camera import Camera

TITLE = "data of your own, by a mapping file"
SITE = "your own files"
LAYOUTS = ("mapping=<JSON> says which npz, npy, JSON or HDF5 files hold what",)
USES = ("mapping", "rig", "test_subjects", "seed")

Floats = NDArray[np.float64]


def open_raw(raw: Path, options: RawOptions) -> RawDataset:
    """What a mapping file describes; no array is read yet.

    Raises ConfigError without a mapping, DataError that names the field of a wrong one ("recordings[3].poses.key"),
    MissingDataError where a pattern matches no file.
    """
    if not options.mapping:
        raise ConfigError("dataset=mapped needs mapping=<JSON file>: docs/datasets.md says what is in it.")
    path = Path(options.mapping)
    mapping = read_mapping(path)
    files = [(entry, *found) for entry in mapping.entries for found in expand(entry, raw)]
    units = [_unit(mapping, entry, raw, file, values) for entry, file, values in files]
    _check_units(units, path)
    seen = any(entry.camera is not None for entry in mapping.entries)
    return RawDataset(
        name=mapping.name,
        recognised=f"{len(units)} recordings by {path.name}, {mapping.units}, {mapping.frame} frame",
        skeleton=mapping.skeleton,
        fps=mapping.fps or mapping.entries[0].fps or 0.0,
        licence=mapping.licence,
        label_scale=mapping.label_scale,
        keypoints=mapping.detector,
        units=tuple(units),
        kind="real" if seen else "motion",
    )


def _check_units(units: list[Unit], path: Path) -> None:
    names = [unit.name for unit in units]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise DataError(f"{path}: recordings: two are named '{double[0]}'; give each a name of its own.")
    if len({unit.split is None for unit in units}) > 1:
        lacking = next(unit.name for unit in units if unit.split is None)
        raise DataError(f"{path}: recordings: '{lacking}' has no split where others have; give all a split or none.")


def _unit(mapping: Mapping, entry: Entry, raw: Path, file: Path, values: dict[str, str]) -> Unit:
    """One file of an entry."""
    root = raw.parent if raw.is_file() else raw
    default = file.relative_to(root).with_suffix("").as_posix()
    name = fill(entry.name, values, f"{entry.where}.name") if entry.name else default
    split = fill(entry.split, values, f"{entry.where}.split")
    if split not in ("", "train", "test"):
        raise DataError(f"{entry.where}.split: is '{split}'; expected train or test.")
    wanted: Split | None = "train" if split == "train" else "test" if split == "test" else None
    places = {kind: _filled(place, values, root, file) for kind, place in entry.places.items()}
    files = dict.fromkeys([file, *(place.path for place in places.values()), mapping.path])
    facts = {
        "name": name,
        "subject": fill(entry.subject, values, f"{entry.where}.subject") if entry.subject else name,
        "action": fill(entry.action, values, f"{entry.where}.action"),
    }
    camera = mapping.camera_of(entry, values)
    return Unit(name, wanted, tuple(files), partial(_read, mapping, entry, facts, places, camera))


def _filled(place: Place, values: dict[str, str], root: Path, file: Path) -> Place:
    """A place with its placeholders filled, and its file found."""
    other = fill(place.file, values, f"{place.where}.file")
    path = root / other if other else file
    if not path.is_file():
        raise MissingDataError(f"{place.where}.file: there is no {path}.")
    return Place(place.where, other, fill(place.key, values, f"{place.where}.key"), place.index, path)


def _read(
    mapping: Mapping, entry: Entry, facts: dict[str, str], places: dict[str, Place], camera: Camera | None
) -> Iterator[Recording | WorldTake]:
    """The one recording of a file."""
    fps = entry.fps or mapping.fps or 0.0
    poses = _joints(mapping, places["poses"], (3,)) * mapping.scale if "poses" in places else None
    if camera is None and poses is not None:
        yield WorldTake(fps=fps, joints=poses @ TO_Z_UP[mapping.up].T, **facts)
        return
    assert camera is not None  # the schema asks for a camera where there are keypoints
    if poses is not None and mapping.frame == "world":
        poses = camera.world_to_camera(torch.from_numpy(poses)[None])[0].numpy()
    keypoints, confidence = _keypoints(mapping, places, poses, camera)
    yield Recording(
        name=facts["name"],
        subject=facts["subject"],
        action=facts["action"],
        camera=camera.to(dtype=torch.float32),
        fps=fps,
        keypoints=keypoints,
        poses=poses,
        confidence=confidence,
    )


def _keypoints(
    mapping: Mapping, places: dict[str, Place], poses: Floats | None, camera: Camera
) -> tuple[Floats, Floats | None]:
    """2D in px and its confidence, as in the files or as the camera sees the poses."""
    if "keypoints" not in places:
        return camera.project(torch.from_numpy(poses)[None])[0].numpy(), None
    found = _joints(mapping, places["keypoints"], (2, 3))
    keypoints, confidence = found[..., :2], found[..., 2] if found.shape[-1] == 3 else None
    if "confidence" in places:
        confidence = _joints(mapping, places["confidence"], (1,))[..., 0]
    for kind, other in (("poses", poses), ("confidence", confidence)):
        if other is not None and len(other) != len(keypoints):
            where = places.get(kind, places["keypoints"]).where
            raise DataError(f"{where}: has {len(other)} frames, the keypoints {len(keypoints)}; they must be as many.")
    return keypoints, confidence


def _joints(mapping: Mapping, place: Place, sizes: tuple[int, ...]) -> Floats:
    """(T, J, D) of one place in the skeleton's order, D one of `sizes`; (T, J D) is taken apart."""
    found: NDArray[Any] = read_array(place)
    count = len(mapping.joints)
    for size in sizes:
        if found.shape[1:] in ((count, size), (count * size,)) and len(found):
            return np.asarray(found.reshape(-1, count, size)[:, mapping.order], dtype=np.float64)
    wanted = " or ".join(f"(T, {count}, {size})" if size > 1 else f"(T, {count})" for size in sizes)
    raise DataError(f"{place.where}: {place.path}: '{place.key}' has shape {found.shape}; expected {wanted}.")

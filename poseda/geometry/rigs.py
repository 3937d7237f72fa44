"""Camera rigs: the published cameras of the data sets as JSON, and any other file of the same layout.

    {"source": text, "fps": 50, "centre_mm": [x, y, z],
     "cameras": [{"id": "0", "resolution": [w, h], "fx": .., "fy": .., "cx": .., "cy": ..,
                  "distortion": "none" | "opencv" | "h36m", "radial": [k1, k2, k3], "tangential": [p1, p2],
                  "R": 3x3 world to camera, "t": [x, y, z] mm, "extrinsics": "published" | "assumed",
                  "group": "S1"}, ...]}

The world has z up; R and t give x_cam = R X + t. `group` (default "all") is whose cameras these are. Instead
of, or besides, `cameras` a rig may take other rigs' cameras: "parts": [{"of": "3dhp_train", "cameras":
["0"]}], all of them where it lists none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from torch import Tensor

from poseda.errors import DataError, MissingDataError, choose
from poseda.geometry.camera import Camera

_FACTORS = {"none": 2.0, "opencv": 2.0, "h36m": 1.0}
_FOLDER = resources.files("poseda.geometry") / "rigs"


@dataclass(frozen=True, eq=False)
class Rig:
    """Cameras that belong together, in one world with z up; millimetres and pixels."""

    name: str
    """Name or file of the rig."""
    camera_names: tuple[str, ...]
    """One per camera; "<group>/<id>" where there are several groups."""
    cameras: Camera
    """(C,) cameras."""
    centre_mm: Tensor
    """(3,) world point where the optical axes meet: where the people are."""
    fps: float
    """Frames per second of the recordings."""
    source: str
    """Where the numbers are from, and what was assumed."""
    assumed_extrinsics: bool
    """True when the pose of any camera is assumed, because none is published."""
    groups: dict[str, tuple[int, ...]]
    """Indices of the cameras of each subject, or of "all"."""


def list_rigs() -> tuple[str, ...]:
    """Names of the rigs that come with the package."""
    return tuple(sorted(entry.name.removesuffix(".json") for entry in _FOLDER.iterdir()))


def load_rig(name_or_path: str, dtype: torch.dtype = torch.float32) -> Rig:
    """A rig of the package by name, or from the path of a JSON file of the same layout.

    Raises ConfigError for an unknown name, MissingDataError for a file that is not there, and DataError that
    names file, camera and field for one that is not a rig.
    """
    data, name = _read(name_or_path)
    cameras = _camera_list(data, name, ())
    grouped = [str(camera.get("group", "all")) for camera in cameras]
    several = len(set(grouped)) > 1
    ids = [str(camera["id"]) for camera in cameras]
    names = [f"{group}/{label}" if several else label for group, label in zip(grouped, ids, strict=True)]
    parsed = [_camera(entry, f"{name}, camera {label}") for label, entry in zip(names, cameras, strict=True)]
    return Rig(
        name=name,
        camera_names=tuple(names),
        cameras=Camera.cat(parsed).to(dtype=dtype),
        centre_mm=_numbers(data, "centre_mm", (3,), name).to(dtype),
        fps=float(_numbers(data, "fps", (), name)),
        source=str(data.get("source", "")),
        assumed_extrinsics=any(camera.get("extrinsics") != "published" for camera in cameras),
        groups={key: tuple(i for i, group in enumerate(grouped) if group == key) for key in grouped},
    )


def _read(name_or_path: str) -> tuple[dict[str, object], str]:
    """The JSON object and the name to use in messages."""
    file: Traversable
    if name_or_path.endswith(".json") or "/" in name_or_path:
        file, name = Path(name_or_path), name_or_path
    else:
        file, name = _FOLDER / f"{choose(name_or_path, list_rigs(), 'camera rig')}.json", name_or_path
    if not file.is_file():
        raise MissingDataError(f"There is no rig file {name}.")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"Rig {name}: not JSON ({error}).") from None
    if not isinstance(data, dict):
        raise DataError(f"Rig {name}: expected a JSON object with 'cameras' or 'parts'.")
    return data, name


def _camera_list(data: dict[str, object], name: str, above: tuple[str, ...]) -> list[dict[str, object]]:
    """The camera entries of a rig, those of its parts included."""
    if name in above:
        raise DataError(f"Rig {name}: is a part of itself.")
    found: list[dict[str, object]] = []
    for part in _objects(data.get("parts", []), name, "parts"):
        whole, part_name = _read(str(part.get("of", "")))
        cameras = _camera_list(whole, part_name, (*above, name))
        known = {str(camera["id"]): camera for camera in cameras}
        wanted = part.get("cameras", list(known))
        if not isinstance(wanted, list) or any(str(key) not in known for key in wanted):
            raise DataError(f"Rig {name}: 'parts' asks {part_name} for cameras it does not have: {wanted}.")
        found += [known[str(key)] for key in wanted] if "cameras" in part else cameras
    found += _objects(data.get("cameras", []), name, "cameras")
    if not found or any("id" not in camera for camera in found):
        raise DataError(f"Rig {name}: needs at least one camera, each with an 'id'.")
    return found


def _objects(value: object, name: str, key: str) -> list[dict[str, object]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise DataError(f"Rig {name}: '{key}' must be a list of objects.")
    return value


def _numbers(entry: dict[str, object], key: str, shape: tuple[int, ...], where: str) -> Tensor:
    """Finite float64 numbers of a given shape, or DataError that says which field of which rig is wrong."""
    try:
        value = torch.tensor(entry.get(key), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        value = torch.empty(0)
    if tuple(value.shape) != shape or not bool(value.isfinite().all()):
        raise DataError(f"Rig {where}: '{key}' must be finite numbers of shape {shape}.")
    return value


def _camera(entry: dict[str, object], where: str) -> Camera:
    """One float64 camera from its checked JSON entry."""
    model = choose(str(entry.get("distortion", "none")), _FACTORS, f"distortion (rig {where})")
    width, height = _numbers(entry, "resolution", (2,), where)
    fx, fy, cx, cy = (_numbers(entry, key, (), where) for key in ("fx", "fy", "cx", "cy"))
    if min(width, height, fx, fy) <= 0:
        raise DataError(f"Rig {where}: 'resolution', 'fx' and 'fy' must be positive.")
    straight = model == "none"
    return Camera.create(
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        radial=torch.zeros(3) if straight else _numbers(entry, "radial", (3,), where),
        tangential=torch.zeros(2) if straight else _numbers(entry, "tangential", (2,), where),
        width=width,
        height=height,
        tangential_factor=_FACTORS[model],
        R=_rotation(_numbers(entry, "R", (3, 3), where), where),
        t=_numbers(entry, "t", (3,), where),
        dtype=torch.float64,
    )


def _rotation(matrix: Tensor, where: str) -> Tensor:
    """The rotation nearest to a printed one, whose seven digits are orthonormal to 3e-7 only."""
    u, scale, v = torch.linalg.svd(matrix)
    if bool((scale - 1).abs().max() > 1e-3) or bool(torch.linalg.det(matrix) < 0):
        raise DataError(f"Rig {where}: 'R' is not a rotation matrix (world to camera, right-handed).")
    rotation: Tensor = u @ v
    return rotation

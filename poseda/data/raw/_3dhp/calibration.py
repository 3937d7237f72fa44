"""camera.calibration: one header line, then seven lines a camera, in a world with y up and millimetres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from poseda.data.recordings import Floats
from poseda.errors import DataError
from poseda.files.opening import file_size
from poseda.geometry.camera import Camera

_LIMIT = 1 << 20
_HEADER = "Skeletool Camera Calibration File"
_Y_UP_FROM_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # (x, y, z)_up = (x, z, -y)
_SHAPES: dict[str, tuple[int, ...]] = {"size": (2,), "intrinsic": (4, 4), "extrinsic": (4, 4)}
_NEEDED = (*_SHAPES, "radial")


def read_calibration(path: Path) -> dict[str, Camera]:
    """Cameras by name ("0" to "13") from camera.calibration: float64, px and mm, in our world with z up.

    `intrinsic` and `extrinsic` are 4x4 by rows, the extrinsic world to camera. Raises DataError that names file, camera
    and line for what is not so, and for lens distortion, which the data set's files do not have.
    """
    file_size(path, _LIMIT)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or not lines[0].startswith(_HEADER):
        raise DataError(f"{path}: line 1 is not '{_HEADER} ...'; give the data set's own file, or remove it.")
    entries: dict[str, dict[str, list[str]]] = {}
    values: dict[str, list[str]] = {}
    for key, *words in filter(None, map(str.split, lines[1:])):
        if key == "name":
            values = entries.setdefault(" ".join(words), {})
        values[key] = words
    return {name: _camera(values, f"{path}: camera {name}") for name, values in entries.items()}


def _camera(values: dict[str, list[str]], where: str) -> Camera:
    missing = [key for key in _NEEDED if key not in values]
    if missing:
        raise DataError(f"{where}: has no line '{missing[0]}'; the file is incomplete.")
    size, intrinsic, extrinsic = (_numbers(values[key], shape, f"{where}: {key}") for key, shape in _SHAPES.items())
    if np.any(_numbers(values["radial"], (len(values["radial"]),), f"{where}: radial")):
        raise DataError(f"{where}: radial is not 0; the lens model behind these numbers is not published.")
    if min(*size, intrinsic[0, 0], intrinsic[1, 1]) <= 0:
        raise DataError(f"{where}: size and focal length must be positive.")
    return Camera.create(
        fx=intrinsic[0, 0],
        fy=intrinsic[1, 1],
        cx=intrinsic[0, 2],
        cy=intrinsic[1, 2],
        width=size[0],
        height=size[1],
        R=torch.from_numpy(_rotation(extrinsic[:3, :3], where) @ _Y_UP_FROM_Z_UP),
        t=torch.from_numpy(extrinsic[:3, 3].copy()),
        dtype=torch.float64,
    )


def _numbers(words: list[str], shape: tuple[int, ...], where: str) -> Floats:
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.array([np.nan])
    if values.size != np.prod(shape) or not np.isfinite(values).all():
        raise DataError(f"{where}: expected {int(np.prod(shape))} finite numbers.")
    return values.reshape(shape)


def _rotation(matrix: Floats, where: str) -> Floats:
    """The rotation nearest to a printed one of seven digits."""
    u, scale, v = np.linalg.svd(matrix)
    if np.abs(scale - 1).max() > 1e-3 or np.linalg.det(matrix) < 0:
        raise DataError(f"{where}: extrinsic does not begin with a rotation (world to camera, right-handed).")
    rotation: Floats = u @ v
    return rotation

"""The JSON header of an archive, to and from objects; every field of an untrusted one is checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

import torch

from poseda.data.clips import Clips, Kind, LabelScale, Provenance, Sequence
from poseda.errors import DataError
from poseda.geometry.camera import Camera
from poseda.skeleton import SKELETONS, Skeleton

MAGIC = "poseda_archive"
VERSION = 1

_CAMERA_SHAPES: dict[str, tuple[int, ...]] = {
    **{name: () for name in ("fx", "fy", "cx", "cy", "width", "height", "tangential_factor")},
    **{"radial": (3,), "tangential": (2,), "R": (3, 3), "t": (3,)},
}
_OPTIONAL = {"radial": [0.0] * 3, "tangential": [0.0] * 2, "tangential_factor": 2.0,
             "R": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "t": [0.0] * 3}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Header:
    """What an archive says beside its tensors; the fields are those of Clips."""

    sequences: tuple[Sequence, ...]
    cameras: Camera
    skeleton: Skeleton
    fps: float
    provenance: Provenance


def header_fields(header: Header | Clips) -> dict[str, Any]:
    """A header, or the header of clips, as plain JSON values."""
    known = SKELETONS.get(header.skeleton.name) == header.skeleton
    columns = {name: getattr(header.cameras, name).tolist() for name in _CAMERA_SHAPES}
    return {
        "skeleton": header.skeleton.name if known else asdict(header.skeleton),
        "fps": header.fps,
        "provenance": asdict(header.provenance),
        "cameras": [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)],
        "sequences": [asdict(sequence) for sequence in header.sequences],
    }


def parse_header(content: object) -> Header:
    """A header from untrusted JSON values. Raises DataError that names the field."""
    header = _object(content, "header", {field.name for field in fields(Header)})
    sequences = tuple(_sequence(entry, number) for number, entry in enumerate(_list(header, "sequences")))
    return Header(
        sequences=sequences,
        cameras=_cameras(_list(header, "cameras")),
        skeleton=_skeleton(header["skeleton"]),
        fps=_number(header["fps"], "fps"),
        provenance=_provenance(header["provenance"]),
    )


def _sequence(entry: object, number: int) -> Sequence:
    where = f"sequences[{number}]"
    values = _object(entry, where, {"name", "subject", "action", "camera"})
    for name in ("name", "subject", "action"):
        _text(values[name], f"{where}.{name}")
    if type(values["camera"]) is not int:
        raise DataError(f"{where}.camera is {_short(values['camera'])}; expected a whole number.")
    return Sequence(**values)


def _provenance(entry: object) -> Provenance:
    values = {
        "notes": "",
        **_object(entry, "provenance", {field.name for field in fields(Provenance)} - {"notes"}),
    }
    for name, value in values.items():
        _text(value, f"provenance.{name}")
    for name, choices in (("kind", get_args(Kind)), ("label_scale", get_args(LabelScale))):
        if values[name] not in choices:
            raise DataError(f"provenance.{name} is {_short(values[name])}; expected one of {', '.join(choices)}.")
    known = {field.name for field in fields(Provenance)}
    strange = sorted(set(values) - known)
    if strange:
        raise DataError(f"provenance.{strange[0][:40]} is unknown; fields: {', '.join(sorted(known))}.")
    return Provenance(**values)


def _skeleton(entry: object) -> Skeleton:
    if isinstance(entry, str):
        if entry not in SKELETONS:
            raise DataError(f"skeleton {_short(entry)} is unknown; known: {', '.join(SKELETONS)}; or give joints.")
        return SKELETONS[entry]
    values = _object(entry, "skeleton", {"name", "joints", "parents"})
    _text(values["name"], "skeleton.name")
    joints, parents = _list(values, "joints"), _list(values, "parents")
    for joint in joints:
        _text(joint, "skeleton.joints")
    if not joints or not all(joints) or not all(type(parent) is int for parent in parents):
        raise DataError("skeleton: joints must be names and parents whole numbers.")
    return Skeleton(values["name"], tuple(joints), tuple(parents))


def _cameras(entries: list[Any]) -> Camera:
    if not entries:
        raise DataError("cameras is empty; each sequence needs one.")
    needed = set(_CAMERA_SHAPES) - set(_OPTIONAL)
    cameras = [{**_OPTIONAL, **_object(entry, f"cameras[{i}]", needed)} for i, entry in enumerate(entries)]
    for number, camera in enumerate(cameras):
        strange = sorted(set(camera) - set(_CAMERA_SHAPES))
        if strange:
            raise DataError(f"cameras[{number}].{strange[0][:40]} is unknown; fields: {', '.join(_CAMERA_SHAPES)}.")
        for name, shape in _CAMERA_SHAPES.items():
            _numbers(camera[name], shape, f"cameras[{number}].{name}")
        _check_camera(camera, f"cameras[{number}]")
    columns = {name: torch.tensor([camera[name] for camera in cameras]).float() for name in _CAMERA_SHAPES}
    return Camera(**columns)


def _check_camera(camera: Mapping[str, Any], where: str) -> None:
    for name in ("fx", "fy", "width", "height"):
        if not camera[name] > 0:
            raise DataError(f"{where}.{name} is {camera[name]}; expected a positive number of pixels.")
    rotation = torch.tensor(camera["R"], dtype=torch.float64)
    off = (rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max()
    if off > 1e-3 or torch.linalg.det(rotation) < 0:
        raise DataError(f"{where}.R is not a rotation (world to camera, right-handed).")


def _object(value: object, where: str, needed: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} is {_short(value)}; expected an object.")
    missing = sorted(needed - set(value))
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}.")
    return value


def _list(values: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(values[name], list):
        raise DataError(f"{name} is {_short(values[name])}; expected a list.")
    return list(values[name])


def _text(value: object, where: str) -> None:
    if not isinstance(value, str):
        raise DataError(f"{where} is {_short(value)}; expected text.")


def _number(value: object, where: str) -> float:
    _numbers(value, (), where)
    return float(value)  # type: ignore[arg-type]


def _numbers(value: object, shape: tuple[int, ...], where: str) -> None:
    """Nested lists of finite numbers of exactly this shape, or DataError."""
    if shape:
        if not isinstance(value, list) or len(value) != shape[0]:
            raise DataError(f"{where} is {_short(value)}; expected a list of {shape[0]}.")
        for entry in value:
            _numbers(entry, shape[1:], where)
    elif type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e9:  # type: ignore[arg-type]
        raise DataError(f"{where} is {_short(value)}; expected a finite number.")


def _short(value: object) -> str:
    return repr(value)[:60]

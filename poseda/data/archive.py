"""A domain on disk: one safetensors file with a JSON header (docs/archive.md). No pickle."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from poseda.data.checks import check_pose_shape, check_structure
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.data.header import MAGIC, VERSION, Header, header_fields, parse_header
from poseda.errors import DataError, MissingDataError, PosedaError
from poseda.files.atomic import naming

_TENSORS = {"keypoints": (torch.float32, 3), "confidence": (torch.float32, 2), "bounds": (torch.int64, 1)}
_POSES = {"poses": (torch.float32, 3)}
_SCORED = {"scored": (torch.bool, 1)}
_LARGEST_METADATA = 64 << 20  # characters


def save_archive(path: str | Path, clips: LabelledClips | UnlabelledClips) -> None:
    """Write clips as one archive; an existing file is replaced at once, never half."""
    path = Path(path)
    names = (*_TENSORS, *(_POSES if isinstance(clips, LabelledClips) else ()))
    if isinstance(clips, LabelledClips) and clips.scored is not None:
        names += tuple(_SCORED)
    tensors = {name: getattr(clips, name).detach().cpu().contiguous() for name in names}
    metadata = {MAGIC: str(VERSION), "header": json.dumps(header_fields(clips))}
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            _save_file(tensors, temporary, metadata)
            os.chmod(temporary, 0o644)  # a temporary file is its owner's alone
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)


def _save_file(tensors: dict[str, Tensor], path: str, metadata: dict[str, str]) -> None:
    """save_file, with a full disk as the OSError that it is."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error


@dataclass(frozen=True, eq=False)
class Archive:
    """An archive that was opened: its header is read, its tensors are mapped, and its frames have not been looked
    at.
    """

    path: Path
    """The file."""
    header: Header
    """Sequences, cameras, skeleton, frame rate, provenance."""
    tensors: Mapping[str, Tensor]
    """keypoints, confidence, bounds and, with labels, poses and perhaps scored: mapped to the file."""
    record: Mapping[str, Any]
    """What `python -m poseda.prepare` wrote about its making: raw files with hashes, counts, options; else empty."""

    @property
    def labelled(self) -> bool:
        """Whether it holds 3D."""
        return "poses" in self.tensors

    @property
    def num_frames(self) -> int:
        """F, over all sequences."""
        return int(self.tensors["keypoints"].shape[0])

    @property
    def num_scored(self) -> int:
        """Frames that results are computed on."""
        return int(self.tensors["scored"].sum()) if "scored" in self.tensors else self.num_frames

    def clips(self) -> LabelledClips | UnlabelledClips:
        """The clips, every frame checked. Raises DataError that names the file, the sequence and the frame."""
        values: dict[str, Any] = {**self.tensors, **self.header.__dict__}
        try:
            return LabelledClips(**values) if self.labelled else UnlabelledClips(**values)
        except PosedaError as error:
            raise DataError(f"{self.path}: {error}") from None

    def unchecked(self) -> LabelledClips | UnlabelledClips:
        """The clips as they are, for a doctor: shapes and bounds fit, frames may hold anything. Raises DataError."""
        clips = object.__new__(LabelledClips) if self.labelled else object.__new__(UnlabelledClips)
        for name, value in {"scored": None, **self.tensors, **self.header.__dict__}.items():
            object.__setattr__(clips, name, value)
        try:
            check_structure(clips)
            if isinstance(clips, LabelledClips):
                check_pose_shape(clips)
        except PosedaError as error:
            raise DataError(f"{self.path}: {error}") from None
        return clips


def load_archive(path: str | Path) -> LabelledClips | UnlabelledClips:
    """Read an archive; with poses it is LabelledClips, without UnlabelledClips. The tensors stay mapped to
    the file.

    A file from anywhere may be read: each field and size is checked. Raises MissingDataError, or DataError
    that names the file and the field.
    """
    return open_archive(path).clips()


def open_archive(path: str | Path) -> Archive:
    """Open an archive in a time that does not grow with its frames: header, names, types and shapes are checked.

    Raises MissingDataError, or DataError that names the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"no archive {path}: docs/archive.md shows how to write one.")
    try:
        with safe_open(path, framework="pt") as file:
            header, record = _read_metadata(file)
            return Archive(path, header, _read_tensors(file), record)
    except (SafetensorError, OSError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable safetensors file ({error}).") from None
    except PosedaError as error:
        raise DataError(f"{path}: {error}") from None


def _read_metadata(file: Any) -> tuple[Header, dict[str, Any]]:
    metadata = file.metadata() or {}
    if MAGIC not in metadata or "header" not in metadata:
        raise DataError(f"not a poseda archive: its metadata lacks '{MAGIC}' or 'header' (docs/archive.md).")
    if metadata[MAGIC] != str(VERSION):
        raise DataError(f"archive version '{metadata[MAGIC][:20]}'; this poseda reads version {VERSION}.")
    record = _json(metadata.get("prepared", "{}"), "record of its making")
    if not isinstance(record, dict):
        raise DataError("the record of its making is not a JSON object.")
    return parse_header(_json(metadata["header"], "header")), record


def _json(text: str, what: str) -> object:
    if len(text) > _LARGEST_METADATA:
        raise DataError(f"the {what} is longer than {_LARGEST_METADATA} characters.")
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"the {what} is not JSON ({error}).") from None


def _read_tensors(file: Any) -> dict[str, Tensor]:
    """The archive's tensors; others than these, or of another type or rank, are refused."""
    names = set(file.keys())
    wanted = _TENSORS | (_POSES if "poses" in names else {})
    wanted |= _SCORED if {"poses", "scored"} <= names else {}
    if names != set(wanted):
        missing, strange = sorted(set(wanted) - names), sorted(names - set(wanted))
        what = f"lacks the tensor {missing[0]}" if missing else f"holds an unknown tensor {strange[0][:40]!r}"
        raise DataError(f"{what}; expected keypoints, confidence, bounds and, with labels, poses and perhaps scored.")
    tensors = {name: file.get_tensor(name) for name in wanted}
    for name, (dtype, dims) in wanted.items():
        tensor = tensors[name]
        if tensor.dtype != dtype or tensor.dim() != dims:
            found = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            expected = f"{str(dtype).removeprefix('torch.')} with {dims} dimensions"
            raise DataError(f"{name} is {found}; expected {expected}.")
    return tensors

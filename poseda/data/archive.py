"""A domain on disk: one safetensors file with a JSON header (docs/archive.md). No pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.data.header import MAGIC, VERSION, Header, header_of, parse_header
from poseda.errors import DataError, MissingDataError, PosedaError

_TENSORS = {"keypoints": (torch.float32, 3), "confidence": (torch.float32, 2), "bounds": (torch.int64, 1)}
_POSES = {"poses": (torch.float32, 3)}
_LARGEST_METADATA = 64 << 20  # characters


def save_archive(path: str | Path, clips: LabelledClips | UnlabelledClips) -> None:
    """Write clips as one archive; an existing file is replaced at once, never half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = (*_TENSORS, *_POSES) if isinstance(clips, LabelledClips) else tuple(_TENSORS)
    tensors = {name: getattr(clips, name).detach().cpu().contiguous() for name in names}
    metadata = {MAGIC: str(VERSION), "header": json.dumps(header_of(clips))}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=metadata)
        os.chmod(temporary, 0o644)  # a temporary file is its owner's alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_archive(path: str | Path) -> LabelledClips | UnlabelledClips:
    """Read an archive; with poses it is LabelledClips, without UnlabelledClips. The tensors stay mapped to
    the file.

    A file from anywhere may be read: each field and size is checked. Raises MissingDataError, or DataError
    that names the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"no archive {path}: docs/archive.md shows how to write one.")
    try:
        with safe_open(path, framework="pt") as file:
            header = _read_header(file)
            tensors = _read_tensors(file)
    except (SafetensorError, OSError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable safetensors file ({error}).") from None
    except PosedaError as error:
        raise DataError(f"{path}: {error}") from None
    try:
        return _make(header, tensors)
    except PosedaError as error:
        raise DataError(f"{path}: {error}") from None


def _read_header(file: Any) -> Header:
    metadata = file.metadata() or {}
    if MAGIC not in metadata or "header" not in metadata:
        raise DataError(f"not a poseda archive: its metadata lacks '{MAGIC}' or 'header' (docs/archive.md).")
    if metadata[MAGIC] != str(VERSION):
        raise DataError(f"archive version '{metadata[MAGIC][:20]}'; this poseda reads version {VERSION}.")
    if len(metadata["header"]) > _LARGEST_METADATA:
        raise DataError(f"the header is longer than {_LARGEST_METADATA} characters.")
    try:
        content = json.loads(metadata["header"])
    except ValueError as error:
        raise DataError(f"the header is not JSON ({error}).") from None
    return parse_header(content)


def _read_tensors(file: Any) -> dict[str, Tensor]:
    """The archive's tensors; others than these, or of another type or rank, are refused."""
    names = set(file.keys())
    wanted = _TENSORS | (_POSES if "poses" in names else {})
    if names != set(wanted):
        missing, strange = sorted(set(wanted) - names), sorted(names - set(wanted))
        what = f"lacks the tensor {missing[0]}" if missing else f"holds an unknown tensor {strange[0][:40]!r}"
        raise DataError(f"{what}; expected keypoints, confidence, bounds and, with labels, poses.")
    tensors = {name: file.get_tensor(name) for name in wanted}
    for name, (dtype, dims) in wanted.items():
        tensor = tensors[name]
        if tensor.dtype != dtype or tensor.dim() != dims:
            found = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            expected = f"{str(dtype).removeprefix('torch.')} with {dims} dimensions"
            raise DataError(f"{name} is {found}; expected {expected}.")
    return tensors


def _make(header: Header, tensors: dict[str, Tensor]) -> LabelledClips | UnlabelledClips:
    values: dict[str, Any] = {**tensors, **header.__dict__}
    return LabelledClips(**values) if "poses" in values else UnlabelledClips(**values)

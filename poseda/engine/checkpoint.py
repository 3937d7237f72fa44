"""Lifters and training states on disk: atomic, without pickle, checked before a weight is used."""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.overrides import TorchFunctionMode

from poseda.errors import CheckpointError, MissingDataError, PosedaError
from poseda.files.atomic import atomic_write as atomic_write
from poseda.lifters import create_lifter, list_lifters
from poseda.lifters.base import Lifter, LifterConfig, one_line

FORMAT = 1
NORMALISATION = "screen-width"
"""Input convention of all lifters: x / w * 2 - 1, y / w * 2 - h / w (geometry.camera.normalise_screen)."""
HEADER_LIMIT = 8 << 20
_STORED = {"float32": torch.float32, "float16": torch.float16}
_DRAWS = ("normal_", "uniform_")
_SAFETENSORS_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}


def save_lifter(path: Path | str, lifter: Lifter, card: Mapping[str, object], *, half: bool = False) -> None:
    """Write a lifter and its card as one safetensors file; `half` stores the weights as float16.

    The card is plain JSON: data, command, protocol, metrics. Raises CheckpointError for weights that are not
    finite (in float16, if `half`) and for a card that is not plain.
    """
    stored = "float16" if half else "float32"
    header = {**describe_lifter(lifter), "format": FORMAT, "stored": stored, "card": dict(card)}
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the card is not plain JSON ({one_line(error)}).") from error
    tensors = {key: _as_stored(value, _STORED[stored]) for key, value in lifter.state_dict().items()}
    for key, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: not written, the weight {key} is not finite in {stored}.")
    atomic_write(path, to_safetensors(tensors, metadata={"poseda": text}))


def load_lifter(
    path: Path | str, *, allow: Collection[str] = (), into: Lifter | None = None
) -> tuple[Lifter, dict[str, Any]]:
    """Read a lifter (CPU, float32, eval mode) and its card.

    A lifter of the user's own ("package.module:Class") is imported only if its name is in `allow`; a wrapped
    module is loaded `into` a freshly wrapped one. Raises MissingDataError for a missing file, else
    CheckpointError, before anything of the size that the file claims is made.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"There is no checkpoint {path}.")
    try:
        _check_size(path)
        with safe_open(path, framework="pt") as file:
            header = _read_header(path, file.metadata())
            _check_tensors(path, file, _expected_tensors(path, header, allow, into), _STORED[header["stored"]])
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, struct.error) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({one_line(error)}).") from error
    for key, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: the weight {key} is not finite; this checkpoint cannot be used.")
    lifter = into if into is not None else create_lifter(header["lifter"], seed=0, **header["options"])
    lifter.load_state_dict({key: v.float() if v.is_floating_point() else v for key, v in weights.items()})
    return lifter.eval(), header["card"]


def read_card(path: Path | str) -> tuple[tuple[str, dict[str, Any]], dict[str, Any]]:
    """((lifter name, its options), card) of a checkpoint, from its header alone. Raises as `load_lifter` does."""
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"There is no checkpoint {path}.")
    try:
        _check_size(path)
        with safe_open(path, framework="pt") as file:
            header = _read_header(path, file.metadata())
    except (SafetensorError, OSError, struct.error) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({one_line(error)}).") from error
    return (header["lifter"], with_common_options(header["options"], asdict(LifterConfig()))), header["card"]


def with_common_options(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Options with those of every lifter that are `known`: older files do not name them."""
    return {**{name: value for name, value in asdict(LifterConfig()).items() if name in known}, **options}


def save_state(path: Path | str, state: Mapping[str, object]) -> None:
    """Write a training state of plain containers, numbers, strings and tensors, atomically."""
    _check_plain(state, "state")
    atomic_write(path, lambda file: _torch_save(dict(state), file))


def _torch_save(state: dict[str, object], file: BinaryIO) -> None:
    """torch.save, with a full disk as the OSError that it is."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_state(path: Path | str) -> dict[str, Any]:
    """Read what `save_state` wrote, on the CPU; nothing but plain containers and tensors is ever built."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise CheckpointError(f"{path}: not a whole training state ({one_line(error)}).") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, not a training state.")
    return state


def describe_lifter(lifter: Lifter) -> dict[str, object]:
    """What must agree between a checkpoint and the lifter that is built from it."""
    return {
        "lifter": lifter.name,
        "options": lifter.options,
        "skeleton": lifter.skeleton.name,
        "joints": list(lifter.skeleton.joints),
        "frames": lifter.frames,
        "output": lifter.output,
        "normalisation": NORMALISATION if lifter.sees_screen else str(lifter.options["view"]),
        "units": "mm",
    }


def _check_size(path: Path) -> None:
    """Refuse a header that is longer than any of ours before the parser allocates it."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    if length > HEADER_LIMIT:
        raise CheckpointError(f"{path}: its header claims {length} bytes, more than any lifter's; not a checkpoint.")


def _read_header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The JSON header with its fields' types checked."""
    text = (metadata or {}).get("poseda")
    if text is None:
        raise CheckpointError(f"{path}: a safetensors file, but not one of poseda's lifters (no 'poseda' header).")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not JSON ({one_line(error)}).") from error
    kinds = {"lifter": str, "options": dict, "stored": str, "card": dict}
    if not isinstance(header, dict) or any(not isinstance(header.get(k), kind) for k, kind in kinds.items()):
        raise CheckpointError(f"{path}: its header lacks one of {', '.join(kinds)} or has another type there.")
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {header.get('format')!r:.20}, this version reads {FORMAT}.")
    if header["stored"] not in _STORED:
        raise CheckpointError(f"{path}: stored as {header['stored']!r:.20}, known: {', '.join(_STORED)}.")
    return header


class _ShapesAlone(TorchFunctionMode):
    """Draws nothing while a network is made on the meta device, where the first draw imports torch._dynamo (1.3 s)."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func.__name__ in _DRAWS or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _expected_tensors(
    path: Path, header: dict[str, Any], allow: Collection[str], into: Lifter | None
) -> dict[str, Tensor]:
    """State dict, without storage, of the lifter that the header describes, which it must not contradict."""
    name = header["lifter"]
    if into is None and name not in list_lifters() and name not in allow:
        hint = f"pass allow=['{name:.100}'] if you trust it" if ":" in name else "pass the module: into=wrap(module)"
        raise CheckpointError(f"{path}: holds the lifter '{name:.100}', which is not one of poseda's; {hint}.")
    if into is None:
        try:
            with torch.device("meta"), _ShapesAlone():
                lifter = create_lifter(name, seed=0, **header["options"])
        except (PosedaError, TypeError) as error:
            raise CheckpointError(f"{path}: its options do not make a {name}: {one_line(error)}") from error
    else:
        lifter = into
    for field, expected in json.loads(json.dumps(describe_lifter(lifter))).items():
        if field == "options" and isinstance(header.get(field), dict):
            header[field] = with_common_options(header[field], expected)
        if header.get(field) != expected:
            raise CheckpointError(
                f"{path}: {field} is {header.get(field)!r:.80} in the file, {expected!r:.80} in the lifter."
            )
    return lifter.state_dict()


def _check_tensors(path: Path, file: Any, expected: Mapping[str, Tensor], stored: torch.dtype) -> None:
    """Refuse missing, extra, wrongly shaped or wrongly typed tensors, from the file's index alone."""
    found = set(file.keys())
    for what, keys in (("lacks", expected.keys() - found), ("has unknown", found - expected.keys())):
        if keys:
            raise CheckpointError(f"{path}: {what} {len(keys)} tensor(s), such as '{min(keys):.80}'.")
    for key, tensor in expected.items():
        entry = file.get_slice(key)
        dtype = _SAFETENSORS_DTYPES[stored if tensor.is_floating_point() else tensor.dtype]
        if tuple(entry.get_shape()) != tuple(tensor.shape) or entry.get_dtype() != dtype:
            raise CheckpointError(
                f"{path}: {key} is {entry.get_dtype()} {entry.get_shape()}, must be {dtype} {list(tensor.shape)}."
            )


def _as_stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach().cpu()
    return (value.to(dtype) if value.is_floating_point() else value).contiguous()


def _check_plain(value: object, where: str) -> None:
    """Refuse, while there is time, what weights_only loading could not read back (a NumPy number)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif type(value) not in (int, float, bool, str, bytes, type(None)) and not isinstance(value, Tensor):
        raise CheckpointError(f"{where} is a {type(value).__name__}; a training state holds plain values and tensors.")

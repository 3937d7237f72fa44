"""Uncertainties on disk: one safetensors file, no pickle, of use with the very lifter that it was fitted on alone."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from poseda.engine.checkpoint import HEADER_LIMIT, describe_lifter
from poseda.errors import CheckpointError, ConfigError, MissingDataError, PosedaError
from poseda.files.atomic import atomic_write
from poseda.lifters.base import Lifter, one_line
from poseda.metrics.calibration import DENSITIES, get_density
from poseda.uncertainty import estimator_class
from poseda.uncertainty.base import Estimator
from poseda.uncertainty.calibrated import Uncertainty
from poseda.uncertainty.recalibration import BINS, LEVEL_GRID, Method, Recalibration

FORMAT = 1
HEADER = "poseda_uncertainty"
_FIELDS = {"estimator": str, "options": dict, "density": str, "recalibration": str, "flip": bool, "ellipsoids": bool,
           "lifter": dict, "weights": str, "about": dict}  # fmt: skip


def weights_digest(lifter: Lifter) -> str:
    """SHA-256 of a lifter's weights: names, shapes and values as they are on the CPU."""
    digest = hashlib.sha256()
    for name, value in sorted(lifter.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_uncertainty(path: Path | str, found: Uncertainty, lifter: Lifter, about: Mapping[str, object]) -> None:
    """Write a fitted uncertainty of a lifter. `about` is plain JSON: the data it was fitted on and what it scored."""
    assert found.recalibration is not None and found.reference is not None
    header = {
        "format": FORMAT,
        "estimator": found.estimator.name,
        "options": asdict(found.estimator.config),
        "density": found.density.name,
        "recalibration": found.recalibration.method,
        "flip": found.flip,
        "ellipsoids": found.recalibration.ball is not None,
        "lifter": describe_lifter(lifter),
        "weights": weights_digest(lifter),
        "about": dict(about),
    }
    named = {f"estimator.{key}": value for key, value in found.estimator.state_dict().items()}
    named |= {f"recalibration.{key}": value for key, value in found.recalibration.tensors().items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in {**named, "reference": found.reference}.items()}
    for key, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise CheckpointError(f"{path}: not written, {key} is not finite.")
    atomic_write(path, to_safetensors(tensors, metadata={HEADER: json.dumps(header, allow_nan=False)}))


def load_uncertainty(path: Path | str, lifter: Lifter) -> Uncertainty:
    """Read an uncertainty for a lifter, on the CPU. Raises MissingDataError for a missing file, CheckpointError for one
    that is damaged or belongs to another lifter or other weights.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"There is no uncertainty file {path}; python -m poseda.calibrate writes one.")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
        if length > HEADER_LIMIT:
            raise CheckpointError(f"{path}: its header claims {length} bytes; not an uncertainty file.")
        with safe_open(path, framework="pt") as stored:
            header = _read_header(path, stored.metadata(), lifter)
            _check_tensors(path, stored, _expected(path, header, lifter))
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, struct.error) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({one_line(error)}).") from error
    for key, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise CheckpointError(f"{path}: {key} is not finite; this file cannot be used.")
    estimator = _estimator(path, header, lifter)
    estimator.load_state_dict(_part(tensors, "estimator."))
    recalibration = Recalibration(header["recalibration"], **_part(tensors, "recalibration."))
    density = get_density(header["density"])
    return Uncertainty(estimator.eval(), density, header["flip"], recalibration, tensors["reference"])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _read_header(path: Path, metadata: Mapping[str, str] | None, lifter: Lifter) -> dict[str, Any]:
    """The JSON header, its fields' types checked, and that it speaks of this lifter."""
    text = (metadata or {}).get(HEADER)
    if text is None:
        raise CheckpointError(f"{path}: a safetensors file, but no uncertainty (no '{HEADER}' header).")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not JSON ({one_line(error)}).") from error
    if not isinstance(header, dict) or any(not isinstance(header.get(k), kind) for k, kind in _FIELDS.items()):
        raise CheckpointError(f"{path}: its header lacks one of {', '.join(_FIELDS)} or has another type there.")
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {header.get('format')!r:.20}, this version reads {FORMAT}.")
    if header["density"] not in DENSITIES or header["recalibration"] not in get_args(Method):
        raise CheckpointError(f"{path}: density {header['density']:.20} or recalibration is not one of ours.")
    expected = json.loads(json.dumps(describe_lifter(lifter)))
    for key, value in expected.items():
        if header["lifter"].get(key) != value:
            found = header["lifter"].get(key)
            raise CheckpointError(f"{path}: was fitted for another lifter ({key} {found!r:.80}, not {value!r:.80}).")
    if header["weights"] != weights_digest(lifter):
        raise CheckpointError(
            f"{path}: was fitted for other weights of this lifter; python -m poseda.calibrate fits one for these."
        )
    return header


def _estimator(path: Path, header: dict[str, Any], lifter: Lifter) -> Estimator:
    try:
        cls = estimator_class(header["estimator"])
        options = {key: tuple(v) if isinstance(v, list) else v for key, v in header["options"].items()}
        return cls(cls.Config(**options), lifter)
    except (PosedaError, TypeError) as error:
        raise CheckpointError(f"{path}: its options make no estimator: {one_line(error)}") from error


def _expected(path: Path, header: dict[str, Any], lifter: Lifter) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors that the file must hold, found without making any of them."""
    with torch.device("meta"):
        state = _estimator(path, header, lifter).state_dict()
    shapes = {f"estimator.{key}": tuple(value.shape) for key, value in state.items()}
    joints, method = lifter.skeleton.num_joints - 1, header["recalibration"]
    parts: dict[str, tuple[int, ...]] = {"curve": (2, joints, BINS)} if method == "isotonic" else {"scale": (joints,)}
    if method != "temperature":
        parts["quantiles"] = (joints, len(LEVEL_GRID))
    if header["ellipsoids"]:
        parts["ball"] = (joints,)
    return {**shapes, **{f"recalibration.{k}": v for k, v in parts.items()}, "reference": (joints + 1,)}


def _check_tensors(path: Path, stored: Any, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse missing, extra and wrongly shaped tensors, from the file's index alone."""
    found = set(stored.keys())
    for what, keys in (("lacks", expected.keys() - found), ("has unknown", found - expected.keys())):
        if keys:
            raise CheckpointError(f"{path}: {what} {len(keys)} tensor(s), such as '{min(keys):.80}'.")
    for key, shape in expected.items():
        given = tuple(stored.get_slice(key).get_shape())
        if given != shape:
            raise CheckpointError(f"{path}: {key} is {list(given)}, must be {list(shape)}.")


def own_uncertainty(lifter: Lifter, *, flip: bool, density: str = "laplace") -> Uncertainty:
    """The lifter's own head as it is, with nothing fitted. Raises ConfigError for a lifter without one."""
    cls = estimator_class("own")
    return Uncertainty(cls(cls.Config(), lifter), get_density(density), flip)


def open_uncertainty(name: str, lifter: Lifter, *, flip: bool, inflate: bool) -> Uncertainty:
    """The uncertainty that a command names: a file, or own. Raises ConfigError for what does not fit."""
    if name == "own":
        if inflate:
            raise ConfigError("inflate=true needs uncertainty=FILE, which knows the residuals of the source.")
        return own_uncertainty(lifter, flip=flip)
    found = load_uncertainty(name, lifter)
    if found.flip != flip:
        wanted = str(found.flip).lower()
        raise ConfigError(f"{name} belongs to poses with flip={wanted}: add flip={wanted}, or calibrate anew.")
    return found

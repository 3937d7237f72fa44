"""Lifters as programs for other runtimes: torch.export (.pt2) and ONNX (.onnx), checked against the lifter."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from poseda.engine.checkpoint import describe_lifter
from poseda.errors import ConfigError, require
from poseda.files.atomic import atomic_write
from poseda.lifters.base import Lifter, evaluation_mode
from poseda.lifters.blocks import MAX_BATCH

TOLERANCE_MM = 0.05
"""Largest difference from the lifter that an exported program may show."""
_BATCHES = (1, 5)
"""Batches that the program is checked with; it is traced with another."""
_TRACED = 2
Run = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Export:
    """What was written, and how far its poses and sigmas were from the lifter's on random keypoints."""

    program: Path
    description: Path
    difference_mm: float


class _Outputs(nn.Module):
    """A lifter as plain tensors: keypoints (B, T, J, 2) -> poses (B, T', J, 3) mm and, with a scale head, sigma mm."""

    def __init__(self, lifter: Lifter) -> None:
        super().__init__()
        self.lifter = lifter

    def forward(self, keypoints: Tensor) -> tuple[Tensor, ...]:
        """Poses, and sigma (B, T', J) mm where there is a scale head."""
        output = self.lifter(keypoints)
        return (output.pose,) if output.log_sigma is None else (output.pose, output.log_sigma.exp())


@torch.no_grad()
def export_lifter(lifter: Lifter, path: Path | str) -> Export:
    """Write a lifter (on the CPU) as .pt2 or .onnx, by the path's ending, with a JSON description beside it.

    The program takes `keypoints` (B, frames, J, 2), screen-normalised, of any B, and gives `poses` (B, T', J, 3) mm
    and `sigma` (B, T', J) mm. Raises ConfigError, before anything is written, for another ending, for a missing
    extra, and where the program's output is more than TOLERANCE_MM from the lifter's.
    """
    path = Path(path)
    if path.suffix not in _FORMATS:
        raise ConfigError(f"{path}: an exported lifter ends in {' or '.join(_FORMATS)}.")
    with evaluation_mode(lifter):
        expected = {batch: _Outputs(lifter)(_keypoints(lifter, batch)) for batch in _BATCHES}  # before tracing: caches
        description = {**describe_lifter(lifter), **_interface(lifter)}
        data, run = _FORMATS[path.suffix](_traced(lifter), description)
    difference = max(
        float((given - wanted).abs().max())
        for batch, outputs in expected.items()
        for given, wanted in zip(run(_keypoints(lifter, batch)), outputs, strict=True)
    )
    if not difference <= TOLERANCE_MM:
        raise ConfigError(
            f"{path}: not written, the exported {lifter.name} is up to {difference:.3g} mm from the lifter on random "
            f"keypoints, and {TOLERANCE_MM} mm is the limit; try the other format ({' or '.join(_FORMATS)})."
        )
    beside = path.with_suffix(".json")
    atomic_write(path, data)
    atomic_write(beside, json.dumps({**description, "difference_mm": difference}, indent=2).encode() + b"\n")
    return Export(path, beside, difference)


def _keypoints(lifter: Lifter, batch: int) -> Tensor:
    """Random keypoints (B, frames, J, 2) over the whole screen, the same in each call."""
    shape = (batch, lifter.frames, lifter.skeleton.num_joints, 2)
    return torch.rand(shape, generator=torch.Generator().manual_seed(batch)) * 2 - 1


def _traced(lifter: Lifter) -> ExportedProgram:
    batch = Dim("batch", min=1, max=MAX_BATCH // lifter.frames)  # beyond it `blocks.attend` would split
    example = (_keypoints(lifter, _TRACED),)
    return torch.export.export(_Outputs(lifter).eval(), example, dynamic_shapes={"keypoints": {0: batch}})


def _interface(lifter: Lifter) -> dict[str, object]:
    """Names, shapes and units of input and outputs, for whoever runs the program."""
    joints = lifter.skeleton.num_joints
    given = lifter.frames if lifter.output == "seq2seq" else 1
    outputs = {"poses": {"shape": ["batch", given, joints, 3], "unit": "mm", "frame": "camera axes, root at 0"}}
    if lifter.has_sigma:
        outputs["sigma"] = {"shape": ["batch", given, joints], "unit": "mm", "what": "expected error of each joint"}
    shape = ["batch", lifter.frames, joints, 2]
    formula = "x_px / width * 2 - 1, y_px / width * 2 - height / width"
    return {"inputs": {"keypoints": {"shape": shape, "formula": formula}}, "outputs": outputs}


def _as_pt2(program: ExportedProgram, description: dict[str, object]) -> tuple[bytes, Run]:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"poseda.json": json.dumps(description)})
    again = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return buffer.getvalue(), lambda keypoints: list(again(keypoints))


def _as_onnx(program: ExportedProgram, description: dict[str, object]) -> tuple[bytes, Run]:
    for module in ("onnx", "onnxscript"):
        require(module, "onnx")
    runtime: Any = require("onnxruntime", "onnx")
    outputs: Any = description["outputs"]
    with _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        converted = torch.onnx.export(
            program, (), input_names=["keypoints"], output_names=list(outputs), dynamo=True, verbose=False
        )
    assert converted is not None
    model = converted.model_proto
    model.metadata_props.add(key="poseda", value=json.dumps(description))
    data: bytes = model.SerializeToString()
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(keypoints: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {"keypoints": keypoints.numpy()})]

    return data, run


_FORMATS = {".pt2": _as_pt2, ".onnx": _as_onnx}


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Nothing below an error from these loggers."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

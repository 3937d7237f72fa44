"""Lifters as programs for other runtimes: torch.export (.pt2) and ONNX (.onnx), checked against the lifter.

The program of a lifter that sees the screen alone takes screen-normalised keypoints. That of any other (a view that
turns to the person, the detector's confidence) takes pixels, their confidence and the camera, makes the view itself,
and gives poses in the camera's own axes.
"""

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
from poseda.geometry.camera import Camera
from poseda.lifters.base import Lifter, LifterOutput, evaluation_mode, to_camera
from poseda.lifters.blocks import MAX_BATCH, Attends

TOLERANCE_MM = 0.05
"""Largest difference from the lifter that an exported program may show."""
_BATCHES = (1, 5)
"""Batches that the program is checked with; it is traced with another."""
_TRACED = 2
CAMERA = ("fx", "fy", "cx", "cy", "width", "height", "k1", "k2", "k3", "p1", "p2", "tangential_factor")
"""Numbers of a camera, in this order: pixels, and the lens as in `geometry.camera.Camera`."""
Inputs = dict[str, Tensor]
Run = Callable[[Inputs], list[Tensor]]


@dataclass(frozen=True)
class Export:
    """What was written, and how far its poses and sigmas were from the lifter's on random keypoints."""

    program: Path
    description: Path
    difference_mm: float
    max_batch: int | None
    """Windows that it takes at a time at most; None for any number."""


class _Program(nn.Module):
    """A lifter of plain tensors: poses (B, T', J, 3) mm and, with a scale head, sigma (B, T', J) mm."""

    def __init__(self, lifter: Lifter) -> None:
        super().__init__()
        self.lifter = lifter


class _OfScreen(_Program):
    """Of a lifter that sees the screen alone."""

    def forward(self, keypoints: Tensor) -> tuple[Tensor, ...]:
        """Of keypoints (B, T, J, 2), screen-normalised."""
        return _plain(self.lifter(keypoints))


class _OfPixels(_Program):
    """Of a lifter that has a view or reads the confidence."""

    def forward(self, keypoints: Tensor, confidence: Tensor, camera: Tensor) -> tuple[Tensor, ...]:
        """Of keypoints (B, T, J, 2) px, confidence (B, T, J), 0 = missing, and camera (B, 12), see CAMERA."""
        fx, fy, cx, cy, width, height, *_, factor = camera.unbind(-1)
        cameras = Camera.create(
            fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height, radial=camera[:, 6:9], tangential=camera[:, 9:11],
            tangential_factor=factor,
        )  # fmt: skip
        seen = self.lifter.see(keypoints, confidence > 0, cameras, confidence)
        return _plain(to_camera(self.lifter(seen.keypoints), seen.rotation))


def _plain(output: LifterOutput) -> tuple[Tensor, ...]:
    return (output.pose,) if output.log_sigma is None else (output.pose, output.log_sigma.exp())


def _program(lifter: Lifter) -> _Program:
    return _OfScreen(lifter) if takes_screen(lifter) else _OfPixels(lifter)


def takes_screen(lifter: Lifter) -> bool:
    """Whether the program takes screen-normalised keypoints, and needs no camera."""
    return lifter.sees_screen and not lifter.reads_confidence


@torch.no_grad()
def export_lifter(lifter: Lifter, path: Path | str) -> Export:
    """Write a lifter (on the CPU) as .pt2 or .onnx, by the path's ending; its description, <name>.pt2.json, beside it.

    The program takes `keypoints` (B, frames, J, 2), screen-normalised, in the lifter's dtype, and gives `poses`
    (B, T', J, 3) mm and `sigma` (B, T', J) mm. B is any number, but at most `max_batch` where the lifter has attention.
    Where the lifter does not take the screen alone, keypoints are pixels, and `confidence` (B, frames, J), 0 = missing,
    and `camera` (B, 12), the numbers of CAMERA, stand beside them. Raises ConfigError, before anything is written, for
    another ending, a missing extra, a lifter that draws at random, and where the program's output is more than
    TOLERANCE_MM from the lifter's.
    """
    path = Path(path)
    if path.suffix not in _FORMATS:
        raise ConfigError(f"{path}: an exported lifter ends in {' or '.join(_FORMATS)}.")
    if lifter.draws:
        raise ConfigError(f"{path}: {lifter.name} draws at random in each pass, which no program does: {lifter.draws}.")
    with evaluation_mode(lifter):
        program = _program(lifter)
        expected = {batch: program(**_inputs(lifter, batch)) for batch in _BATCHES}  # before tracing: caches
        traced, most = _traced(lifter)
        limit = {} if most is None else {"max_batch": most}
        description = {**describe_lifter(lifter), **_interface(lifter), **limit}
        data, run = _FORMATS[path.suffix](traced, description)
    difference = max(
        float((given - wanted).abs().max())
        for batch, outputs in expected.items()
        for given, wanted in zip(run(_inputs(lifter, batch)), outputs, strict=True)
    )
    if not difference <= TOLERANCE_MM:
        raise ConfigError(
            f"{path}: not written, the exported {lifter.name} is up to {difference:.3g} mm from the lifter on random "
            f"keypoints, and {TOLERANCE_MM} mm is the limit; try the other format ({' or '.join(_FORMATS)})."
        )
    beside = path.with_name(f"{path.name}.json")
    atomic_write(path, data)
    atomic_write(beside, json.dumps({**description, "difference_mm": difference}, indent=2).encode() + b"\n")
    return Export(path, beside, difference, most)


def _inputs(lifter: Lifter, batch: int) -> Inputs:
    """Random inputs of the program, over the whole screen or image, the same in each call, in the lifter's dtype."""
    inputs = _random(lifter, batch)
    weight = next((p for p in lifter.parameters() if p.is_floating_point()), inputs["keypoints"])
    return {name: value.to(weight.dtype) for name, value in inputs.items()}


def _random(lifter: Lifter, batch: int) -> Inputs:
    generator = torch.Generator().manual_seed(batch)
    keypoints = torch.rand(batch, lifter.frames, lifter.skeleton.num_joints, 2, generator=generator)
    if takes_screen(lifter):
        return {"keypoints": keypoints * 2 - 1}
    confidence = (torch.rand(keypoints.shape[:-1], generator=generator) - 0.2).clamp_min(0)  # every fifth is missing
    typical = torch.tensor([1100.0, 1100.0, 500.0, 500.0, 1000.0, 1000.0, -0.2, 0.2, 0.0, 1e-3, 1e-3, 2.0])
    camera = typical * (1 + 0.1 * torch.rand(batch, len(CAMERA), generator=generator))
    return {"keypoints": keypoints * 1000, "confidence": confidence, "camera": camera}


def _traced(lifter: Lifter) -> tuple[ExportedProgram, int | None]:
    """The program, and how many windows it takes at most where it has fused attention; None for any number."""
    attends = any(isinstance(part, Attends) for part in lifter.modules())
    most = MAX_BATCH // lifter.frames if attends else None  # beyond it `blocks.attend` would split
    batch = Dim("batch", min=1, max=most)
    example = _inputs(lifter, _TRACED)
    shapes = {name: {0: batch} for name in example}
    return torch.export.export(_program(lifter).eval(), tuple(example.values()), dynamic_shapes=shapes), most


def _interface(lifter: Lifter) -> dict[str, object]:
    """Names, shapes and units of input and outputs, for whoever runs the program."""
    joints = lifter.skeleton.num_joints
    given = lifter.frames if lifter.output == "seq2seq" else 1
    outputs = {"poses": {"shape": ["batch", given, joints, 3], "unit": "mm", "frame": "camera axes, root at 0"}}
    if lifter.has_sigma:
        outputs["sigma"] = {"shape": ["batch", given, joints], "unit": "mm", "what": "expected error of each joint"}
    shape = ["batch", lifter.frames, joints, 2]
    if takes_screen(lifter):
        formula = "x_px / width * 2 - 1, y_px / width * 2 - height / width"
        return {"inputs": {"keypoints": {"shape": shape, "formula": formula}}, "outputs": outputs}
    inputs = {
        "keypoints": {"shape": shape, "unit": "px"},
        "confidence": {"shape": shape[:3], "what": "0 = missing, to 1"},
        "camera": {"shape": ["batch", len(CAMERA)], "what": list(CAMERA), "lens": "Brown-Conrady; 0 and 2 for none"},
    }
    return {"inputs": inputs, "outputs": outputs}


def _as_pt2(program: ExportedProgram, description: dict[str, object]) -> tuple[bytes, Run]:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"poseda.json": json.dumps(description)})
    again = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return buffer.getvalue(), lambda inputs: list(again(*inputs.values()))


def _as_onnx(program: ExportedProgram, description: dict[str, object]) -> tuple[bytes, Run]:
    for module in ("onnx", "onnxscript"):
        require(module, "onnx")
    runtime: Any = require("onnxruntime", "onnx")
    given: Any = description["inputs"]
    outputs: Any = description["outputs"]
    with _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        converted = torch.onnx.export(
            program, (), input_names=list(given), output_names=list(outputs), dynamo=True, verbose=False
        )
    assert converted is not None
    model = converted.model_proto
    model.metadata_props.add(key="poseda", value=json.dumps(description))
    data: bytes = model.SerializeToString()
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> list[Tensor]:
        numbers = {name: value.numpy() for name, value in inputs.items()}
        return [torch.from_numpy(output) for output in session.run(None, numbers)]

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

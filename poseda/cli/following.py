"""`python -m poseda.predict follow=true`: JSON lines in, JSON lines out, frame by frame (docs/streaming.md)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from poseda.cli.app import mute
from poseda.cli.calibrating import asked_uncertainty
from poseda.cli.checks import check_lifter, check_machine, check_output, check_uncertainty, lifter_inputs
from poseda.cli.models import open_job_lifter
from poseda.cli.schema import PredictJob
from poseda.data.detections.cameras import video_cameras
from poseda.data.detections.confidences import confidences
from poseda.data.detections.found import Collector, Video
from poseda.data.detections.layouts import choose_layout, convert
from poseda.data.detections.options import DetectionOptions
from poseda.engine.runtime import resolve_device
from poseda.engine.streaming import PoseStream, StreamFrame, StreamPose
from poseda.errors import ConfigError, DataError, MissingDataError, PosedaError
from poseda.files.opening import printable
from poseda.geometry.camera import Camera
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftConfig
from poseda.skeleton import Skeleton

LONGEST_LINE = 1 << 20
"""Bytes of a line; longer ones are refused, so that memory stays bounded whatever comes."""
LEAST_VISIBLE = 4
"""Joints that must be visible in a frame, as in detections' files."""
POLL_SECONDS = 0.05
STDIN = "-"


@dataclass(frozen=True)
class Line:
    """What one line says."""

    reset: bool
    number: int
    keypoints: Tensor | None = None
    """(J, 2) px in the lifter's joints; None: nobody is seen well enough."""
    confidence: Tensor | None = None


def check_follow(job: PredictJob) -> None:
    """Raise ConfigError for what a stream cannot have, MissingDataError for a file that is not there."""
    if job.input != STDIN and Path(job.input).suffix != ".jsonl":
        raise ConfigError(f"follow=true reads input=- (standard input) or input=FILE.jsonl, not input={job.input}.")
    if job.input != STDIN and not Path(job.input).is_file():
        raise MissingDataError(f"input={job.input}: there is no such file.")
    if _to_file(job) and Path(job.output).suffix != ".jsonl":
        raise ConfigError(f"follow=true writes to standard output, or to output=FILE.jsonl, not output={job.output}.")
    if _to_file(job):
        check_output(job.output, ".jsonl", inputs=[*lifter_inputs(job), ("input", job.input)])
    if job.input == STDIN and sys.stdin is None:
        raise ConfigError("input=-: standard input is closed; give input=FILE.jsonl.")
    if not _to_file(job) and sys.stdout is None:
        raise ConfigError("standard output is closed; give output=FILE.jsonl.")
    for field in fields(DetectionOptions):
        if field.name in ("fps", "person", "min_frames") and getattr(job, field.name) != field.default:
            raise ConfigError(f"{field.name} has no meaning for a stream of one person; leave it out.")
    if job.animation or job.refine or job.lift != LiftConfig():
        raise ConfigError("animation, refine and lift.* are for whole files; leave them out with follow=true.")
    check_uncertainty(job)
    if job.stream.adapt != "none" and job.flip:
        raise ConfigError("stream.adapt=iso has no mirrored pass; leave flip out.")


def follow(job: PredictJob) -> None:
    """Answer each line with poses until the input ends, or Ctrl-C. Remarks and broken lines go to standard error."""
    check_machine(job)
    check_lifter(job.checkpoint, job.source_model)
    check_follow(job)
    lifter, _ = open_job_lifter(job.checkpoint, job.source_model, say=_say)
    lifter = lifter.to(resolve_device(job.device))
    cameras, remarks = video_cameras([Video("stream")], job, "a stream")
    for remark in remarks:
        _say(remark)
    stream = _stream(job, lifter, cameras.to(next(lifter.parameters()).device, torch.float32))
    with _input(job.input) as source, _output(job) as sink:
        try:
            _answer(read_lines(source, job.stream.idle, growing=job.input != STDIN), stream, job, sink)
        except BrokenPipeError:  # who reads has gone; nothing more can be said there
            mute()


def _answer(lines: Iterator[tuple[int, bytes | None]], stream: PoseStream, job: PredictJob, sink: IO[str]) -> None:
    reader = LineReader(job, stream.lifter.skeleton)
    answered = broken = 0

    def write(answers: list[dict[str, Any]]) -> None:
        nonlocal answered
        for answer in answers:
            answered += 1  # before the writing, which who interrupts may have waited for
            sink.write(json.dumps(answer, allow_nan=False) + "\n")
        if answers:
            sink.flush()

    try:
        for place, text in lines:
            try:
                write(_step(stream, reader.read(text)))
            except PosedaError as error:
                broken += 1
                _say(f"line {place}: {error}")
    except KeyboardInterrupt:
        _say("interrupted")
    write([_told(pose) for pose in stream.reset()])
    _say(f"{answered} frames answered, {broken} lines not understood, {stream.resets} stretches without a reset.")


def _step(stream: PoseStream, line: Line) -> list[dict[str, Any]]:
    if line.reset:
        return [_told(pose) for pose in stream.reset()]
    if line.keypoints is None or line.confidence is None:
        return [{"frame": line.number, "pose": None}]
    device = stream.camera.device
    frame = StreamFrame(line.number, line.keypoints.to(device), line.confidence.to(device))
    return [_told(pose) for pose in stream.push(frame)]


class LineReader:
    """Lines to frames in a lifter's joints; keeps the number of the last frame, and nothing else."""

    def __init__(self, options: DetectionOptions, skeleton: Skeleton) -> None:
        self.options, self.skeleton, self.last = options, skeleton, -1

    def read(self, text: bytes | None) -> Line:
        """Raises DataError or ConfigError, in one line, for what is no frame of one person. None: a line too long."""
        value = _parsed(text)
        if value.get("reset"):
            self.last = -1
            return Line(True, -1)
        number = value.get("frame", self.last + 1)
        if not isinstance(number, int) or isinstance(number, bool) or not self.last < number < 1 << 53:
            raise DataError(f"frame must be a whole number above the last one's, {self.last}; got {_short(number)}.")
        if "keypoints" not in value:
            raise DataError('there are no "keypoints"; [] says that nobody was seen.')
        if value["keypoints"] in (None, []):
            self.last = number
            return Line(False, number)
        points, sure = self._joints(value)
        self.last = number
        if int((sure > 0).sum()) < LEAST_VISIBLE:
            return Line(False, number)
        return Line(False, number, torch.from_numpy(points).float(), torch.from_numpy(sure).float())

    def _joints(self, value: dict[str, Any]) -> tuple[Any, Any]:
        """(J, 2) px and (J,) in the lifter's joints."""
        rows = value["keypoints"]
        if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 3 for row in rows):
            raise DataError("keypoints must be [[x, y, confidence], ...], one for each joint.")
        collector = Collector()
        key = collector.start("stream", 0)
        collector.add(key, "keypoints", [number for row in rows for number in row], 0)
        found = collector.triplets("stream")
        layout = choose_layout(found, self.options.layout, "keypoints")
        scores = found.scores[:, layout.columns]
        if (scores > 1).any() or (scores < 0).any():
            raise DataError("a confidence lies outside [0, 1].")
        sure = confidences(found.keypoints[:, layout.columns], scores, self.options.min_confidence)
        made, confidence = convert(
            found.keypoints[:, layout.columns], sure.values, layout.skeleton, self.skeleton, self.options.construction
        )
        return made[0], confidence[0]


def _parsed(text: bytes | None) -> dict[str, Any]:
    if text is None:
        raise DataError(f"longer than {LONGEST_LINE} bytes.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # bad UTF-8 is a ValueError too
        raise DataError(f"no JSON: {_short(text.decode(errors='replace'))}") from None
    if not isinstance(value, dict):
        raise DataError(f"a JSON object is needed, got {_short(value)}.")
    return value


def read_lines(
    source: IO[bytes], idle: float, *, growing: bool, wait: Callable[[float], None] = time.sleep
) -> Iterator[tuple[int, bytes | None]]:
    """Number and bytes of each line that is not blank, None for one that is too long. A `growing` file is waited on
    until `idle` seconds have brought nothing (0: for ever)."""
    number, part, long, quiet = 0, b"", False, 0.0
    while True:
        piece = source.readline(LONGEST_LINE)
        if not piece and growing and (idle == 0 or quiet < idle):
            wait(POLL_SECONDS)
            quiet += POLL_SECONDS
            continue
        quiet = 0.0
        part = b"" if long else part + piece
        long = long or len(part) > LONGEST_LINE or (len(part) == LONGEST_LINE and not part.endswith(b"\n"))
        if piece and not piece.endswith(b"\n"):
            continue
        if long or part:
            number += 1
            if long or part.strip():
                yield number, None if long else part
        part, long = b"", False
        if not piece:
            return


def _stream(job: PredictJob, lifter: Lifter, camera: Camera) -> PoseStream:
    adapter = judge = None
    if job.stream.adapt == "iso":
        from poseda.stages.iso.stream import StreamingISO

        adapter = StreamingISO(lifter.eval(), camera)
    if (found := asked_uncertainty(job, lifter, job.flip)) is not None:
        from poseda.uncertainty.stream import StreamingUncertainty

        found.estimator.to(camera.device)
        judge = StreamingUncertainty(found, lifter, inflate=job.inflate)
    return PoseStream(lifter, camera, job.stream, flip=job.flip, max_gap=job.max_gap, adapter=adapter, judge=judge)


def _told(pose: StreamPose) -> dict[str, Any]:
    """A pose as JSON values, numbers to a thousandth of a millimetre."""
    answer: dict[str, Any] = {"frame": pose.number, "pose": _numbers(pose.pose)}
    answer["root"] = None if pose.root is None else _numbers(pose.root)
    if pose.sigma is not None:
        answer["sigma"] = _numbers(pose.sigma)
    if pose.radius90 is not None:
        answer["radius90"] = _numbers(pose.radius90)
    return answer


def _numbers(values: Tensor) -> Any:
    return np.round(values.detach().cpu().double().numpy(), 3).tolist()


def _short(value: object) -> str:
    return printable(str(value), 60)


def _to_file(job: PredictJob) -> bool:
    return job.output not in (STDIN, PredictJob.output)


def _input(path: str) -> AbstractContextManager[IO[bytes]]:
    return nullcontext(sys.stdin.buffer) if path == STDIN else Path(path).open("rb")


def _output(job: PredictJob) -> AbstractContextManager[IO[str]]:
    return Path(job.output).open("w", encoding="utf-8") if _to_file(job) else nullcontext(sys.stdout)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

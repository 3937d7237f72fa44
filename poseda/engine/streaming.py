"""Frames as they come: 2D of one person in, poses out, one state machine without input or output.

Memory is bounded by the lifter's window of T frames. A segment is a stretch of frames without a reset; no window
crosses one. A reset comes from `reset()`, from a gap of more than `max_gap` frames, or from a jump of the person.

Two answers to the future that a temporal lifter wants to see:

    half_window   a pose comes when the frames after it have come (T - 1 - T // 2 of them): latency, and the very poses
                  of `lift_clips` (for seq2seq lifters: with overlap=T-1, merge=centre)
    none          a pose comes at once, from the frames so far alone: those of `lift_clips` if the segment ended here
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from poseda.errors import ConfigError, DataError, ShapeError, check_choices
from poseda.geometry.boxes import pixel_box
from poseda.geometry.camera import Camera
from poseda.geometry.root import root_from_keypoints
from poseda.geometry.rotations import rotate
from poseda.lifters.base import Lifter, LifterOutput
from poseda.lifters.inference import Run, mean_of_both, mirror_keypoints
from poseda.lifters.matmul import gpu_products
from poseda.lifters.replay import Replay
from poseda.lifters.views import Seen

Latency = Literal["half_window", "none"]
FILLED = 0.1
"""A frame that fills a gap has this share of the lesser confidence of its neighbours, as in detections' files."""
COMMON_JOINTS = 4
"""Joints that two frames must both show for a jump to be told."""


@dataclass(frozen=True)
class StreamConfig:
    """Options of following a stream."""

    latency: Latency = "half_window"
    """half_window: a temporal lifter waits for the frames after the one that it lifts, half its window; none: it takes
    the newest frame for all that are to come, which is worse and instant. Single-frame lifters never wait."""
    adapt: Literal["none", "iso"] = "none"
    """iso: the lifter goes on learning along the stream (stage iso, mode online), without the discriminator, which
    needs the source; learned weights go at a reset."""
    jump: float = 1.0
    """Reset when the centre of the person's box moves by more than this many of its sizes in a frame; 0: never."""
    scale_jump: float = 2.0
    """Reset when the box becomes larger or smaller by more than this factor from frame to frame; 0: never."""
    idle: float = 0.0
    """Seconds without a new line after which a growing file has ended; 0: it never does."""

    def __post_init__(self) -> None:
        check_choices(self, "stream")
        if not self.jump >= 0 or not self.idle >= 0 or not (self.scale_jump == 0 or self.scale_jump > 1):
            raise ConfigError(
                f"stream.jump={self.jump}, scale_jump={self.scale_jump}, idle={self.idle}: jump and idle must be 0 or "
                "more, scale_jump 0 or above 1."
            )


@dataclass(frozen=True, eq=False)
class StreamFrame:
    """One person in one frame."""

    number: int
    keypoints: Tensor
    """(J, 2) px; what stands at a missing joint is not read."""
    confidence: Tensor
    """(J,) in [0, 1], 0 = missing."""


@dataclass(frozen=True, eq=False)
class StreamPose:
    """What is known of one frame."""

    number: int
    pose: Tensor
    """(J, 3) mm, relative to the root, camera axes."""
    root: Tensor | None
    """(3,) mm in the camera frame, where the pose fits the 2D; None where it fits nowhere."""
    sigma: Tensor | None
    """(J,) mm, expected errors; None for a lifter without a scale head where no judge says them."""
    radius90: Tensor | None = None
    """(J,) mm, the ball that holds the joint with 90 %, by the judge; None without one."""


class Adapter(Protocol):
    """A lifter that learns along the stream."""

    def learn(self, keypoints: Tensor, confidence: Tensor) -> None:
        """See one more frame, (J, 2) px and (J,), and learn from it when it is time."""

    def lift(self, frames: Tensor, windows: Tensor) -> LifterOutput:
        """As `Lifter.lift_windows`, with what was learned."""

    def reset(self) -> None:
        """Forget what was learned."""


class Judge(Protocol):
    """Who says how far the poses of a stream may be off."""

    def judge(
        self, keypoints: Tensor, confidence: Tensor, camera: Camera, poses: Tensor, sigma: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Expected errors and 90 % radii (N, J) mm of frames (N, J, 2) px, (N, J), with poses (N, J, 3) mm and what
        the lifter's own head says (N, J) mm."""

    def reset(self) -> None:
        """Forget the stretch."""


class PoseStream:
    """Lifts frame by frame; `push` returns the poses that are ready, in the order of the frames."""

    def __init__(
        self,
        lifter: Lifter,
        camera: Camera,
        config: StreamConfig | None = None,
        *,
        flip: bool = False,
        max_gap: int = 4,
        adapter: Adapter | None = None,
        judge: Judge | None = None,
    ) -> None:
        """`camera` is the one camera of the stream; `flip` averages with the mirrored input. Puts the lifter in
        evaluation mode."""
        self.judge = judge
        self.lifter, self.camera, self.config = lifter.eval(), camera, config or StreamConfig()
        self.flip, self.max_gap, self.adapter = flip, max_gap, adapter
        self.run: Run = lifter.lift_windows if adapter is None else adapter.lift
        self.run_whole: Run = self.run
        """What lifts from as many frames as a window has; before, each frame comes with a shape of its own."""
        if adapter is None and camera.device.type == "cuda":  # one that learns is another one each time
            self.run_whole = Replay(lifter.lift_windows)
        self.window = _Window(lifter, self.config.latency)
        self.buffer: deque[tuple[StreamFrame, bool]] = deque(maxlen=lifter.frames)
        self.count = self.next = self.resets = 0
        self.last: StreamFrame | None = None

    @torch.no_grad()
    def push(self, frame: StreamFrame) -> list[StreamPose]:
        """Take a frame in. Raises ShapeError for other joints, DataError for a number that does not follow."""
        joints = self.lifter.skeleton.num_joints
        if tuple(frame.keypoints.shape) != (joints, 2) or tuple(frame.confidence.shape) != (joints,):
            raise ShapeError(
                f"A frame has keypoints ({joints}, 2) and confidence ({joints},), got "
                f"{tuple(frame.keypoints.shape)} and {tuple(frame.confidence.shape)}."
            )
        last = self.last
        if last is not None and frame.number <= last.number:
            raise DataError(f"frame {frame.number} does not follow frame {last.number}; a reset starts anew.")
        ready = []
        if last is not None and (frame.number - last.number - 1 > self.max_gap or self._jumps(last, frame)):
            ready = self._restart()
        elif last is not None:
            for between in _filled(last, frame):
                ready += self._take(between, emitted=False)
        self.last = frame
        return ready + self._take(frame, emitted=True)

    @torch.no_grad()
    def reset(self) -> list[StreamPose]:
        """End the segment: the poses that waited for frames to come, and a fresh start, numbers included."""
        return self._restart()

    def _restart(self) -> list[StreamPose]:
        ready = self._lift(range(self.next, self.count))
        self.buffer.clear()
        self.resets += self.count > 0
        self.count = self.next = 0
        self.last = None
        for part in (self.adapter, self.judge):
            if part is not None:
                part.reset()
        return ready

    def _take(self, frame: StreamFrame, emitted: bool) -> list[StreamPose]:
        self.buffer.append((frame, emitted))
        self.count += 1
        if self.adapter is not None:
            self.adapter.learn(frame.keypoints, frame.confidence)
        end = self.window.ready(self.count)
        ready = self._lift(range(self.next, end))
        self.next = max(self.next, end)
        return ready

    def _lift(self, places: range) -> list[StreamPose]:
        """Poses of frames by their place in the segment."""
        first = self.count - len(self.buffer)
        wanted = [place for place in places if self.buffer[place - first][1]]
        if not wanted:
            return []
        rows = [self.window.of(place, self.count) for place in wanted]
        device = self.camera.device
        windows = torch.tensor([row for row, _ in rows], device=device) - first
        poses, sigma = self._run(windows)
        pick = torch.tensor([out for _, out in rows], device=device)
        lines = torch.arange(len(rows), device=device)
        seen = [self.buffer[place - first][0] for place in wanted]
        return self._located(seen, poses[lines, pick], None if sigma is None else sigma[lines, pick])

    def _run(self, windows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Poses (B, T', J, 3) mm, camera axes, and sigma of windows (B, T) of the buffer's frames."""
        run = self.run_whole if len(self.buffer) == self.lifter.frames else self.run
        seen, numbers = self._see(windows)
        frames, lifter = seen.keypoints.flatten(0, 1), self.lifter
        with gpu_products(tf32=False) if frames.is_cuda else nullcontext():  # as in lift_clips
            output = run(frames, numbers)
            poses, sigma = output.pose, None if output.log_sigma is None else output.log_sigma.exp()
            if self.flip:
                mirrored = run(mirror_keypoints(frames, lifter.skeleton, lifter.mirror_signs), numbers)
                poses, sigma = mean_of_both(output, mirrored, lifter.skeleton)
        return poses if seen.rotation is None else rotate(seen.rotation.mT, poses), sigma

    def _see(self, windows: Tensor) -> tuple[Seen, Tensor]:
        """What the lifter sees, frame by frame, or window by window where its view looks at them; and the windows as
        numbers of what was seen."""
        keypoints = torch.stack([frame.keypoints for frame, _ in self.buffer])
        confidence = torch.stack([frame.confidence for frame, _ in self.buffer])
        index, numbers = torch.arange(len(keypoints), device=windows.device)[:, None], windows
        if self.lifter.view.looks:
            index, numbers = windows, torch.arange(windows.numel(), device=windows.device).view_as(windows)
        cameras = self.camera.expand(len(index))
        return self.lifter.see(keypoints[index], confidence[index] > 0, cameras, confidence[index]), numbers

    def _located(self, seen: list[StreamFrame], poses: Tensor, sigma: Tensor | None) -> list[StreamPose]:
        keypoints = torch.stack([frame.keypoints for frame in seen])
        confidence = torch.stack([frame.confidence for frame in seen])
        root, valid = root_from_keypoints(poses, self.camera.expand(len(seen)).unproject(keypoints), confidence)
        fits, radius = valid.tolist(), None
        if self.judge is not None:
            sigma, radius = self.judge.judge(keypoints, confidence, self.camera, poses, sigma)
        sigmas, radii = ([None] * len(seen) if some is None else list(some) for some in (sigma, radius))
        return [
            StreamPose(frame.number, poses[i], root[i] if fits[i] else None, sigmas[i], radii[i])
            for i, frame in enumerate(seen)
        ]

    def _jumps(self, last: StreamFrame, frame: StreamFrame) -> bool:
        """Whether the box of the joints that both frames show has moved or grown too much, per frame."""
        both = (last.confidence > 0) & (frame.confidence > 0)
        if int(both.sum()) < COMMON_JOINTS:
            return False
        boxes = [(f.keypoints[both], max(map(float, pixel_box(f.keypoints, both)))) for f in (last, frame)]
        (before, size), (after, now) = boxes
        steps = frame.number - last.number
        centres = [(points.amax(0) + points.amin(0)) / 2 for points in (before, after)]
        moved = float((centres[1] - centres[0]).norm()) / steps
        ratio = (max(size, now, 1.0) / max(min(size, now), 1.0)) ** (1 / steps)
        config = self.config
        return bool(0 < config.jump * max(size, 1.0) < moved or 0 < config.scale_jump < ratio)


class _Window:
    """Which frames a lifter sees for one, and when it may; places count from the segment's first frame."""

    def __init__(self, lifter: Lifter, latency: str) -> None:
        self.frames = lifter.frames
        self.left = lifter.frames // 2
        self.right = lifter.frames - 1 - self.left
        self.centred = lifter.slides or lifter.output == "seq2frame"
        self.waits = latency == "half_window"

    def ready(self, count: int) -> int:
        """End of the places that can be lifted once `count` frames have come."""
        if not self.waits:
            return count
        if self.centred:
            return max(count - self.right, 0)
        return count - self.right if count >= self.frames else 0

    def of(self, place: int, count: int) -> tuple[list[int], int]:
        """T places, and which output is that of `place`."""
        last = count - 1
        if self.centred:
            wanted = range(place - self.left, place + self.right + 1)
            return [min(max(other, 0), last) for other in wanted], 0
        latest = max(count - self.frames, 0)
        start = latest if not self.waits else min(max(place - self.left, 0), latest)
        return [min(other, last) for other in range(start, start + self.frames)], place - start


def _filled(last: StreamFrame, frame: StreamFrame) -> Iterator[StreamFrame]:
    """The frames missing between two, on straight lines; joints that one of them lacks are missing."""
    missing = frame.number - last.number - 1
    sure = torch.minimum(last.confidence, frame.confidence)
    for nth in range(1, missing + 1):
        share = nth / (missing + 1)
        between = last.keypoints * (1 - share) + frame.keypoints * share
        yield StreamFrame(last.number + nth, torch.where(sure[:, None] > 0, between, 0.0), FILLED * sure)

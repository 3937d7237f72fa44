"""Random batches as index draws on whole tensors: no loader, no worker, no wait for the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.data.checks import MINIMUM_VISIBLE
from poseda.data.clips import Clips, LabelledClips, UnlabelledClips
from poseda.data.windows import sequence_limits, windows_around
from poseda.errors import ConfigError, DataError
from poseda.geometry.boxes import SMALLEST_BOX, box_scale
from poseda.geometry.camera import Camera


@dataclass(frozen=True, eq=False)
class SourceBatch:
    """Windows of labelled poses; stages turn one into another, so 2D is projected only where it is needed."""

    poses: Tensor
    """(B, T, J, 3) mm, camera frame, absolute."""
    cameras: Camera
    """(B,) the camera of each window."""
    weight: Tensor
    """(B,) 1 = use, 0 = drop."""


@dataclass(frozen=True, eq=False)
class TargetBatch:
    """Windows of target 2D."""

    keypoints: Tensor
    """(B, T, J, 2) px."""
    visible: Tensor
    """(B, T, J) bool."""
    cameras: Camera
    """(B,) the camera of each window."""
    frames: Tensor | None = None
    """(B,) int64: which frames of the target's clips the middle ones are; None for windows that are none of theirs."""


class SourceSampler:
    """Draws windows of `frames` frames round uniformly drawn frames of labelled clips, on their device."""

    def __init__(self, clips: LabelledClips, frames: int) -> None:
        self.clips = clips
        self._draw = _WindowDraw(clips, frames, None)

    def draw(self, n: int, generator: torch.Generator) -> SourceBatch:
        """n windows with replacement; `generator` lives on the CPU or on the clips' device."""
        return self.draw_with_keypoints(n, generator)[0]

    def draw_with_keypoints(self, n: int, generator: torch.Generator) -> tuple[SourceBatch, Tensor, Tensor]:
        """As `draw`, and the clips' own 2D (detected or projected) of the same windows: (B, T, J, 2) px, and its
        confidence (B, T, J), 0 = missing."""
        centres, windows = self._draw(n, generator)
        poses = self.clips.poses[windows]  # (B, T) -> (B, T, J, 3)
        batch = SourceBatch(poses, self.clips.cameras_at(centres), poses.new_ones(n))
        return batch, self.clips.keypoints[windows], self.clips.confidence[windows]


class TargetSampler:
    """Draws windows of target 2D whose middle frame is not degenerate; DataError where all are."""

    def __init__(self, clips: UnlabelledClips, frames: int) -> None:
        self.clips = clips
        self.visible = clips.visible
        unfit = degenerate(clips)
        self.degenerate = int(unfit.sum())
        """How many frames are never in the middle of a window."""
        if self.degenerate == clips.num_frames:
            raise DataError(
                f"{clips.provenance.name}: no frame can be adapted to; all have fewer than two visible joints, or are "
                "no larger than a point."
            )
        self._draw = _WindowDraw(clips, frames, ~unfit)

    def draw(self, n: int, generator: torch.Generator) -> TargetBatch:
        """n windows with replacement; `generator` lives on the CPU or on the clips' device."""
        centres, windows = self._draw(n, generator)
        return TargetBatch(
            self.clips.keypoints[windows], self.visible[windows], self.clips.cameras_at(centres), centres
        )


def degenerate(clips: Clips) -> Tensor:
    """(F,) bool: frames whose 2D has no size: fewer than two visible joints, or all of them on a spot."""
    width = clips.cameras.width[clips.camera_index]
    small = box_scale(clips.keypoints, clips.visible) <= SMALLEST_BOX * width
    return small | (clips.visible.sum(-1) < MINIMUM_VISIBLE)


class _WindowDraw:
    """Uniform draws of middle frames among the valid ones, with the windows around them."""

    def __init__(self, clips: Clips, frames: int, valid: Tensor | None) -> None:
        if frames < 1:
            raise ConfigError(f"frames={frames}: a window has at least one frame.")
        self.frames = frames
        self.first, self.last = sequence_limits(clips.bounds)
        # None where every frame may be drawn: that saves a gather in each draw
        self.centres = None if valid is None or bool(valid.all()) else valid.nonzero().squeeze(-1)
        self.count = clips.num_frames if self.centres is None else len(self.centres)
        if self.count == 0:
            raise DataError(f"no frame of {clips.provenance.name} is valid: there is nothing to draw.")

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(n,) middle frames and (n, frames) windows."""
        drawn = torch.randint(self.count, (n,), generator=generator, device=generator.device)
        drawn = drawn.to(self.first.device, non_blocking=True)
        centres = drawn if self.centres is None else self.centres[drawn]
        return centres, windows_around(centres, self.first[centres], self.last[centres], self.frames)

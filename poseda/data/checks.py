"""What must hold for clips, checked once when they are made; an error names the sequence and the frame."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from poseda.errors import DataError

if TYPE_CHECKING:
    from poseda.data.clips import Clips, LabelledClips, Sequence

MINIMUM_VISIBLE = 2  # joints: below that a frame has no 2D scale
MINIMUM_BONE_MM = 0.1


def check_clips(clips: Clips) -> None:
    """Raise DataError unless shapes, bounds, sequences, cameras, confidence and keypoints agree."""
    check_structure(clips)
    outside = ~((clips.confidence >= 0) & (clips.confidence <= 1))  # written so that NaN counts as outside
    _refuse(clips, outside.any(-1), "has a confidence outside [0, 1]")
    broken = ~clips.keypoints.isfinite().all(-1) & (clips.confidence > 0)
    _refuse(clips, broken.any(-1), "has a 2D keypoint that is not finite though its confidence is above 0")
    _check_visible(clips)


def check_structure(clips: Clips) -> None:
    """Raise DataError unless shapes, bounds, sequences and cameras agree; no frame is looked at."""
    frames, joints = _frame_shape(clips.keypoints, clips.skeleton.num_joints, clips.skeleton.name)
    if tuple(clips.confidence.shape) != (frames, joints):
        raise DataError(
            f"confidence has shape {tuple(clips.confidence.shape)}; keypoints ask for ({frames}, {joints})."
        )
    _check_bounds(clips.bounds, frames, len(clips.sequences))
    _check_cameras(clips.sequences, len(clips.cameras))
    if not 0.0 < clips.fps < float("inf"):
        raise DataError(f"fps is {clips.fps}; it must be a positive number.")


def check_poses(clips: LabelledClips) -> None:
    """Raise DataError unless poses (F, J, 3) are finite, in mm, before the camera, with real bones."""
    check_pose_shape(clips)
    _refuse(clips, ~clips.poses.isfinite().flatten(1).all(-1), "has a 3D joint that is not finite")
    parents, children = zip(*clips.skeleton.bones, strict=True)
    lengths = (clips.poses[:, list(children)] - clips.poses[:, list(parents)]).norm(dim=-1)
    _refuse(clips, (lengths < MINIMUM_BONE_MM).any(-1), "has a bone of length zero")
    typical = float(lengths.median())
    if not 20.0 < typical < 2000.0:
        raise DataError(f"the median bone is {typical:.3g} long; poses must be in millimetres.")
    _refuse(clips, (clips.poses[..., 2] <= 0).any(-1), "has a joint behind the camera (camera z must be positive)")


def check_pose_shape(clips: LabelledClips) -> None:
    """Raise DataError unless there is a pose for each frame's keypoints."""
    expected = (*clips.keypoints.shape[:2], 3)
    if tuple(clips.poses.shape) != expected:
        raise DataError(f"poses have shape {tuple(clips.poses.shape)}; keypoints ask for {expected}.")


def check_scored(clips: LabelledClips) -> None:
    """Raise DataError unless `scored`, where it is given, names frames (F,) and at least one."""
    scored = clips.scored
    if scored is None:
        return
    if scored.dtype != torch.bool or tuple(scored.shape) != (clips.num_frames,):
        raise DataError(f"scored is {scored.dtype} {tuple(scored.shape)}; expected bool ({clips.num_frames},).")
    if not bool(scored.any()):
        raise DataError("scored names no frame; leave it out to score them all.")


def locate(bounds: Tensor, sequences: SequenceOf[Sequence], frame: int) -> tuple[int, int]:
    """The number of the sequence that holds a frame of the whole, and the frame's place inside it."""
    index = int(torch.searchsorted(bounds.cpu(), frame, right=True)) - 1
    return min(index, len(sequences) - 1), frame - int(bounds[index])


def _frame_shape(keypoints: Tensor, joints: int, skeleton: str) -> tuple[int, int]:
    if keypoints.dim() != 3 or keypoints.shape[-1] != 2:
        raise DataError(f"keypoints have shape {tuple(keypoints.shape)}; expected (frames, joints, 2).")
    if keypoints.shape[0] == 0:
        raise DataError("the clips hold no frame.")
    if keypoints.shape[1] != joints:
        raise DataError(f"keypoints have {keypoints.shape[1]} joints; the skeleton {skeleton} has {joints}.")
    return int(keypoints.shape[0]), int(keypoints.shape[1])


def _check_bounds(bounds: Tensor, frames: int, sequences: int) -> None:
    if bounds.dtype != torch.int64 or bounds.dim() != 1 or len(bounds) != sequences + 1:
        raise DataError(
            f"bounds are {bounds.dtype} {tuple(bounds.shape)}; {sequences} sequences ask for int64 ({sequences + 1},)."
        )
    if int(bounds[0]) != 0 or int(bounds[-1]) != frames:
        raise DataError(f"bounds run from {int(bounds[0])} to {int(bounds[-1])}; expected 0 to {frames}.")
    empty = (bounds.diff() <= 0).nonzero()
    if len(empty):
        raise DataError(f"bounds do not increase: sequence number {int(empty[0])} holds no frame.")


def _check_cameras(sequences: SequenceOf[Sequence], cameras: int) -> None:
    for sequence in sequences:
        if not 0 <= sequence.camera < cameras:
            raise DataError(f"sequence {sequence.name} uses camera {sequence.camera}; there are {cameras}.")


def _check_visible(clips: Clips) -> None:
    enough = (clips.confidence > 0).sum(-1) >= MINIMUM_VISIBLE
    counts = torch.cat([enough.new_zeros(1, dtype=torch.int64), enough.long().cumsum(0)])
    usable = counts[clips.bounds[1:]] - counts[clips.bounds[:-1]]
    blind = (usable == 0).nonzero()
    if len(blind):
        name = clips.sequences[int(blind[0])].name
        raise DataError(f"sequence {name} has fewer than two visible joints in every frame (frames 0 on).")


def _refuse(clips: Clips, bad: Tensor, what: str) -> None:
    """Raise DataError that names the first frame marked in `bad` (F,)."""
    if bool(bad.any()):
        sequence, frame = locate(clips.bounds, clips.sequences, int(bad.to(torch.uint8).argmax()))
        count = int(bad.sum())
        raise DataError(f"sequence {clips.sequences[sequence].name}, frame {frame} {what} ({count} such frames).")

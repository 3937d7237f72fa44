"""Lift whole clips: every real frame exactly once, and no window that crosses a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.data.windows import window_index
from poseda.errors import ConfigError, ShapeError
from poseda.geometry.camera import normalise_screen
from poseda.lifters.base import Lifter, LifterOutput, evaluation_mode
from poseda.skeleton import Skeleton


@dataclass(frozen=True)
class LiftedClips:
    """Poses (F, J, 3) mm, root-relative in camera axes, and expected errors sigma (F, J) mm or None."""

    poses: Tensor
    sigma: Tensor | None


@torch.no_grad()
def lift_clips(
    lifter: Lifter, clips: LabelledClips | UnlabelledClips, flip: bool = False, batch_size: int = 4096
) -> LiftedClips:
    """Lift all frames of clips in eval mode, `batch_size` frames at a time; results are on the clips' device.

    flip: the mean with the mirrored pass (screen x -> -x, left and right swapped, and back). The 2D input is
    `screen_keypoints`. seq2frame lifters see each frame as the centre of its window, with the edge frames of
    its sequence repeated; seq2seq lifters see windows side by side, the last one of a sequence moved back to
    end with it, of which only the frames not lifted yet are kept. Raises ShapeError for other joint sets.
    """
    if clips.skeleton != lifter.skeleton:
        raise ShapeError(
            f"{lifter.name} lifts {lifter.skeleton.name} and the clips hold {clips.skeleton.name}; "
            f"take clips.convert(lifter.skeleton)."
        )
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1.")
    keypoints = screen_keypoints(clips)
    poses = keypoints.new_zeros(*keypoints.shape[:-1], 3)
    sigma = keypoints.new_zeros(keypoints.shape[:-1]) if lifter.has_sigma else None
    weight = next((p for p in lifter.parameters() if p.is_floating_point()), keypoints)
    with evaluation_mode(lifter):
        for windows, rows, kept in lifting_batches(lifter, clips.bounds, batch_size):
            pose, scale = _lift(lifter, keypoints[windows].to(weight), flip)
            poses[rows] = pose[kept.to(pose.device)].to(poses)
            if sigma is not None and scale is not None:
                sigma[rows] = scale[kept.to(pose.device)].to(sigma)
    return LiftedClips(poses, sigma)


def screen_keypoints(clips: LabelledClips | UnlabelledClips) -> Tensor:
    """Screen-normalised keypoints (F, J, 2), with missing joints filled by `fill_missing`."""
    index = clips.camera_index
    sizes = clips.cameras.width[index], clips.cameras.height[index]
    return fill_missing(normalise_screen(clips.keypoints, *sizes), clips.visible)


def fill_missing(keypoints: Tensor, visible: Tensor) -> Tensor:
    """Put each missing joint (visible (..., J) False) at the mean of its frame's visible joints, (..., J, 2).

    A place inside the body is the guess that moves a lifter least, and needs no past frames. Where nothing is
    visible the keypoints become 0, in screen-normalised input the image centre.
    """
    seen = visible.unsqueeze(-1)
    total = keypoints.masked_fill(~seen, 0.0).sum(-2, keepdim=True)
    return torch.where(seen, keypoints, total / seen.sum(-2, keepdim=True).clamp(min=1))


def mirror_keypoints(keypoints: Tensor, skeleton: Skeleton) -> Tensor:
    """Mirrored person in a mirrored image: (..., J, 2) screen-normalised -> same."""
    return keypoints.index_select(-2, skeleton.mirror_index(keypoints)) * keypoints.new_tensor([-1.0, 1.0])


def mirror_poses(poses: Tensor, skeleton: Skeleton) -> Tensor:
    """Mirrored person: (..., J, 3) camera axes -> same."""
    return poses.index_select(-2, skeleton.mirror_index(poses)) * poses.new_tensor([-1.0, 1.0, 1.0])


def flip_average(lifter: Lifter, keypoints: Tensor) -> tuple[Tensor, Tensor | None]:
    """Mean of both passes of keypoints (B, T, J, 2): poses (B, T', J, 3) mm, sigma (B, T', J) mm or None."""
    plain: LifterOutput = lifter(keypoints)
    other: LifterOutput = lifter(mirror_keypoints(keypoints, lifter.skeleton))
    poses = (plain.pose + mirror_poses(other.pose, lifter.skeleton)) / 2
    if plain.log_sigma is None or other.log_sigma is None:
        return poses, None
    swap = lifter.skeleton.mirror_index(poses)
    return poses, (plain.log_sigma.exp() + other.log_sigma.index_select(-1, swap).exp()) / 2


def _lift(lifter: Lifter, keypoints: Tensor, flip: bool) -> tuple[Tensor, Tensor | None]:
    if flip:
        return flip_average(lifter, keypoints)
    output: LifterOutput = lifter(keypoints)
    return output.pose, None if output.log_sigma is None else output.log_sigma.exp()


def lifting_batches(lifter: Lifter, bounds: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What to run and what to keep: frame numbers of the input (B, T), of the output (N,), and a mask.

    The mask (B, T') says which outputs are kept: N of them, in the order of the second.
    """
    if lifter.frames > 1 and lifter.slides:
        yield from _stretches(bounds, lifter.frames, batch_size)
        return
    side_by_side = lifter.frames > 1 and lifter.output == "seq2seq"
    if side_by_side:
        windows, kept = _tiles(bounds, lifter.frames)
    else:
        windows = window_index(bounds, lifter.frames)
        kept = torch.ones(len(windows), 1, dtype=torch.bool, device=bounds.device)
    lifted = windows if side_by_side else windows[:, lifter.frames // 2, None]
    count = max(batch_size // lifter.frames, 1)
    for some, frames, mask in zip(*(torch.split(x, count) for x in (windows, lifted, kept)), strict=True):
        yield some, frames[mask], mask


def _stretches(bounds: Tensor, frames: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For a sliding lifter: pieces of sequences, up to `batch_size` frames and half a window at each side."""
    reach = frames // 2
    limits = bounds.tolist()
    for first, end in pairwise(limits):
        for start in range(first, end, batch_size):
            rows = torch.arange(start, min(start + batch_size, end), device=bounds.device)
            wide = torch.arange(start - reach, start + len(rows) + reach, device=bounds.device)
            yield wide.clamp(first, end - 1)[None], rows, torch.ones(1, len(rows), dtype=torch.bool)


def _tiles(bounds: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Windows side by side: frame numbers (W, frames), and which of them are lifted in that window."""
    lengths = bounds.diff()
    tiles = (lengths + frames - 1) // frames
    first, length = bounds[:-1].repeat_interleave(tiles), lengths.repeat_interleave(tiles)
    before = (tiles.cumsum(0) - tiles).repeat_interleave(tiles)
    done = (torch.arange(len(first), device=bounds.device) - before) * frames  # frames lifted by earlier windows
    start = torch.minimum(done, (length - frames).clamp(min=0))
    place = start[:, None] + torch.arange(frames, device=bounds.device)
    new = (place >= done[:, None]) & (place < length[:, None])
    return first[:, None] + torch.minimum(place, length[:, None] - 1), new

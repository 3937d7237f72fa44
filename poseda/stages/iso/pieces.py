"""Clips cut into pieces of consecutive frames, and pieces into groups that share one copy of the moving weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.data.clips import UnlabelledClips
from poseda.lifters.base import Lifter
from poseda.stages.iso.cycle import Seen, lifter_input


def context(lifter: Lifter) -> tuple[int, int]:
    """Frames that a lifter sees before and after the one that it lifts, beyond its piece: 0, 0 for seq2seq windows."""
    if lifter.output == "seq2seq" and not lifter.slides:
        return 0, 0
    return lifter.frames // 2, lifter.frames - 1 - lifter.frames // 2


@dataclass(frozen=True, eq=False)
class Groups:
    """Q groups of G pieces of L frames; no group crosses a sequence. Short groups and pieces are filled up."""

    frames: Tensor
    """(Q, G, L) int64."""
    wide: Tensor
    """(Q, G, W) int64: the same with the lifter's context, edge frames of the sequence repeated."""
    kept: Tensor
    """(Q, G, L) bool: each frame of the clips is kept once."""
    real: Tensor
    """(Q, G) bool: not a repeated piece."""
    sequence: Tensor
    """(Q,) int64."""
    number: Tensor
    """(Q,) int64: place of the group in its sequence."""

    def __getitem__(self, rows: Tensor) -> Groups:
        return Groups(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def cut_groups(bounds: Tensor, lifter: Lifter, group: int) -> Groups:
    """Groups of `group` pieces, each as long as the lifter's window. bounds (S + 1,)."""
    length = lifter.frames
    sizes = bounds.diff()
    pieces = (sizes + length - 1) // length  # (S,)
    groups = (pieces + group - 1) // group
    sequence = torch.arange(len(sizes), device=bounds.device).repeat_interleave(groups)
    number = torch.arange(len(sequence), device=bounds.device) - (groups.cumsum(0) - groups)[sequence]
    piece = number[:, None] * group + torch.arange(group, device=bounds.device)  # (Q, G)
    real = piece < pieces[sequence, None]
    piece = piece.clamp(max=(pieces[sequence] - 1)[:, None])
    size = sizes[sequence, None]
    start = torch.minimum(piece * length, (size - length).clamp(min=0))
    before, after = context(lifter)
    place = start[..., None] + torch.arange(-before, length + after, device=bounds.device)
    middle = place[..., before : before + length]
    kept = real[..., None] & (middle < size[..., None]) & (middle >= (piece * length)[..., None])
    first, last = bounds[sequence, None, None], (size - 1)[..., None]
    wide = first + torch.minimum(place.clamp(min=0), last)
    return Groups(wide[..., before : before + length], wide, kept, real, sequence, number)


def look(clips: UnlabelledClips, groups: Groups) -> tuple[Tensor, Seen]:
    """Lifter's 2D (Q, G, W, J, 2) with context, and what is seen of the Q G pieces themselves."""
    flat = groups.frames.flatten(0, 1)
    cameras = clips.cameras_at(flat[:, 0])
    wide = groups.wide.flatten(0, 1)
    screen = lifter_input(clips.keypoints[wide], cameras, clips.visible[wide])
    seen = Seen(clips.keypoints[flat], clips.confidence[flat] * groups.real.flatten()[:, None, None], cameras)
    return screen.view(*groups.wide.shape, *screen.shape[-2:]), seen

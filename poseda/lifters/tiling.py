"""Which windows of whole clips a lifter is run on, and which of its outputs are kept."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from poseda.data.windows import window_index
from poseda.errors import ConfigError, choose
from poseda.lifters.base import Lifter

Merge = Literal["mean", "centre"]


class LiftingBatch(NamedTuple):
    """What to run and what to keep of it."""

    windows: Tensor
    """(B, T) int64: frames of the input."""
    frames: Tensor
    """(N,) int64: frames of the kept outputs, in the order of the mask."""
    kept: Tensor
    """(B, T') bool: which outputs are kept."""


def lifting_batches(
    lifter: Lifter, bounds: Tensor, batch_size: int, overlap: int = 0, merge: Merge = "mean"
) -> Iterator[LiftingBatch]:
    """Batches of about `batch_size` frames over all sequences; bounds (S + 1,) are those of clips.

    Every frame is kept once, or, for a seq2seq lifter with `overlap` and merge="mean", as often as a window holds
    it. Raises ConfigError for an overlap that is no part of a window, or of a lifter that has none.
    """
    choose(merge, get_args(Merge), "merge")
    side_by_side = lifter.frames > 1 and lifter.output == "seq2seq" and not lifter.slides
    if overlap and not (side_by_side and 0 < overlap < lifter.frames):
        what = f"from 0 to {lifter.frames - 1}" if side_by_side else "0: it gives one pose a window"
        raise ConfigError(f"overlap={overlap}: for {lifter.name} with frames={lifter.frames} it must be {what}.")
    if lifter.frames > 1 and lifter.slides and not lifter.sees_windows:
        yield from _stretches(bounds, lifter.frames, batch_size)
        return
    if side_by_side:
        windows, kept = _tiles(bounds, lifter.frames, lifter.frames - overlap, merge)
        lifted = windows
    else:
        windows = window_index(bounds, lifter.frames)
        kept = torch.ones(len(windows), 1, dtype=torch.bool, device=bounds.device)
        lifted = windows[:, lifter.frames // 2, None]
    count = max(batch_size // lifter.frames, 1)
    for some, frames, mask in zip(*(torch.split(x, count) for x in (windows, lifted, kept)), strict=True):
        if len(some):  # torch.split makes one piece of nothing
            yield LiftingBatch(some, frames[mask], mask)


def _stretches(bounds: Tensor, frames: int, batch_size: int) -> Iterator[LiftingBatch]:
    """For a sliding lifter: pieces of sequences, up to `batch_size` frames and half a window at each side."""
    reach = frames // 2
    limits = bounds.tolist()
    for first, end in pairwise(limits):
        for start in range(first, end, batch_size):
            rows = torch.arange(start, min(start + batch_size, end), device=bounds.device)
            wide = torch.arange(start - reach, start + len(rows) + reach, device=bounds.device)
            kept = torch.ones(1, len(rows), dtype=torch.bool)
            yield LiftingBatch(wide.clamp(first, end - 1)[None], rows, kept)


def _tiles(bounds: Tensor, frames: int, stride: int, merge: Merge) -> tuple[Tensor, Tensor]:
    """Windows every `stride` frames of each sequence, the last one moved back to end with it: frame numbers and
    kept frames, both (W, frames). A sequence shorter than a window repeats its last frame, which is not kept again.
    """
    lengths = bounds.diff()
    tiles = ((lengths - frames).clamp(min=0) + stride - 1) // stride + 1
    first, length = bounds[:-1].repeat_interleave(tiles), lengths.repeat_interleave(tiles)
    before = (tiles.cumsum(0) - tiles).repeat_interleave(tiles)
    number = torch.arange(len(first), device=bounds.device) - before
    start = torch.minimum(number * stride, (length - frames).clamp(min=0))
    place = start[:, None] + torch.arange(frames, device=bounds.device)
    kept = place < length[:, None]
    if stride == frames:
        kept &= place >= (number * stride)[:, None]  # an earlier window has the others
    elif merge == "centre":
        kept &= _nearest(start, place, number == 0, frames)
    return first[:, None] + torch.minimum(place, length[:, None] - 1), kept


def _nearest(start: Tensor, place: Tensor, opens: Tensor, frames: int) -> Tensor:
    """(W, frames) bool: frames nearer to this window's centre than to its neighbours', of two the earlier window's.

    start (W,) and place (W, frames) count from the sequence's first frame; opens (W,) marks its first window.
    """
    between = start[:-1] + start[1:] + frames - 1  # twice the middle of two centres
    lower = torch.cat([between.new_full((1,), -1), between]).masked_fill(opens, -1)
    upper = torch.cat([between, between.new_full((1,), torch.iinfo(between.dtype).max)])
    upper[:-1].masked_fill_(opens[1:], torch.iinfo(between.dtype).max)
    return (2 * place > lower[:, None]) & (2 * place <= upper[:, None])

"""Clips cut as the published evaluations of seq2seq lifters cut them, for numbers that compare with the papers'.

Those evaluations do not score each frame once: some score frames twice, some leave frames out. Here the clips
themselves are rearranged, so that any evaluation of what comes out weighs the frames as theirs does. Speeds across
the borders of windows are then no longer speeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from poseda.data.clips import AnyClips
from poseda.errors import ConfigError, choose


def legacy_clips(clips: AnyClips, frames: int, convention: str) -> AnyClips:
    """The clips as whole windows of `frames`, each sequence a multiple of it; for lifters with that window.

    convention: "mixste" (MixSTE, KTPFormer): the last `frames` frames are a window of their own, which counts what
    it shares with the one before twice; shorter sequences repeat their last frame, and the copies count. "hot": the
    windows lie centred over the sequence and repeat its first and last frame, and the copies count. "motionbert"
    (MotionBERT, MotionAGFormer): what follows the last whole window is left out; shorter sequences are stretched.
    Raises ConfigError for another convention.
    """
    if frames < 1:
        raise ConfigError(f"frames={frames}: a window has at least 1 frame.")
    order = _ORDERS[choose(convention, _ORDERS, "convention")]
    limits: list[int] = clips.bounds.tolist()
    parts: list[Tensor] = [first + order(end - first, frames) for first, end in pairwise(limits)]
    index = torch.cat(parts).to(clips.bounds.device)
    counts = torch.tensor([0, *(len(part) for part in parts)], device=clips.bounds.device)
    names = {field.name for field in fields(clips)} & {"keypoints", "confidence", "poses", "scored"}
    given = {name: getattr(clips, name) for name in names}
    taken: dict[str, Any] = {name: x.index_select(0, index) for name, x in given.items() if x is not None}
    return replace(clips, bounds=counts.cumsum(0), **taken)


def _last_window_again(length: int, frames: int) -> Tensor:
    if length < frames:
        return torch.arange(frames).clamp(max=length - 1)
    whole = torch.arange(length // frames * frames)
    return torch.cat([whole, torch.arange(length - frames, length)]) if length % frames else whole


def _centred(length: int, frames: int) -> Tensor:
    total = -(-length // frames) * frames
    return (torch.arange(total) - (total - length) // 2).clamp(0, length - 1)


def _whole_windows(length: int, frames: int) -> Tensor:
    if length < frames:
        return torch.arange(frames) * length // frames
    return torch.arange(length // frames * frames)


_ORDERS: dict[str, Callable[[int, int], Tensor]] = {
    "hot": _centred,
    "mixste": _last_window_again,
    "motionbert": _whole_windows,
}

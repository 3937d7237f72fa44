"""Bone lengths of the target's people beside those of the source, as ratios, from 2D of the target as a whole.

A bone that is nearly parallel to the image is seen at full length. In each frame the scale (ray units per mm) is that
of the bones that are least foreshortened if lengths are as assumed; of each bone group, an upper quantile over all
frames of seen length / scale says its length; and so on to a fixed point. The same measurement on the source's
own 2D, of poses whose lengths are known, takes away what perspective and typical postures add. One view cannot tell
size from depth, so that ratios are relative: their geometric mean is 1. Our own; nothing is learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.geometry.bones import bone_lengths
from poseda.skeleton import Skeleton
from poseda.stages.augmentation.changes import group_index

QUANTILE = 0.9
"""Of seen lengths over frames: near the longest, and not the noise beyond it."""
SCALE_QUANTILE = 0.8
"""Of a frame's bones, for its scale."""
MOST_FRAMES = 20_000
"""Frames measured on each side, evenly spread."""
FEWEST_FRAMES = 50
"""A bone group that fewer frames show keeps its length."""
FIXED_POINT_STEPS = 20
LARGEST = 1.5
"""Ratios are kept between 1 / LARGEST and LARGEST: beyond, the 2D is no measurement."""


def target_ratios(source: LabelledClips, target: UnlabelledClips) -> Tensor | None:
    """(G,) length of each symmetric bone group of the target's people over that of the source's; geometric mean 1.

    None where the target shows hardly any bone.
    """
    source = source.subsample(-(-source.num_frames // MOST_FRAMES))
    target = target.subsample(-(-target.num_frames // MOST_FRAMES))
    skeleton = source.skeleton
    start = _by_group(bone_lengths(source.poses, skeleton).mean(0, keepdim=True), skeleton)[0]
    mine = seen_lengths(source.poses[..., :2] / source.poses[..., 2:], source.visible, skeleton, start)
    cameras = target.cameras_at(torch.arange(target.num_frames, device=target.keypoints.device))
    theirs = seen_lengths(cameras.unproject(target.keypoints), target.visible, skeleton, start)
    known = theirs.isfinite() & mine.isfinite()
    if not bool(known.any()):
        return None
    log = torch.where(known, (theirs / mine).log(), 0.0)
    log = torch.where(known, log - log.sum() / known.sum(), 0.0)
    return log.exp().clamp(1 / LARGEST, LARGEST)


def seen_lengths(rays: Tensor, visible: Tensor, skeleton: Skeleton, start: Tensor) -> Tensor:
    """(G,) lengths with the geometric mean of `start` (G,), from rays (F, J, 2), visible (F, J).

    NaN for a group that fewer than FEWEST_FRAMES frames show.
    """
    seen = bone_lengths(rays, skeleton)
    ends = torch.tensor(skeleton.bones, device=rays.device)
    hidden = ~visible[:, ends].all(-1)
    groups = group_index(skeleton).to(rays.device)
    seen = seen.masked_fill(hidden, torch.nan)  # (F, E)
    lengths = start.clone()
    for _ in range(FIXED_POINT_STEPS):
        scale = (seen / lengths[groups]).nanquantile(SCALE_QUANTILE, 1, keepdim=True)
        share = seen / scale.where(scale > 0, torch.nan)
        members = [share[:, groups == group].flatten() for group in range(len(start))]
        longest = torch.stack([some.nanquantile(QUANTILE) for some in members])
        lengths = lengths + 0.5 * (longest.where(longest.isfinite(), lengths) - lengths)
        lengths = lengths * (start.log().mean() - lengths.log().mean()).exp()
    shown = torch.stack([(~hidden[:, groups == group]).sum() for group in range(len(start))])
    return lengths.where(shown >= FEWEST_FRAMES, torch.nan)


def _by_group(bones: Tensor, skeleton: Skeleton) -> Tensor:
    """(N, E) -> (N, G), the mean of each group's bones."""
    groups = group_index(skeleton).to(bones.device)
    return torch.stack([bones[:, groups == group].mean(1) for group in range(int(groups.max()) + 1)], 1)

"""Where the root stands, so that a root-relative pose can be projected: from the 2D, a clip, a size, or the floor.

One view tells a person's place only up to their size: the root at which a pose fits its 2D is as far away as the pose
is large. The providers differ in what they take the size from.

    least_squares  the pose of the frame itself
    clip           the pose, made as large as the person is on average over the sequence, and then the depth smoothed
                   along time by local lines in a Gaussian window (log depth, weighted by the frame's visible joints)
    size_prior     bones as long as the source's, or a height that is given
    ground         the floor: the depth at which the lower ankle has the height of a standing ankle; of a sequence the
                   median ratio of that depth to the least-squares one counts, so that jumps do no harm
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from poseda.errors import ConfigError
from poseda.geometry.bones import bone_lengths
from poseda.geometry.camera import has_extrinsics
from poseda.geometry.root import root_from_keypoints
from poseda.skeleton import Skeleton, index_tensor
from poseda.stages.tto.observation import Observation

ANKLE_OF_HEIGHT = 0.039
"""Height of a standing ankle over the person's height (Winter, Biomechanics and Motor Control of Human Movement)."""
PLAUSIBLE = (0.5, 2.0)
"""A person is not taken for more than twice as large, or less than half as large, as they were lifted."""
_MIDDLE = ("spine", "torso", "neck", "head")
_LEG = ("thigh", "shank")


@dataclass(frozen=True)
class Roots:
    """A root provider: poses (N, J, 3) mm -> roots (N, 3) mm, and whether they are known (N,)."""

    kind: str
    path_frames: float = 5.0
    height_mm: float = 0.0
    source_length: float = 0.0
    """Mean total length of the source's bones, mm; 0 = not measured."""

    def __call__(self, pose: Tensor, seen: Observation) -> tuple[Tensor, Tensor]:
        """Roots of poses, root-relative, in camera axes; no gradient goes through them."""
        pose = pose.detach()
        if self.kind == "oracle":
            assert seen.root is not None  # the stage has seen to it
            return seen.root, torch.ones_like(seen.root[:, 0], dtype=torch.bool)
        if self.kind == "clip":
            length = bone_lengths(pose, seen.skeleton).sum(-1)
            root, valid = _at_size(pose, seen, clip_mean(length, seen) / length.clamp_min(1.0))
            return _smooth(root, valid, seen, self.path_frames), valid
        if self.kind in ("size_prior", "ground"):
            return _at_size(pose, seen, self.size_ratio(pose, seen)[0])
        return root_from_keypoints(pose, seen.rays, seen.confidence)

    def size_ratio(self, pose: Tensor, seen: Observation) -> tuple[Tensor, Tensor]:
        """How much larger the people are than poses (N, J, 3) mm make them: (N,), 1 where it is not known (N,) bool."""
        if self.kind == "ground":
            return _ground_ratio(pose, seen)
        known = torch.ones(len(pose), dtype=torch.bool, device=pose.device)
        if self.height_mm:
            wanted = (1 - ANKLE_OF_HEIGHT) * self.height_mm
            return (wanted / stature(pose, seen.skeleton).clamp_min(1.0)).clamp(*PLAUSIBLE), known
        if not self.source_length:
            raise ConfigError("tto.root=size_prior needs tto.height_mm=..., or TTO.calibrate beforehand.")
        length = bone_lengths(pose, seen.skeleton).sum(-1)
        return (self.source_length / length.clamp_min(1.0)).clamp(*PLAUSIBLE), known


def stature(pose: Tensor, skeleton: Skeleton) -> Tensor:
    """Length (N,) mm from the ankles to the top of the head along the bones of poses (N, J, 3) mm.

    Raises ConfigError for a skeleton without these bones.
    """
    groups = skeleton.bone_groups
    missing = [name for name in (*_LEG, *_MIDDLE) if name not in groups]
    if missing:
        raise ConfigError(f"{skeleton.name} has no {missing[0]}, and so no height; leave tto.height_mm out.")
    lengths = bone_lengths(pose, skeleton)
    part = {name: lengths.index_select(-1, index_tensor(groups[name], pose.device)) for name in (*_LEG, *_MIDDLE)}
    return sum(part[name].mean(-1) for name in _LEG) + sum(part[name].sum(-1) for name in _MIDDLE)  # type: ignore[return-value]


def clip_mean(values: Tensor, seen: Observation) -> Tensor:
    """Mean over each frame's sequence: (N, ...) -> same."""
    sums = values.new_zeros(seen.clips, *values.shape[1:]).index_add_(0, seen.clip, values)
    counts = torch.bincount(seen.clip, minlength=seen.clips).clamp_min(1).to(values)
    return (sums / counts.view(-1, *(1,) * (values.ndim - 1)))[seen.clip]


def _at_size(pose: Tensor, seen: Observation, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Roots at which poses would fit if they were `ratio` (N,) times as large; as far away, in the same direction."""
    return root_from_keypoints(pose * ratio[:, None, None], seen.rays, seen.confidence)


def _smooth(root: Tensor, valid: Tensor, seen: Observation, width: float) -> Tensor:
    """Roots with log depth smoothed along each sequence; they stay on their rays."""
    reach = max(int(3 * width), 1)
    offsets = torch.arange(-reach, reach + 1, device=root.device)
    place = torch.arange(len(root), device=root.device)[:, None] + offsets
    near = place.clamp(0, len(root) - 1)
    inside = (place == near) & (seen.clip[near] == seen.clip[:, None]) & valid[near]
    kernel = torch.exp(-0.5 * (offsets.to(root) / width) ** 2)
    weight = inside * kernel * (seen.confidence > 0).to(root).mean(-1)[near]  # (N, 2 reach + 1)
    depth = torch.where(valid, root[:, 2], 1.0).log()
    start = depth[:, None]
    difference, time = depth[near] - start, offsets.to(root) / width
    total = weight.sum(-1).clamp_min(1e-12)
    mean_time, mean = (weight * time).sum(-1) / total, (weight * difference).sum(-1) / total
    spread = (weight * (time - mean_time[:, None]) ** 2).sum(-1)
    slope = (weight * (time - mean_time[:, None]) * difference).sum(-1) / spread.clamp_min(1e-6)
    factor = torch.exp(mean - slope * mean_time)
    return torch.where(valid[:, None], root * factor[:, None], root)


def _ground_ratio(pose: Tensor, seen: Observation) -> tuple[Tensor, Tensor]:
    """Size of people who stand on the floor z = 0 over that of their poses: (N,); whether it is known (N,)."""
    skeleton, cameras = seen.skeleton, seen.cameras
    feet = [name for name in ("lankle", "rankle") if name in skeleton.joints]
    if not feet:
        raise ConfigError(f"{skeleton.name} has no ankles; take another tto.root than ground.")
    ankles = [skeleton.index(name) for name in feet]
    root, valid = root_from_keypoints(pose, seen.rays, seen.confidence)
    # with the pose a times as large, everything is a times as far: the ankle moves on its ray from the camera's centre
    height = cameras.centre()[:, 2:]
    down = (cameras.R[:, :, 2].unsqueeze(1) * (pose[:, ankles] + root[:, None])).sum(-1)  # (N, 2) world z from there
    chain = stature(pose, skeleton) if _has_stature(skeleton) else None
    above = 0.0 if chain is None else (ANKLE_OF_HEIGHT / (1 - ANKLE_OF_HEIGHT) * chain)[:, None]
    ratio = height / (above - down)  # height + a down = a above
    usable = (down < 0) & (seen.confidence[:, ankles] > 0)
    # a lifted foot would have to be larger, that is farther, to touch the floor: the standing one gives the smaller
    ratio = ratio.masked_fill(~usable, torch.inf).amin(-1)
    good = valid & (ratio > PLAUSIBLE[0]) & (ratio < PLAUSIBLE[1]) & has_extrinsics(cameras)
    middle = torch.ones_like(ratio)
    known = torch.zeros_like(good)
    starts = [0, *((seen.clip[1:] != seen.clip[:-1]).nonzero().flatten() + 1).tolist(), len(ratio)]
    for first, end in pairwise(starts):  # a sequence at a time: medians of ragged parts
        some = ratio[first:end][good[first:end]]
        if 2 * len(some) > end - first:
            middle[first:end], known[first:end] = some.median(), True
    return middle, known


def _has_stature(skeleton: Skeleton) -> bool:
    return all(name in skeleton.bone_groups for name in (*_LEG, *_MIDDLE))

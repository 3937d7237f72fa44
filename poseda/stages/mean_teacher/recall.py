"""The teacher's poses of target clips, for lifters that give one pose a window: those of all its frames."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.data.batches import TargetBatch, TargetSampler
from poseda.data.clips import UnlabelledClips
from poseda.data.windows import sequence_limits, windows_around
from poseda.lifters.base import Lifter
from poseda.lifters.inference import lift_clips
from poseda.stages.mean_teacher.bones import hold_bones


class Recall:
    """Poses of the first part of each of the target's sequences, `most` frames in all, as the teacher last saw them."""

    def __init__(self, target: UnlabelledClips, frames: int, most: int, flip: bool, bones: Tensor | None) -> None:
        """Windows have `frames` frames; bones (F, E) mm of the target's people, or None for those lifted."""
        self.clips, self.frames, self.flip = target.limit(most), frames, flip
        self.bones = None if bones is None else bones[target.within_limit(most)]
        self.limits = sequence_limits(self.clips.bounds)
        self.sampler = TargetSampler(self.clips, frames)
        self.poses = torch.zeros(0)

    @torch.no_grad()
    def renew(self, teacher: Lifter) -> None:
        """Lift the clips anew."""
        poses = lift_clips(teacher, self.clips, flip=self.flip).poses
        if self.bones is not None:
            poses = hold_bones(poses.unsqueeze(1), self.bones, teacher.skeleton).squeeze(1)
        self.poses = poses

    def draw(self, count: int, generator: torch.Generator) -> tuple[TargetBatch, Tensor]:
        """Windows of the target, and the teacher's poses of all their frames: (B, T, J, 3) mm, camera axes."""
        windows = self.sampler.draw(count, generator)
        assert windows.frames is not None
        first, last = (limit[windows.frames] for limit in self.limits)
        return windows, self.poses[windows_around(windows.frames, first, last, self.frames)]

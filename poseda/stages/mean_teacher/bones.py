"""Bones that a teacher's poses are held to: those that each person's 2D measures."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.anthropometry.persons import person_bones
from poseda.geometry.bones import with_bone_lengths
from poseda.lifters.inference import lift_clips
from poseda.skeleton import Skeleton
from poseda.stages.base import Setting


def measure_bones(setting: Setting) -> tuple[Tensor | None, str]:
    """Bones (F, E) mm of the target's people, from their 2D beside the source's, NaN for who is hardly seen; a remark.

    None where neither source clips nor the lifter's card tell of people with hips and shoulders.
    """
    reference = setting.people()
    if reference is None:
        return None, "bones stay as lifted: neither source clips nor the card tell of people with hips and shoulders"
    found = person_bones(reference, setting.target, lift_clips(setting.lifter, setting.target).poses)
    return found.bones, found.sentence()


def hold_bones(poses: Tensor, bones: Tensor, skeleton: Skeleton) -> Tensor:
    """Poses (B, T, J, 3) mm with bones (B, E) mm in all frames of each window, and their own where those are NaN."""
    lengths = bones.unsqueeze(1)
    measured = ~lengths.isnan().any(-1)[..., None, None]
    return torch.where(measured, with_bone_lengths(poses, lengths.nan_to_num(1.0), skeleton), poses)

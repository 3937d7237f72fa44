"""Body sizes of the stand-ins' people, and how people of one data set differ."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.skeleton import get_skeleton

# mm. Human3.6M: 0.97 times subject S1, a tall man, whose hips are 0.27 m apart by that data set's joint definition.
H36M_BODY = {
    "hip": 129.0, "thigh": 430.0, "shank": 440.0, "spine": 226.0, "torso": 249.0, "neck": 113.0,
    "head": 115.0, "shoulder": 146.0, "upper_arm": 271.0, "forearm": 244.0,
}  # fmt: skip
# mm. Narrow hips and wide shoulders like those of MPI-INF-3DHP: the proportions of CMU's people, at 1.06 times their
# size. The published figures for 3DHP are on labels scaled to one "universal" height, so that the two data sets differ
# in proportions more than in size; CMU's own sizes would make size the largest gap between the stand-ins.
NARROW_BODY = {
    "hip": 91.0, "thigh": 440.0, "shank": 454.0, "spine": 231.0, "torso": 249.0, "neck": 151.0,
    "head": 154.0, "shoulder": 211.0, "upper_arm": 316.0, "forearm": 305.0,
}  # fmt: skip


def draw_bodies(body: dict[str, float], count: int, spread: float, generator: torch.Generator) -> Tensor:
    """Bone lengths (count, E) mm; size varies by `spread`, proportions by half of it; left = right."""
    skeleton = get_skeleton("h36m17")
    stature = 1 + spread * torch.randn(count, 1, generator=generator).clamp(-2, 2)
    proportion = 1 + 0.5 * spread * torch.randn(count, len(body), generator=generator).clamp(-2, 2)
    groups = torch.tensor(list(body.values())) * stature * proportion  # (count, G)
    lengths = torch.empty(count, len(skeleton.bones))
    for column, name in enumerate(body):
        for bone in skeleton.bone_groups[name]:
            lengths[:, bone] = groups[:, column]
    return lengths

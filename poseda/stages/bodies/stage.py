"""Source bodies in the target's build: bones in the target's proportions, people as large as the target's.

Data sets place joints differently (Human3.6M's hips are half as far apart again as 3DHP's, its shoulders three quarters
as far) and film different people. A lifter takes broad shoulders over short legs for a body that is seen from above,
and the more views it has been trained on the more it believes so: without this stage, training on the target's views
can do harm (experiments/comparison, stand-ins). Bone ratios are measured on the target's 2D as a whole (ratios.py),
the size from the floor where cameras have extrinsics (size.py). Changed once, before all other stages, which then work
with, calibrate on and discriminate against bodies of the target's build. Our own; nothing is learned, and no target
label is read. PoseAug, AdaptPose and PoseDA change bone lengths at random instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.errors import ConfigError, choose
from poseda.geometry.bones import bone_lengths
from poseda.skeleton import Skeleton
from poseda.stages.augmentation.changes import group_index, stretch
from poseda.stages.base import Stage
from poseda.stages.bodies.ratios import target_ratios
from poseda.stages.bodies.size import relative_size

CHUNK = 8192
"""Frames changed at a time: what lies between stays in the cache."""


@dataclass(frozen=True)
class BodiesConfig:
    """Options of the target's build."""

    proportions: str = "target"
    """Lengths of bones beside one another: target (its people's, as far as its 2D as a whole tell), source (as
    recorded)."""
    size: str = "floor"
    """How tall people are: floor (as the target's, measured from the floor that they stand on; needs cameras with
    extrinsics on both sides, else as recorded), source (as recorded)."""

    def __post_init__(self) -> None:
        choose(self.proportions, ("target", "source"), "bodies.proportions")
        choose(self.size, ("floor", "source"), "bodies.size")
        if (self.proportions, self.size) == ("source", "source"):
            raise ConfigError(
                "bodies.proportions=source bodies.size=source changes nothing: leave bodies out of stages."
            )


class Bodies(Stage):
    """Give the source's people the build of the target's."""

    Config = BodiesConfig
    name = "bodies"
    label = "bodies"

    def __init__(self, config: BodiesConfig | None = None) -> None:
        self.config = config or BodiesConfig()

    def recast(self, source: LabelledClips, target: UnlabelledClips) -> tuple[LabelledClips, str]:
        """The source with other bodies, and what was measured."""
        skeleton, device = source.skeleton, source.poses.device
        ratios = torch.ones(len(skeleton.bone_groups), device=device)
        remarks = []
        if self.config.proportions == "target":
            found = target_ratios(source, target)
            if found is None:
                remarks.append("the target shows too few bones: proportions stay as recorded")
            else:
                ratios = found
                said = zip(skeleton.bone_groups, ratios.tolist(), strict=True)
                listed = ", ".join(f"{name} {ratio:.2f}" for name, ratio in said)
                remarks.append(f"bones of the target's people over the source's, from 2D: {listed}")
        size = 1.0
        if self.config.size == "floor":
            measured = relative_size(source, target)
            if measured is None:
                remarks.append(
                    "size=floor leaves people as tall as recorded: both sides need cameras with extrinsics, a floor at "
                    "z = 0 in all of them, and people who stand upright with both ankles in view"
                )
            else:
                size = measured[0]
                remarks.append(f"target people are {size:.2f} times as tall, from {measured[1]} upright frames")
        factors = lengths_for(source, ratios[group_index(skeleton).to(device)], size)
        return with_lengths(source, factors), "; ".join(remarks)


def lengths_for(source: LabelledClips, ratios: Tensor, height: float) -> Tensor:
    """(E,) factors of the source's bones: in proportion to `ratios` (E,), people `height` times as tall on average.

    Height is from the ankles to the head along the bones, which is what the floor tells.
    """
    mean = bone_lengths(source.poses, source.skeleton).mean(0)
    share = standing_share(source.skeleton).to(mean)
    return ratios * (height * (share * mean).sum() / (share * mean * ratios).sum())


def standing_share(skeleton: Skeleton) -> Tensor:
    """(E,) what each bone adds to the height of a standing person: 1, 1/2 where there is a left and a right one, or 0.

    A skeleton without ankles or head has no such height: all its bones count there.
    """
    upright = {"thigh", "shank", "spine", "torso", "neck", "head"}
    if not {"lankle", "rankle", "head"} <= set(skeleton.joints):
        upright = set(skeleton.bone_groups)
    share = torch.zeros(len(skeleton.bones))
    for name in upright & set(skeleton.bone_groups):
        members = skeleton.bone_groups[name]
        share[list(members)] = 1 / len(members)
    return share


def with_lengths(source: LabelledClips, factors: Tensor) -> LabelledClips:
    """The clips with bones `factors` (E,) as long, roots where they were, and the same cameras' 2D of that.

    What separates the clips' 2D from exact projections (a detector's errors) is kept, in pixels.
    """
    poses, keypoints = torch.empty_like(source.poses), torch.empty_like(source.keypoints)
    for first in range(0, source.num_frames, CHUNK):
        here = slice(first, min(first + CHUNK, source.num_frames))
        before = source.poses[here]
        after = stretch(before.unsqueeze(1), (factors - 1).expand(len(before), -1), source.skeleton).squeeze(1)
        cameras = source.cameras_at(torch.arange(here.start, here.stop, device=before.device))
        moved = cameras.project(after) - cameras.project(before)
        poses[here] = after
        keypoints[here] = source.keypoints[here] + moved * source.visible[here].unsqueeze(-1)
    return replace(source, poses=poses, keypoints=keypoints)

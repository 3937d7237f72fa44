"""Source bodies in the target's build: bones in the target's proportions, people as large as the target's.

Data sets place joints differently (the hips of Human3.6M's S1 are 0.27 m apart, those of people in CMU's motion capture
0.18) and film different people. A lifter takes broad shoulders over short legs for a body that is seen from above, and
the more views it has been trained on the more it believes so: without this stage, training on the target's views can do
harm (experiments/comparison, stand-ins). Proportions are measured on the target's 2D as a whole, and the size from the
floor where cameras have extrinsics (poseda/anthropometry). Changed once, before all other stages, which then work with,
calibrate on and discriminate against bodies of the target's build. Our own; nothing is learned, and no target label is
read. PoseAug, AdaptPose and PoseDA change bone lengths at random instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from poseda.anthropometry.height import FloorReference, standing_height
from poseda.anthropometry.people import alike
from poseda.anthropometry.proportions import FEWEST_FRAMES, MOST_FRAMES, Anatomy, rebuilt
from poseda.anthropometry.reference import Reference
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.errors import ConfigError, check_choices
from poseda.geometry.camera import Camera, has_extrinsics
from poseda.skeleton import Skeleton
from poseda.stages.base import Stage

CHUNK = 8192
"""Frames changed at a time: what lies between stays in the cache."""


@dataclass(frozen=True)
class BodiesConfig:
    """Options of the target's build."""

    proportions: Literal["target", "source"] = "target"
    """Lengths of bones beside one another, and where joints lie along the trunk: target (its people's, as far as its 2D
    as a whole tell), source (as recorded)."""
    size: Literal["floor", "source"] = "floor"
    """How tall people are: floor (as the target's, measured from the floor that they stand on; needs cameras with
    extrinsics on both sides, else as recorded), source (as recorded)."""

    def __post_init__(self) -> None:
        check_choices(self, "bodies")
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
        skeleton, remarks = source.skeleton, []
        reference = Reference.of(source) if self.config.proportions == "target" else None
        matrix = torch.eye(skeleton.num_joints, dtype=torch.float64)
        if self.config.proportions == "target":
            found = reference.proportions(target) if reference else None
            if found is None:
                remarks.append(
                    f"proportions stay as recorded: measuring takes {FEWEST_FRAMES} frames with hips and shoulders"
                )
            else:
                matrix = found.matrix(Anatomy(skeleton))
                listed = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found.ratios.items())
                remarks.append(f"lengths of the target's people over the source's, from 2D: {listed}")
        size = 1.0
        if self.config.size == "floor":
            floor = reference.floor if reference else FloorReference.of(source)
            measured = floor.size_of(target) if floor else None
            if measured is None:
                remarks.append(
                    "size=floor leaves people as tall as recorded: both sides need cameras with extrinsics, a floor at "
                    "z = 0 in all of them, and people who stand upright with both ankles in view"
                )
            else:
                size = measured[0]
                remarks.append(f"target people are {size:.2f} times as tall, from {measured[1]} upright frames")
        some = alike(source, MOST_FRAMES).poses
        before, after = (standing_height(poses, skeleton) for poses in (some, rebuilt(some, matrix, skeleton)))
        return with_bodies(source, size * float(before / after) * matrix, size), "; ".join(remarks)


def with_bodies(source: LabelledClips, matrix: Tensor, size: float) -> LabelledClips:
    """The clips with other bodies, `size` times as tall, and the same cameras' 2D of them.

    Before cameras with extrinsics people rise or sink so that their feet stand as they stood; else roots stay. What
    separates the clips' 2D from exact projections (a detector's errors) is kept, in pixels.
    """
    poses, keypoints = torch.empty_like(source.poses), torch.empty_like(source.keypoints)
    for first in range(0, source.num_frames, CHUNK):
        here = slice(first, min(first + CHUNK, source.num_frames))
        before = source.poses[here]
        cameras = source.cameras_at(torch.arange(here.start, here.stop, device=before.device))
        after = _on_the_floor(before, rebuilt(before, matrix, source.skeleton), cameras, source.skeleton, size)
        moved = cameras.project(after) - cameras.project(before)
        poses[here] = after
        keypoints[here] = source.keypoints[here] + moved * source.visible[here].unsqueeze(-1)
    return replace(source, poses=poses, keypoints=keypoints)


def _on_the_floor(before: Tensor, after: Tensor, cameras: Camera, skeleton: Skeleton, size: float) -> Tensor:
    """Poses (N, J, 3) mm moved along the vertical: the lower ankle stands `size` times as high over z = 0 as before."""
    if not {"lankle", "rankle"} <= set(skeleton.joints):
        return after
    ankles = [skeleton.index("lankle"), skeleton.index("rankle")]
    old, new = (cameras.camera_to_world(poses[:, ankles])[..., 2].amin(-1) for poses in (before, after))
    rise = torch.where(has_extrinsics(cameras), size * old - new, 0.0)
    return after + rise[:, None, None] * cameras.R[:, None, :, 2]

"""PoseAug: adversarial augmentation of the source with a learned translation, without a look at the target.

Gong et al., CVPR 2021: heads for bone angles, bone lengths and rigid motion, LSGAN against a 3D discriminator (KCS of
body parts; fake are the poses with bent bones) and a 2D one (fake are the projections of the placed poses, real those
of the source), bounds on angles and lengths, and feedback from the lifter. Use it without GPA, which would undo its
translation: `stages=[poseaug]`.

Departures: generator, discriminators and lifter learn in each step, on its own batch, and not in epochs in turn;
augmented and recorded windows share the lifter's batch; the pose goes to the generator as it is, after its bones have
taken the lengths of another window's person (PoseAug: of one of five subjects, once an epoch); people start at the
source's mean place, where PoseAug's z² starts at the camera; windows that leave the image on any side are refused, and
PoseAug tests one; these have no part in the feedback either; the 3D discriminator has three layers and 45 pairs as
inputs, not 1,125 numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch
from poseda.stages.augmentation.chain import inside_image, project_screen
from poseda.stages.augmentation.chain_stage import ChainConfig, ChainStage
from poseda.stages.augmentation.discriminators import swap_bone_lengths
from poseda.stages.base import Step


@dataclass(frozen=True)
class PoseAugConfig(ChainConfig):
    """Options of PoseAug; the defaults are those of its code."""

    swap_lengths: bool = True
    """Give each window the bone lengths of another window's person first."""


class PoseAug(ChainStage):
    """The chain generator of PoseAug, learning beside the lifter."""

    Config = PoseAugConfig
    name = "poseaug"
    label = "PoseAug"
    form = "additive"
    clip = "constant"

    def __init__(self, config: PoseAugConfig | None = None) -> None:
        self.config = config or PoseAugConfig()
        super().__init__(self.config)

    def augment(self, source: SourceBatch, generator: torch.Generator) -> SourceBatch:
        """Augmented windows in the source's cameras; where they cannot be seen, the plain ones with weight 0."""
        poses = source.poses
        if self.config.swap_lengths:
            poses = swap_bone_lengths(poses, _middle_frames(poses).roll(1, 0), self.skeleton)
        self.chain = self.augmentor.propose(poses, generator)
        self.keypoints = project_screen(self.chain.placed, source.cameras)
        self.seen = inside_image(self.chain.placed, self.keypoints).detach()
        made = torch.where(self.seen.view(-1, 1, 1, 1), self.chain.placed, poses)
        return replace(source, poses=made, weight=source.weight * self.seen * float(self.warm))

    def update(self, step: Step) -> Mapping[str, Tensor]:
        """Discriminators, then the generator."""
        assert self.chain is not None
        plain = project_screen(self.chain.original, step.original.cameras)
        middle = plain.shape[1] // 2
        everything = torch.ones_like(plain[:, middle, :, 0], dtype=torch.bool)
        flat = (plain[:, middle], self.keypoints[:, middle])
        scalars = self.learn(step, plain, self.keypoints, self.seen, flat, (everything, everything))
        self.watch.look(step.index, scalars, len(self.seen))
        return scalars


def _middle_frames(poses: Tensor) -> Tensor:
    """(B, 1, J, 3): the middle frame of each window, so that a window takes one set of lengths from another."""
    middle = poses.shape[1] // 2
    return poses[:, middle : middle + 1]


STAGE = PoseAug

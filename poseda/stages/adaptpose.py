"""AdaptPose: augmentation of source clips so that their projections look like the target's 2D to a discriminator.

Gholami et al., CVPR 2022. PoseAug's chain with true bone rotations that grow along the clip, a rotation drawn from a
learned normal distribution, a learned translation with z², projection with the source's cameras (no intrinsics of the
target are used), and real samples of the 2D discriminator from the target. Only windows that the lifter finds between 1
and 33 times as hard as plain ones reach it. Use it without GPA, which would undo its translation: `stages=[adaptpose]`.

Departures: all networks learn in each step, on its own batch, where AdaptPose takes turns of 300 batches; turns of
bones grow to twice the proposal at the end of the window and equal it in the middle, which discriminators see; the
temporal discriminator that its code optimises but never uses is left out; people start at the source's mean place;
windows that leave the image have no part in the feedback; results are not rescaled to a given torso and not averaged
over flips and time, as its evaluation does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch
from poseda.errors import ConfigError
from poseda.stages.augmentation.chain import inside_image, project_screen
from poseda.stages.augmentation.chain_stage import ChainConfig, ChainStage
from poseda.stages.augmentation.feedback import hardness
from poseda.stages.base import Step


@dataclass(frozen=True)
class AdaptPoseConfig(ChainConfig):
    """Options of AdaptPose; the defaults are those of its code."""

    hardness: tuple[float, float] = (1.0, 33.0)
    """Windows whose mean error is not between these multiples of a plain one's do not reach the lifter; [0,inf] keeps
    all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.hardness) != 2 or not 0 <= self.hardness[0] < self.hardness[1]:
            raise ConfigError(f"adaptpose.hardness={self.hardness}: must be two rising numbers, [low,high].")


class AdaptPose(ChainStage):
    """The chain generator of AdaptPose, learning beside the lifter from the target's 2D."""

    Config = AdaptPoseConfig
    name = "adaptpose"
    label = "AdaptPose"
    form = "axis_angle"
    clip = "ramp"

    def __init__(self, config: AdaptPoseConfig | None = None) -> None:
        self.config = config or AdaptPoseConfig()
        super().__init__(self.config)

    def augment(self, source: SourceBatch, generator: torch.Generator) -> SourceBatch:
        """Augmented windows in the source's cameras; plain ones of weight 0 where unseen, too easy or too hard."""
        self.chain = self.augmentor.propose(source.poses, generator)
        self.plain = project_screen(source.poses, source.cameras)
        self.keypoints = project_screen(self.chain.placed, source.cameras)
        self.seen = inside_image(self.chain.placed, self.keypoints).detach()
        made = torch.where(self.seen.view(-1, 1, 1, 1), self.chain.placed, source.poses)
        kept = self.seen
        if self.warm:
            points = torch.where(self.seen.view(-1, 1, 1, 1), self.keypoints, self.plain).detach()
            harder = hardness(
                self.lifter, (points, made.detach(), source.cameras), (self.plain, source.poses, source.cameras)
            ).mean(1)
            kept = kept & (harder > self.config.hardness[0]) & (harder < self.config.hardness[1])
        else:
            kept = torch.zeros_like(kept)
        self.kept = kept
        return replace(source, poses=made, weight=source.weight * kept)

    def update(self, step: Step) -> Mapping[str, Tensor]:
        """Discriminators, then the generator."""
        count, middle = len(self.seen), self.plain.shape[1] // 2
        flat = (step.target_keypoints[:count, middle], self.keypoints[:, middle])
        visible = (step.target.visible[:count, middle], step.target.visible[-count:, middle])
        scalars = self.learn(step, self.plain, self.keypoints, self.seen, flat, visible)
        scalars["kept"] = self.kept.float().mean()
        self.watch.look(step.index, scalars, count)
        return scalars


STAGE = AdaptPose

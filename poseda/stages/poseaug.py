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
from typing import Any

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch
from poseda.errors import ConfigError
from poseda.stages.augmentation.augmentor import (
    WEIGHT_DIFFERENCE,
    Augmentor,
    Rates,
    chain_scalars,
    difference_loss,
    feedback_loss,
    middle_pose,
)
from poseda.stages.augmentation.chain import Chain, inside_image, project_screen
from poseda.stages.augmentation.discriminators import swap_bone_lengths
from poseda.stages.augmentation.watch import CollapseWatch
from poseda.stages.base import Setting, Stage, Step


@dataclass(frozen=True)
class PoseAugConfig:
    """Options of PoseAug; the defaults are those of its code."""

    feedback: bool = True
    """Hold the lifter's error on augmented poses at a multiple of that on plain ones; three more passes a step."""
    swap_lengths: bool = True
    """Give each window the bone lengths of another window's person first."""
    warmup: float = 0.04
    """Share of the steps in which the generator learns alone, before the lifter sees its poses (2 of 50 epochs)."""
    generator_lr: float = 1e-4
    """Learning rate of the generator at the start; it falls to 0 along a line."""
    discriminator_lr: float = 1e-4
    """Learning rate of the discriminators at the start."""
    discriminator_every: int = 2
    """Steps between two updates of the discriminators."""
    pool: int = 4096
    """Generated samples kept for the discriminators; 0 for none."""
    watch_every: int = 50
    """Steps between two looks for a collapse, which ends the run with a sentence; 0 never looks."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"poseaug.warmup={self.warmup}: is a share of the steps, at least 0 and below 1.")
        if self.discriminator_every < 1:
            raise ConfigError(f"poseaug.discriminator_every={self.discriminator_every}: must be 1 or more.")
        for name in ("generator_lr", "discriminator_lr", "pool", "watch_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"poseaug.{name}={getattr(self, name)}: must not be negative.")


class PoseAug(Stage):
    """The chain generator of PoseAug, learning beside the lifter."""

    Config = PoseAugConfig
    name = "poseaug"
    label = "PoseAug"

    def __init__(self, config: PoseAugConfig | None = None) -> None:
        self.config = config or PoseAugConfig()
        self.steps_seen = 0
        self.chain: Chain | None = None
        self.watch = CollapseWatch("poseaug", self.config.watch_every, "Lower poseaug.generator_lr.")

    def prepare(self, setting: Setting) -> str:
        """Build the networks, with weights that depend on the run's seed alone."""
        config = self.config
        self.skeleton = setting.source.skeleton
        self.steps_seen, self.warm_steps = 0, round(config.warmup * setting.steps)
        rates = Rates(config.generator_lr, config.discriminator_lr, config.discriminator_every, config.pool)
        self.augmentor = Augmentor(setting.source, rates, form="additive", clip="constant", seed=setting.seed)
        return ""

    def augment(self, source: SourceBatch, generator: torch.Generator) -> SourceBatch:
        """Augmented windows in the source's cameras; where they cannot be seen, the plain ones with weight 0."""
        poses = source.poses
        if self.config.swap_lengths:
            poses = swap_bone_lengths(poses, _middle_frames(poses).roll(1, 0), self.skeleton)
        self.chain = self.augmentor.propose(poses, generator)
        self.keypoints = project_screen(self.chain.placed, source.cameras)
        self.seen = inside_image(self.chain.placed, self.keypoints).detach()
        made = torch.where(self.seen.view(-1, 1, 1, 1), self.chain.placed, poses)
        ready = float(self.steps_seen >= self.warm_steps)
        return replace(source, poses=made, weight=source.weight * self.seen * ready)

    def update(self, step: Step) -> Mapping[str, Tensor]:
        """Discriminators, then the generator."""
        assert self.chain is not None
        chain, cameras, root = self.chain, step.original.cameras, self.skeleton.root
        self.augmentor.anneal(1 - step.index / step.steps)
        middle = chain.original.shape[1] // 2
        plain = project_screen(chain.original, cameras)
        everything = torch.ones_like(plain[:, middle, :, 0], dtype=torch.bool)
        loss, scalars = self.augmentor.compare(
            step.index,
            (middle_pose(chain.original, root), middle_pose(chain.bent, root)),
            (plain[:, middle], self.keypoints[:, middle]),
            (everything, everything),
            step.generator,
        )
        loss = loss + WEIGHT_DIFFERENCE * difference_loss(chain)
        if self.config.feedback and self.steps_seen >= self.warm_steps:
            feedback, harder = feedback_loss(
                step.lifter,
                (project_screen(chain.bent, cameras), chain.bent),
                (self.keypoints.clamp(-2, 2), chain.placed),
                (plain, chain.original),
                self.seen,
                step.index / step.steps,
            )
            loss, scalars["hardness"] = loss + feedback, harder
        self.augmentor.descend(loss)
        self.steps_seen += 1
        scalars |= {"generator_loss": loss.detach(), "seen": self.seen.float().mean(), **chain_scalars(chain)}
        self.watch.look(step.index, scalars, len(self.seen))
        return scalars

    def state_dict(self) -> dict[str, Any]:
        """The augmentor, and how many steps it has learned."""
        return {"augmentor": self.augmentor.state_dict(), "steps_seen": self.steps_seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.augmentor.load_state_dict(state["augmentor"])
        self.steps_seen = int(state["steps_seen"])


def _middle_frames(poses: Tensor) -> Tensor:
    """(B, 1, J, 3): the middle frame of each window, so that a window takes one set of lengths from another."""
    middle = poses.shape[1] // 2
    return poses[:, middle : middle + 1]


STAGE = PoseAug

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
from poseda.stages.augmentation.feedback import hardness
from poseda.stages.augmentation.watch import CollapseWatch
from poseda.stages.base import Setting, Stage, Step


@dataclass(frozen=True)
class AdaptPoseConfig:
    """Options of AdaptPose; the defaults are those of its code."""

    feedback: bool = True
    """Hold the lifter's error on augmented poses at a multiple of that on plain ones; three more passes a step."""
    hardness: tuple[float, float] = (1.0, 33.0)
    """Windows whose mean error is not between these multiples of a plain one's do not reach the lifter; [0,inf] keeps
    all."""
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
            raise ConfigError(f"adaptpose.warmup={self.warmup}: is a share of the steps, at least 0 and below 1.")
        if len(self.hardness) != 2 or not 0 <= self.hardness[0] < self.hardness[1]:
            raise ConfigError(f"adaptpose.hardness={self.hardness}: must be two rising numbers, [low,high].")
        if self.discriminator_every < 1:
            raise ConfigError(f"adaptpose.discriminator_every={self.discriminator_every}: must be 1 or more.")
        for name in ("generator_lr", "discriminator_lr", "pool", "watch_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"adaptpose.{name}={getattr(self, name)}: must not be negative.")


class AdaptPose(Stage):
    """The chain generator of AdaptPose, learning beside the lifter from the target's 2D."""

    Config = AdaptPoseConfig
    name = "adaptpose"
    label = "AdaptPose"

    def __init__(self, config: AdaptPoseConfig | None = None) -> None:
        self.config = config or AdaptPoseConfig()
        self.steps_seen = 0
        self.chain: Chain | None = None
        self.watch = CollapseWatch("adaptpose", self.config.watch_every, "Lower adaptpose.generator_lr.")

    def prepare(self, setting: Setting) -> str:
        """Build the networks, with weights that depend on the run's seed alone."""
        config = self.config
        self.skeleton, self.lifter = setting.source.skeleton, setting.lifter
        self.steps_seen, self.warm_steps = 0, round(config.warmup * setting.steps)
        rates = Rates(config.generator_lr, config.discriminator_lr, config.discriminator_every, config.pool)
        self.augmentor = Augmentor(setting.source, rates, form="axis_angle", clip="ramp", seed=setting.seed)
        return ""

    def augment(self, source: SourceBatch, generator: torch.Generator) -> SourceBatch:
        """Augmented windows in the source's cameras; plain ones of weight 0 where unseen, too easy or too hard."""
        self.chain = self.augmentor.propose(source.poses, generator)
        self.plain = project_screen(source.poses, source.cameras)
        self.keypoints = project_screen(self.chain.placed, source.cameras)
        self.seen = inside_image(self.chain.placed, self.keypoints).detach()
        made = torch.where(self.seen.view(-1, 1, 1, 1), self.chain.placed, source.poses)
        kept = self.seen
        if self.steps_seen >= self.warm_steps:
            points = torch.where(self.seen.view(-1, 1, 1, 1), self.keypoints, self.plain).detach()
            harder = hardness(self.lifter, (points, made.detach()), (self.plain, source.poses)).mean(1)
            kept = kept & (harder > self.config.hardness[0]) & (harder < self.config.hardness[1])
        else:
            kept = torch.zeros_like(kept)
        self.kept = kept
        return replace(source, poses=made, weight=source.weight * kept)

    def update(self, step: Step) -> Mapping[str, Tensor]:
        """Discriminators, then the generator."""
        assert self.chain is not None
        chain, root, count = self.chain, self.skeleton.root, len(self.seen)
        self.augmentor.anneal(1 - step.index / step.steps)
        middle = chain.original.shape[1] // 2
        visible = step.target.visible[:count, middle]
        loss, scalars = self.augmentor.compare(
            step.index,
            (middle_pose(chain.original, root), middle_pose(chain.bent, root)),
            (step.target_keypoints[:count, middle], self.keypoints[:, middle]),
            (visible, step.target.visible[-count:, middle]),
            step.generator,
        )
        loss = loss + WEIGHT_DIFFERENCE * difference_loss(chain)
        if self.config.feedback and self.steps_seen >= self.warm_steps:
            feedback, harder = feedback_loss(
                step.lifter,
                (project_screen(chain.bent, step.original.cameras), chain.bent),
                (self.keypoints.clamp(-2, 2), chain.placed),
                (self.plain, chain.original),
                self.seen,
                step.index / step.steps,
            )
            loss, scalars["hardness"] = loss + feedback, harder
        self.augmentor.descend(loss)
        self.steps_seen += 1
        scalars |= {
            "generator_loss": loss.detach(),
            "seen": self.seen.float().mean(),
            "kept": self.kept.float().mean(),
            **chain_scalars(chain),
        }
        self.watch.look(step.index, scalars, count)
        return scalars

    def state_dict(self) -> dict[str, Any]:
        """The augmentor, and how many steps it has learned."""
        return {"augmentor": self.augmentor.state_dict(), "steps_seen": self.steps_seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.augmentor.load_state_dict(state["augmentor"])
        self.steps_seen = int(state["steps_seen"])


STAGE = AdaptPose

"""What PoseAug and AdaptPose share as stages: options, learning, state. They differ in what they compare with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

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
from poseda.stages.augmentation.chain import Chain, project_screen
from poseda.stages.augmentation.watch import CollapseWatch
from poseda.stages.base import Setting, Stage, Step

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ChainConfig:
    """Options of both."""

    feedback: bool = True
    """Hold the lifter's error on augmented poses at a multiple of that on plain ones; three more passes a step."""
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
        stage = type(self).__name__.removesuffix("Config").lower()
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"{stage}.warmup={self.warmup}: is a share of the steps, at least 0 and below 1.")
        if self.discriminator_every < 1:
            raise ConfigError(f"{stage}.discriminator_every={self.discriminator_every}: must be 1 or more.")
        for name in ("generator_lr", "discriminator_lr", "pool", "watch_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{stage}.{name}={getattr(self, name)}: must not be negative.")


class ChainStage(Stage):
    """The chain generator, learning beside the lifter. A stage of it writes `augment` and `update`."""

    form: ClassVar[Literal["additive", "axis_angle"]]
    """How a bone's turn is given."""
    clip: ClassVar[Literal["constant", "ramp"]]
    """How a turn goes over the frames of a window."""

    def __init__(self, config: ChainConfig) -> None:
        self.rates = Rates(config.generator_lr, config.discriminator_lr, config.discriminator_every, config.pool)
        self.warmup, self.feedback = config.warmup, config.feedback
        self.steps_seen = 0
        self.chain: Chain | None = None
        self.watch = CollapseWatch(self.name, config.watch_every, f"Lower {self.name}.generator_lr.")

    def prepare(self, setting: Setting) -> str:
        """Build the networks, with weights that depend on the run's seed alone."""
        self.skeleton, self.lifter = setting.source.skeleton, setting.lifter
        self.steps_seen, self.warm_steps = 0, round(self.warmup * setting.steps)
        self.augmentor = Augmentor(setting.source, self.rates, form=self.form, clip=self.clip, seed=setting.seed)
        return ""

    @property
    def warm(self) -> bool:
        """Whether the lifter sees what the generator proposes."""
        return self.steps_seen >= self.warm_steps

    def learn(
        self, step: Step, plain: Tensor, keypoints: Tensor, seen: Tensor, flat: Pair, visible: Pair
    ) -> dict[str, Tensor]:
        """One step of the discriminators, then of the generator, and the scalars to log.

        plain, keypoints: (A, T, J, 2) screen 2D of the recorded and of the augmented windows; seen: (A,) windows inside
        the image; flat: (A, J, 2) real and made 2D that are compared, with their visible joints (A, J).
        """
        assert self.chain is not None
        chain, root, cameras = self.chain, self.skeleton.root, step.original.cameras
        self.augmentor.anneal(1 - step.index / step.steps)
        poses = (middle_pose(chain.original, root), middle_pose(chain.bent, root))
        loss, scalars = self.augmentor.compare(step.index, poses, flat, visible, step.generator)
        loss = loss + WEIGHT_DIFFERENCE * difference_loss(chain)
        if self.feedback and self.warm:
            feedback, harder = feedback_loss(
                step.lifter,
                (project_screen(chain.bent, cameras), chain.bent, cameras),
                (keypoints.clamp(-2, 2), chain.placed, cameras),
                (plain, chain.original, cameras),
                seen,
                step.index / step.steps,
            )
            loss, scalars["hardness"] = loss + feedback, harder
        self.augmentor.descend(loss)
        self.steps_seen += 1
        return {**scalars, "generator_loss": loss.detach(), "seen": seen.float().mean(), **chain_scalars(chain)}

    def state_dict(self) -> dict[str, Any]:
        """The augmentor, and how many steps it has learned."""
        return {"augmentor": self.augmentor.state_dict(), "steps_seen": self.steps_seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.augmentor.load_state_dict(state["augmentor"])
        self.steps_seen = int(state["steps_seen"])

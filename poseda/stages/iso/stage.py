"""ISO, inference-stage optimisation: the lifter goes on learning, without labels, on the very 2D that it is to lift.

Zhang et al. (NeurIPS 2020, arXiv 2007.02054). No code is public; this is a reconstruction of what the paper's abstract
and later papers say of it: self-supervised geometry (lift, turn, reproject, lift again; a discriminator for the turned
view), `vanilla` (each instance starts from the trained weights, which come back after it) and `online` (weights are
kept along the stream). What the losses weigh, how a body turns, which weights move and how fast is our own.

Departures: the paper trains the trunk with these losses too, here any lifter is taken as it is; the discriminator
learns in `calibrate`, from source 2D and the finished lifter's reprojections of it; the camera is put back where the
estimated root says, for the truth is not to be had; errors are shares of the person's size; BatchNorm's statistics
stay; online weights are pulled a little back to the trained ones after each group (soft reset). The change that
learning makes is added to the poses that came in, so that flips and earlier stages keep their effect.

A group is `iso.group` consecutive pieces of one sequence, a piece one window of the lifter (one frame for
SimpleBaseline). The frames of a group learn together and share one copy of the moving weights; nothing else is shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.engine.facts import SourceFacts
from poseda.errors import ConfigError, check_choices
from poseda.lifters.base import Lifter, evaluation_mode
from poseda.lifters.inference import LiftedClips
from poseda.stages.base import Setting, Stage
from poseda.stages.iso.copies import Copies, moving_names
from poseda.stages.iso.critic import train_critic
from poseda.stages.iso.learner import Learner, Recipe
from poseda.stages.iso.pieces import Groups, cut_groups, look

MOST_NUMBERS = 8_000_000
"""Moving weights in all copies that learn at once; Adam keeps three times as many."""
GROUP = {"norm": 1, "head": 1, "all": 64}
"""Pieces in a group where none is said: a copy of all weights is too large for one frame."""


@dataclass(frozen=True)
class ISOConfig:
    """Options of inference-stage optimisation."""

    mode: Literal["vanilla", "online"] = "online"
    """vanilla: each group starts from the trained weights; online: weights are kept along each sequence."""
    weights: Literal["norm", "head", "all"] = "norm"
    """Which weights move: norm (scale and shift of normalisation layers), head (the layers after the latent), all."""
    steps: int = 1
    """Steps of Adam for each group; vanilla wants about 3."""
    lr: float = 3e-3
    """Step size of Adam; head and all want a hundredth of what norm takes."""
    group: int = 0
    """Pieces (windows of the lifter) that share one copy of the weights; 0: 1 for norm and head, 64 for all."""
    views: int = 2
    """Random turns of the body in each step."""
    yaw: float = 0.8
    """Largest turn about the camera's vertical axis, rad."""
    tilt: float = 0.2
    """Spread of turns about the two other axes, rad."""
    weight_3d: float = 1.0
    """Weight of the squared error in 3D after turning back, as a share of the pose's size."""
    weight_2d: float = 1.0
    """Weight of the squared error in 2D after turning back, as a share of the person's size in the image."""
    weight_adversarial: float = 0.0
    """Weight of (D - 1)² of the turned views (the paper has such a term; experiment=iso takes 0.1, and it made things
    worse in most trials); 0 trains no discriminator."""
    critic_steps: int = 500
    """Steps of the discriminator, on the source, before test time."""
    soft_reset: float = 0.05
    """online: share of the way back to the trained weights after each group."""
    chunk: int = 1024
    """Copies that learn at once, at most; copies of many weights are fewer."""

    def __post_init__(self) -> None:
        check_choices(self, "iso")
        for name, least in (("steps", 0), ("group", 0), ("views", 1), ("critic_steps", 0), ("chunk", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"iso.{name}={getattr(self, name)}: must be {least} or more.")
        for name in ("yaw", "tilt", "weight_3d", "weight_2d", "weight_adversarial"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"iso.{name}={getattr(self, name)}: must not be negative.")
        if not 0 < self.lr < float("inf") or not 0 <= self.soft_reset <= 1:
            raise ConfigError(f"iso.lr={self.lr}, soft_reset={self.soft_reset}: lr > 0, and a share from 0 to 1.")

    @property
    def pieces(self) -> int:
        """Pieces in a group."""
        return self.group or GROUP[self.weights]

    @property
    def recipe(self) -> Recipe:
        """What a step learns from."""
        return Recipe(
            self.steps, self.views, self.yaw, self.tilt, self.weight_3d, self.weight_2d, self.weight_adversarial
        )


class ISO(Stage):
    """Test-time learning of some of the lifter's weights, group by group of frames."""

    Config = ISOConfig
    name = "iso"
    needs_source = False

    def __init__(self, config: ISOConfig | None = None, *, seed: int = 0) -> None:
        """`seed` draws the turns; in a pipeline it is the run's."""
        self.config, self.seed = config or ISOConfig(), seed
        self.critic: nn.Module | None = None

    @property
    def label(self) -> str:  # type: ignore[override]
        """ISO, and how."""
        return f"ISO ({self.config.mode})"

    def prepare(self, setting: Setting) -> str:
        """Take the run's seed; say what moves. Raises ConfigError for a discriminator where there is no source."""
        self.seed = setting.seed
        if setting.clips is None:
            self._refuse_critic()
        names = moving_names(setting.lifter, self.config.weights)
        values = dict(setting.lifter.named_parameters())
        count = sum(values[name].numel() for name in names)
        group = self.config.pieces
        return f"{count:,} weights move ({self.config.weights}); windows that share them: {group}"

    def calibrate(self, lifter: Lifter, source: LabelledClips) -> None:
        """Train the discriminator on the source's 2D and the finished lifter's views of it."""
        config = self.config
        if config.weight_adversarial > 0:
            self.critic = train_critic(
                lifter, source, steps=config.critic_steps, yaw=config.yaw, tilt=config.tilt, seed=self.seed
            )

    def calibrate_without_source(self, lifter: Lifter, facts: SourceFacts) -> None:
        """Everything but a discriminator does without. Raises ConfigError."""
        self._refuse_critic()

    def _refuse_critic(self) -> None:
        if self.config.weight_adversarial > 0:
            raise ConfigError(
                f"iso.weight_adversarial={self.config.weight_adversarial:g} trains a discriminator on source clips: "
                "give source=NAME, or iso.weight_adversarial=0."
            )

    def refine(self, lifter: Lifter, clips: UnlabelledClips, lifted: LiftedClips) -> LiftedClips:
        """Poses of the lifter that learned on the clips' 2D; sigma stays that of the first prediction."""
        config = self.config
        if config.weight_adversarial > 0 and self.critic is None:
            raise ConfigError("iso has no discriminator yet: ISO.calibrate(lifter, source), or weight_adversarial=0.")
        learner = Learner(lifter, config.recipe, self.critic)
        groups = cut_groups(clips.bounds, lifter, config.pieces)
        poses = lifted.poses.clone()
        run = self._vanilla if config.mode == "vanilla" else self._online
        with evaluation_mode(lifter):
            for part, change in run(learner, clips, groups):
                poses[part.frames[part.kept]] += change[part.kept].to(poses)
        return replace(lifted, poses=poses)

    def _vanilla(self, learner: Learner, clips: UnlabelledClips, groups: Groups) -> Iterator[tuple[Groups, Tensor]]:
        """Groups (C, ...) and what learning changed, (C, G, L, J, 3) mm; each from the trained weights."""
        names = moving_names(learner.lifter, self.config.weights)
        numbers = torch.arange(len(groups.real), device=groups.real.device)
        for rows in torch.split(numbers, self._at_once(learner, names)):
            copies = Copies(learner.lifter, names, len(rows), self.config.lr)
            part = groups[rows]
            yield part, self._change(learner, copies, clips, part, self._generator(clips))

    def _online(self, learner: Learner, clips: UnlabelledClips, groups: Groups) -> Iterator[tuple[Groups, Tensor]]:
        """As `_vanilla`, one group of each sequence after the other; sequences go side by side, the longest first."""
        names = moving_names(learner.lifter, self.config.weights)
        counts = torch.bincount(groups.sequence)
        order = counts.argsort(descending=True, stable=True)
        first = counts.cumsum(0) - counts
        for some in torch.split(order, self._at_once(learner, names)):
            copies = Copies(learner.lifter, names, len(some), self.config.lr)
            generator = self._generator(clips)
            lengths = counts[some].tolist()
            for number in range(lengths[0]):
                active = sum(length > number for length in lengths)
                part = groups[first[some[:active]] + number]
                yield part, self._change(learner, copies, clips, part, generator)
                copies.pull_back(self.config.soft_reset, active)

    def _change(
        self, learner: Learner, copies: Copies, clips: UnlabelledClips, part: Groups, generator: torch.Generator
    ) -> Tensor:
        wide, seen = look(clips, part)
        weight = next(learner.lifter.parameters())
        learner.learn(copies, wide.to(weight), seen, part.real.to(weight), generator)
        return copies.change(wide.to(weight), seen.pixels.shape[1])

    def _at_once(self, learner: Learner, names: tuple[str, ...]) -> int:
        values = dict(learner.lifter.named_parameters())
        numbers = sum(values[name].numel() for name in names)
        return max(1, min(self.config.chunk // self.config.pieces, MOST_NUMBERS // numbers))

    def _generator(self, clips: UnlabelledClips) -> torch.Generator:
        return torch.Generator(device=clips.keypoints.device).manual_seed(self.seed)


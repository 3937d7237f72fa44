"""DH-AUG: poses from noise within anatomical joint limits, in place of augmented source poses.

Huang et al., ECCV 2022. A generator turns 128 numbers of noise into joint angles, which tanh holds to anatomical
ranges, and a root; forward kinematics makes poses of them with bone lengths of the source, up to 20 % longer or shorter
at random; WGAN-GP against a critic of root-relative poses (KCS, weight 1) and one of projections (0.2), whose real
samples are the source's. The target is not looked at. Without GPA it is DH-AUG; with it, its poses are placed by GPA.

Departures: ranges and axes of motion are our own (body.py), and a body of 28 angles where DH-AUG's has 32; the
critics learn in each step and the generator in every fifth, on the lifter's batches; the root starts at the source's
mean place; a window of several frames runs from one pose to a near one, at even speed, and there are no critics of
motion; recorded windows share the lifter's batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from poseda.data.batches import SourceBatch
from poseda.data.clips import LabelledClips
from poseda.engine.descent import adam
from poseda.errors import ConfigError
from poseda.geometry.bones import bone_lengths
from poseda.lifters.seeding import seeded
from poseda.skeleton import Skeleton
from poseda.stages.augmentation.adversarial import Adversaries
from poseda.stages.augmentation.augmentor import middle_pose
from poseda.stages.augmentation.chain import before_camera, inside_image, mean_place, project_screen
from poseda.stages.augmentation.changes import group_index
from poseda.stages.augmentation.discriminators import KCS, PartDiscriminator, PlainDiscriminator, screen_features
from poseda.stages.augmentation.trunk import normal
from poseda.stages.augmentation.watch import CollapseWatch
from poseda.stages.base import Setting, Stage, Step
from poseda.stages.dh_aug.body import Body

NOISE = 128
FURTHEST_MM = 10_000.0
WEIGHT_3D, WEIGHT_2D = 1.0, 0.2
DRIFT = 0.25
"""How far the noise at the end of a window is from that at its start: 0 is a still person, 1 another one."""


@dataclass(frozen=True)
class DHAugConfig:
    """Options of DH-AUG; the defaults are those of its code."""

    slack: float = 20.0
    """Degrees by which each range of motion is widened at both ends."""
    length_change: float = 0.2
    """Bones are longer or shorter than the source's mean by up to this share, drawn evenly."""
    generator_lr: float = 1e-4
    """Learning rate of the generator."""
    discriminator_lr: float = 1e-4
    """Learning rate of the critics."""
    generator_every: int = 5
    """Steps between two updates of the generator; the critics learn in each step."""
    gradient_penalty: float = 10.0
    """Weight of the critics' gradient penalty."""
    pool: int = 0
    """Generated samples kept for the critics; 0 for none."""
    watch_every: int = 50
    """Steps between two looks for a collapse, which ends the run with a sentence; 0 never looks."""

    def __post_init__(self) -> None:
        if self.generator_every < 1:
            raise ConfigError(f"dh_aug.generator_every={self.generator_every}: must be 1 or more.")
        if not 0 <= self.length_change < 1:
            raise ConfigError(f"dh_aug.length_change={self.length_change}: must be at least 0 and below 1.")
        for name in ("slack", "generator_lr", "discriminator_lr", "gradient_penalty", "pool", "watch_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"dh_aug.{name}={getattr(self, name)}: must not be negative.")


class Block(nn.Module):
    """x + Linear(LeakyReLU(Linear(LeakyReLU(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        leaky = nn.functional.leaky_relu
        inner: Tensor = self.second(leaky(self.first(leaky(features, 0.2)), 0.2))
        return features + inner


class NoiseGenerator(nn.Module):
    """Noise -> joint angles and roots (three residual blocks) -> poses."""

    def __init__(self, skeleton: Skeleton, start_mm: Tensor, slack: float, hidden: int = 256) -> None:
        super().__init__()
        self.body = Body(skeleton, slack)
        self.network = nn.Sequential(
            nn.Linear(NOISE, hidden), *(Block(hidden) for _ in range(3)), nn.Linear(hidden, self.body.count + 3)
        )
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight[-3:].mul_(0.3)  # most people are in the image from the start
            last.bias[-3:].add_(torch.atanh((start_mm.cpu() / FURTHEST_MM).clamp(-0.95, 0.95)))

    def forward(self, noise: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """noise (N, 128), lengths (N, E) mm -> poses (N, J, 3) mm and tanh of all proposals (N, D + 3)."""
        values = self.network(noise)
        pose = self.body(self.body.angles(values[:, :-3]), lengths)
        return pose + FURTHEST_MM * torch.tanh(values[:, -3:]).unsqueeze(1), torch.tanh(values)


class DHAug(Stage):
    """A generator of poses from noise, against two critics."""

    Config = DHAugConfig
    name = "dh_aug"
    label = "DH-AUG"

    def __init__(self, config: DHAugConfig | None = None) -> None:
        self.config = config or DHAugConfig()
        self.watch = CollapseWatch("dh_aug", self.config.watch_every, "Lower dh_aug.generator_lr.")

    def prepare(self, setting: Setting) -> str:
        """Build generator and critics, with weights that depend on the run's seed alone."""
        config, source = self.config, setting.source
        self.skeleton, device = source.skeleton, source.poses.device
        self.groups = group_index(self.skeleton).to(device)
        self.lengths = symmetric_lengths(source)
        with seeded(setting.seed):
            generator = NoiseGenerator(self.skeleton, mean_place(source), config.slack)
            judges = (PartDiscriminator(self.skeleton), PlainDiscriminator(2 * self.skeleton.num_joints))
        self.kcs = KCS(self.skeleton).to(device)
        self.generator = generator.to(device)
        self.optimizer = adam(self.generator.parameters(), config.generator_lr, (0.5, 0.9))
        self.adversaries = Adversaries(
            (judges[0].to(device), judges[1].to(device)), weights=(WEIGHT_3D, WEIGHT_2D), game="wgan_gp",
            lr=config.discriminator_lr, pool=config.pool, penalty=config.gradient_penalty,
        )  # fmt: skip
        return ""

    def augment(self, source: SourceBatch, generator: torch.Generator) -> SourceBatch:
        """Windows of generated people in the source's cameras; recorded ones of weight 0 where they are unseen."""
        self.made, self.proposals = self.generate(source.poses, generator)
        self.keypoints = project_screen(self.made, source.cameras)
        self.seen = inside_image(self.made, self.keypoints).detach()
        poses = torch.where(self.seen.view(-1, 1, 1, 1), self.made, source.poses)
        return replace(source, poses=poses, weight=source.weight * self.seen)

    def generate(self, like: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows of people as many and as long as `like` (B, T, J, 3), and their proposals' tanh (B T, D + 3)."""
        count, frames = like.shape[:2]
        start, other = (normal(count, NOISE, like, generator) for _ in range(2))
        draw = torch.rand(
            count, len(self.skeleton.bone_groups), generator=generator, device=generator.device, dtype=like.dtype
        ).to(like.device)
        share = self.config.length_change * (2 * draw - 1)
        lengths = self.lengths * (1 + share.index_select(1, self.groups))
        turn = DRIFT * torch.linspace(0, 1, frames, dtype=like.dtype, device=like.device)[:, None, None]
        noise = start * torch.cos(turn) + other * torch.sin(turn)  # (T, B, 128), still N(0, 1)
        poses, proposals = self.generator(noise.flatten(0, 1), lengths.repeat(frames, 1))
        return before_camera(poses.view(frames, count, *poses.shape[1:]).transpose(0, 1)), proposals

    def update(self, step: Step) -> Mapping[str, Tensor]:
        """The critics, and on every n-th step the generator."""
        root, middle = self.skeleton.root, self.made.shape[1] // 2
        plain = project_screen(step.original.poses, step.original.cameras)[:, middle]
        visible = torch.ones_like(plain[..., 0], dtype=torch.bool)
        real_3d, fake_3d = (self.kcs(middle_pose(poses, root)) for poses in (step.original.poses, self.made))
        real_2d, fake_2d = (screen_features(k, visible, root) for k in (plain, self.keypoints[:, middle]))
        scalars = self.adversaries.learn((real_3d, real_2d), (fake_3d, fake_2d), step.generator)
        if step.index % self.config.generator_every == 0:
            loss = self.adversaries.judge((fake_3d, fake_2d))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            scalars["generator_loss"] = loss.detach()
        at_limit = (self.proposals.detach().abs() > 0.95).float().mean()
        spread = self.proposals.detach()[:, :-3].std(0, correction=0).mean()
        scalars |= {"seen": self.seen.float().mean(), "at_limit": at_limit, "angle_spread": spread}
        self.watch.look(step.index, scalars, len(self.seen))
        return scalars

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and pools."""
        return {name: getattr(self, name).state_dict() for name in _PARTS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])


_PARTS = ("generator", "optimizer", "adversaries")


def symmetric_lengths(source: LabelledClips) -> Tensor:
    """(E,) mean bone lengths of the source in mm, the same on both sides."""
    lengths = bone_lengths(source.poses, source.skeleton).mean(0)
    members = source.skeleton.bone_groups.values()
    mean = torch.stack([lengths[list(bones)].mean() for bones in members])
    return mean[group_index(source.skeleton).to(mean.device)]

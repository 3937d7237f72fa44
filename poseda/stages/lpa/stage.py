"""LPA, local pose augmentation: a generator changes bone angles, bone lengths and orientation of source poses so that
they look like anatomy to one discriminator and like the target's people to another.

PoseDA (Chai et al., ICCV 2023) gives the roles (generator of pre-defined transformations, "anchor discriminator") and
no internals; this is a reconstruction. The weights of the adversaries and the replay pool are PoseAug's (Gong et al.,
CVPR 2021). Departures: proposals start as a wide random augmentation and are held near it by a divergence term, since
free ones collapse and end worse than GPA alone (experiments/real_motion); limbs are exchanged between source poses
first; alignment is GPA's in place of a learned translation; the 2D discriminator sees the pose in its own box, because
place and size have been matched already. The name "anchor discriminator" has two readings, and both are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch
from poseda.engine.descent import adam
from poseda.engine.supervised import screen_keypoints
from poseda.errors import ConfigError, check_choices
from poseda.geometry.rotations import geodesic_distance
from poseda.lifters.seeding import seeded
from poseda.stages.augmentation.adversarial import Adversaries
from poseda.stages.augmentation.augmentor import middle_pose
from poseda.stages.augmentation.discriminators import (
    KCS,
    PartDiscriminator,
    PlainDiscriminator,
    keypoint_features,
    pair_features,
    swap_bone_lengths,
)
from poseda.stages.augmentation.feedback import dead_zone, hardness
from poseda.stages.augmentation.watch import CollapseWatch
from poseda.stages.base import Setting, Stage, Step
from poseda.stages.lpa.crossover import Crossover, check_limbs
from poseda.stages.lpa.generator import PoseGenerator, Proposal


@dataclass(frozen=True)
class LPAConfig:
    """Options of local pose augmentation."""

    angles: Literal["axis_angle", "additive"] = "axis_angle"
    """How bones turn: axis_angle (a rotation each), additive (a vector added to the direction, PoseAug's code)."""
    rotation: Literal["yaw_tilt", "axis_angle", "sixd"] = "yaw_tilt"
    """How the body turns: yaw_tilt (a limit about each axis), axis_angle (one axis, one limited angle), sixd (two rows
    of the matrix; limits and spreads are then those of its entries)."""
    clip: Literal["constant", "ramp"] = "constant"
    """How turns of bones run through a window: constant, ramp (they grow along it, AdaptPose)."""
    discriminator: Literal["anchor_sets", "conditional_pair"] = "anchor_sets"
    """anchor_sets: real 3D are source poses and real 2D the target's (PoseAug, AdaptPose); conditional_pair: 3D is
    judged beside its un-augmented anchor, and real is the anchor with another person's bone lengths."""
    gan: Literal["lsgan", "wgan_gp"] = "lsgan"
    """The game: lsgan (PoseAug), or wgan_gp (DH-AUG)."""
    weight_3d: float = 6.0
    """Weight of the 3D discriminator's verdict in the generator's loss (PoseAug: 6)."""
    weight_2d: float = 1.0
    """Weight of the 2D discriminator's verdict (PoseAug: 1)."""
    weight_band: float = 3.0
    """Weight of the bands that keep angles and lengths from running wild (PoseAug: 3)."""
    weight_prior: float = 0.1
    """Weight of the divergence of the proposals from the wide random ones that they start as; 0 lets them collapse."""
    weight_feedback: float = 0.0
    """Weight of the feedback: keeps the lifter's error on augmented poses at a multiple of that on plain ones (PoseAug:
    0.1); costs two more passes through the lifter."""
    hardness: tuple[float, float] = (3.0, 5.0)
    """This multiple at the first and at the last step (PoseAug: 3 to 5)."""
    hardness_zone: float = 2.0
    """How far from it an error may be at no cost (PoseAug: 2)."""
    gradient_penalty: float = 10.0
    """Weight of the gradient penalty of wgan_gp."""
    generator_lr: float = 1e-4
    """Learning rate of the generator (PoseAug: 1e-4); 0 leaves a random augmentation."""
    discriminator_lr: float = 1e-4
    """Learning rate of the discriminators (PoseAug: 1e-4)."""
    discriminator_every: int = 2
    """Steps between two updates of the discriminators (PoseAug: 2)."""
    pool: int = 4096
    """Generated samples kept for the discriminators (PoseAug: 4096); 0 for none."""
    crossover: float = 0.5
    """Probability that a limb is taken from another source pose before the generator sees the pose."""
    angle_limit: float = 0.35
    """Largest turn of a bone about each axis, rad."""
    angle_spread: float = 0.1
    """Spread of bone turns at the start, rad."""
    angle_band: tuple[float, float] = (0.0, 0.05)
    """Mean of 1 - cos(turn) over the bones is kept in this band (PoseAug: 0.205 +- 0.165)."""
    frozen_angles: tuple[str, ...] = ("spine", "torso")
    """Bone groups whose direction stays (PoseAug's code: the trunk), of hip, thigh, shank, spine, torso, neck, head,
    shoulder, upper_arm, forearm."""
    length_limit: float = 0.4
    """Largest relative change of a bone length."""
    length_spread: float = 0.15
    """Spread of relative bone lengths at the start."""
    length_band: float = 0.3
    """Relative changes beyond this are penalised (PoseAug: 0.1)."""
    frozen_lengths: tuple[str, ...] = ()
    """Bone groups whose length stays (PoseAug: torso; bodies of another data set differ there too)."""
    tilt_limit: float = 3.1416
    """Largest turn of the body about the camera's x and z axes, rad."""
    tilt_spread: float = 0.8
    """Spread of these turns at the start, rad."""
    yaw_limit: float = 3.1416
    """Largest turn of the body about the camera's y axis, rad."""
    yaw_spread: float = 1.5
    """Spread of this turn at the start, rad."""
    watch_every: int = 50
    """Steps between two looks for a collapse, which ends the run with a sentence; 0 never looks."""

    def __post_init__(self) -> None:
        check_choices(self, "lpa")
        if self.discriminator_every < 1:
            raise ConfigError(f"lpa.discriminator_every={self.discriminator_every}: must be 1 or more.")
        if len(self.angle_band) != 2 or not 0 <= self.angle_band[0] <= self.angle_band[1]:
            raise ConfigError(f"lpa.angle_band={self.angle_band}: must be two rising numbers, [low,high].")
        if len(self.hardness) != 2:
            raise ConfigError(f"lpa.hardness={self.hardness}: must be two numbers, [first,last].")
        if not 0 <= self.crossover <= 1:
            raise ConfigError(f"lpa.crossover={self.crossover}: is a probability, from 0 to 1.")
        for name in ("angle_limit", "length_limit", "tilt_limit", "yaw_limit", "pool", "generator_lr", "watch_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"lpa.{name}={getattr(self, name)}: must not be negative.")
        if self.length_limit >= 1:
            raise ConfigError(f"lpa.length_limit={self.length_limit}: a bone would vanish; must be below 1.")


class LPA(Stage):
    """Local pose augmentation with a 3D and a 2D adversary."""

    Config = LPAConfig
    name = "lpa"
    label = "LPA"

    def __init__(self, config: LPAConfig | None = None) -> None:
        self.config = config or LPAConfig()
        self.proposal: Proposal | None = None
        self.watch = CollapseWatch(
            "lpa", self.config.watch_every,
            "Raise lpa.weight_prior or lower lpa.generator_lr; lpa.generator_lr=0 is a plain random augmentation.",
        )  # fmt: skip

    def prepare(self, setting: Setting) -> str:
        """Build generator and discriminators, with weights that depend on the run's seed alone."""
        config, skeleton, device = self.config, setting.source.skeleton, setting.source.poses.device
        self.skeleton = skeleton
        check_limbs(skeleton)
        joints = skeleton.num_joints
        with seeded(setting.seed):
            generator = PoseGenerator(
                skeleton,
                angle=(config.angle_limit, config.angle_spread),
                length=(config.length_limit, config.length_spread),
                tilt=(config.tilt_limit, config.tilt_spread),
                yaw=(config.yaw_limit, config.yaw_spread),
                angles=config.angles,
                rotation=config.rotation,
                clip=config.clip,
                frozen_angles=config.frozen_angles,
                frozen_lengths=config.frozen_lengths,
            )
            pairs = config.discriminator == "conditional_pair"
            judge_3d = PlainDiscriminator(6 * joints) if pairs else PartDiscriminator(skeleton)
            judge_2d = PlainDiscriminator(2 * joints)
        self.crossover = Crossover(skeleton).to(device)
        self.kcs = KCS(skeleton).to(device)
        self.generator = generator.to(device)
        self.optimizer = adam(self.generator.parameters(), config.generator_lr)
        self.adversaries = Adversaries(
            (judge_3d.to(device), judge_2d.to(device)), weights=(config.weight_3d, config.weight_2d), game=config.gan,
            lr=config.discriminator_lr, pool=config.pool, penalty=config.gradient_penalty,
        )  # fmt: skip
        return ""

    def augment(self, source: SourceBatch, generator: torch.Generator) -> SourceBatch:
        """Changed windows, with a gradient to the generator; all frames of a window keep one set of bone lengths."""
        poses = source.poses
        if self.config.crossover > 0:
            poses = self.crossover(poses, self.config.crossover, generator)
        self.proposal = self.generator(middle_pose(poses, self.skeleton.root), generator)
        return replace(source, poses=self.generator.apply_to(poses, self.proposal))

    def update(self, step: Step) -> Mapping[str, Tensor]:
        """Discriminators on every n-th step, then the generator."""
        assert self.proposal is not None
        real_3d, fake_3d = self._samples_3d(step)
        real_2d, fake_2d = self._samples_2d(step)
        scalars: dict[str, Tensor] = {}
        if step.index % self.config.discriminator_every == 0:
            scalars |= self.adversaries.learn((real_3d, real_2d), (fake_3d, fake_2d), step.generator)
        loss = self.adversaries.judge((fake_3d, fake_2d))
        loss = loss + self.config.weight_band * band_penalty(
            self.proposal, self.config.angle_band, self.config.length_band
        )
        loss = loss + self.config.weight_prior * self.proposal.divergence.mean()
        if self.config.weight_feedback > 0:
            feedback, harder = self._feedback(step)
            loss = loss + self.config.weight_feedback * feedback
            scalars["hardness"] = harder
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self.optimizer.step()
        scalars |= {"generator_loss": loss.detach(), **_statistics(self.proposal)}
        self.watch.look(step.index, scalars, len(fake_3d))
        return scalars

    def _feedback(self, step: Step) -> tuple[Tensor, Tensor]:
        """PoseAug's dead zone around a rising hardness -> loss, and mean hardness for the log."""
        first, last = self.config.hardness
        wanted = first + (last - first) * step.index / step.steps
        plain = (screen_keypoints(step.original), step.original.poses, step.original.cameras)
        ratios = hardness(step.lifter, (step.keypoints, step.produced.poses, step.produced.cameras), plain)
        return dead_zone(ratios, wanted, self.config.hardness_zone), ratios.detach().mean()

    def _samples_3d(self, step: Step) -> tuple[Tensor, Tensor]:
        """Features of real and generated poses for the discriminator that was chosen, (A, ...)."""
        root = self.skeleton.root
        anchor, made = middle_pose(step.original.poses, root), middle_pose(step.produced.poses, root)
        if self.config.discriminator == "anchor_sets":
            return self.kcs(anchor), self.kcs(made)
        swapped = swap_bone_lengths(anchor, anchor.roll(1, 0), self.skeleton)
        return pair_features(anchor, swapped, root), pair_features(anchor, made, root)

    def _samples_2d(self, step: Step) -> tuple[Tensor, Tensor]:
        """Real (target) and generated 2D features, (A, J, 2) each."""
        middle, count, root = step.keypoints.shape[1] // 2, len(step.keypoints), self.skeleton.root
        fake = keypoint_features(step.keypoints[:, middle], step.target.visible[-count:, middle], root)
        real = keypoint_features(step.target_keypoints[:count, middle], step.target.visible[:count, middle], root)
        return real, fake

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and pools."""
        return {
            "generator": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "adversaries": self.adversaries.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for name in ("generator", "optimizer", "adversaries"):
            getattr(self, name).load_state_dict(state[name])


def band_penalty(proposal: Proposal, angle_band: tuple[float, float], length_band: float) -> Tensor:
    """Square of what leaves the bands: mean 1 - cos(turn) of a pose, and each relative length (PoseAug) -> scalar."""
    turn = proposal.turns.mean(-1)  # (B,)
    outside = (turn - turn.clamp(*angle_band)).square().mean()
    longer = (proposal.lengths.abs() - length_band).clamp_min(0).square().mean()
    return outside + longer


def _statistics(proposal: Proposal) -> dict[str, Tensor]:
    """What the generator does, for the log: mean turns of bones and body (rad), lengths, and signs of a collapse."""
    eye = torch.eye(3, dtype=proposal.rotation.dtype, device=proposal.rotation.device)
    lengths = proposal.lengths.detach()
    return {
        "divergence": proposal.divergence.detach().mean(),
        "bone_turn": torch.acos((1 - proposal.turns.detach()).clamp(-1, 1)).mean(),
        "length_change": lengths.abs().mean(),
        "length_spread": lengths.std(0, correction=0).mean(),
        "body_turn": geodesic_distance(proposal.rotation.detach(), eye).mean(),
        "at_limit": proposal.at_limit,
        "variety": proposal.variety,
    }

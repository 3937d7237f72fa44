"""One augmentor of PoseAug's kind: a chain generator against a 3D and a 2D discriminator, with optimisers and state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from poseda.data.clips import LabelledClips
from poseda.engine.descent import adam
from poseda.lifters.base import Lifter
from poseda.lifters.seeding import seeded
from poseda.stages.augmentation.adversarial import Adversaries
from poseda.stages.augmentation.chain import Chain, ChainGenerator, mean_place
from poseda.stages.augmentation.discriminators import KCS, PartDiscriminator, PlainDiscriminator, screen_features
from poseda.stages.augmentation.feedback import Framed, dead_zone, group_errors, usual_errors

WEIGHT_3D, WEIGHT_2D = 6.0, 1.0
WEIGHT_DIFFERENCE = 3.0
FEEDBACK_BENT, FEEDBACK_PLACED = 0.1, 0.01
"""Weights of PoseAug's losses."""


@dataclass(frozen=True)
class Rates:
    """How an augmentor learns."""

    generator: float
    discriminator: float
    every: int
    """Steps between two updates of the discriminators."""
    pool: int


class Augmentor:
    """Generator, discriminators and their optimisers, with weights that depend on `seed` alone."""

    def __init__(self, source: LabelledClips, rates: Rates, *, form: str, clip: str, seed: int) -> None:
        skeleton, device = source.skeleton, source.poses.device
        self.root, self.rates = skeleton.root, rates
        with seeded(seed):
            generator = ChainGenerator(skeleton, mean_place(source), form=form, clip=clip)
            judges = (PartDiscriminator(skeleton), PlainDiscriminator(2 * skeleton.num_joints))
        self.kcs = KCS(skeleton).to(device)
        self.generator = generator.to(device)
        self.optimizer = adam(self.generator.parameters(), rates.generator)
        self.adversaries = Adversaries(
            (judges[0].to(device), judges[1].to(device)), weights=(WEIGHT_3D, WEIGHT_2D), game="lsgan",
            lr=rates.discriminator, pool=rates.pool,
        )  # fmt: skip

    def propose(self, poses: Tensor, generator: torch.Generator) -> Chain:
        """The chain for windows (B, T, J, 3) mm, with a gradient to the generator."""
        chain: Chain = self.generator(poses, generator)
        return chain

    def anneal(self, share: float) -> None:
        """Set all learning rates to this share of what they are at the start (PoseAug: linear decay to 0)."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.rates.generator
        self.adversaries.anneal(share)

    def compare(
        self,
        index: int,
        poses: tuple[Tensor, Tensor],
        keypoints: tuple[Tensor, Tensor],
        visible: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The verdict on fakes -> the generator's loss and scalars; discriminators learn first, every n-th step.

        Each pair is (real, fake): middle poses (B, J, 3) mm, screen 2D (B, J, 2), visible joints (B, J).
        """
        real_3d, fake_3d = (self.kcs(pose) for pose in poses)
        real_2d, fake_2d = (screen_features(k, v, self.root) for k, v in zip(keypoints, visible, strict=True))
        scalars: dict[str, Tensor] = {}
        if index % self.rates.every == 0:
            scalars = self.adversaries.learn((real_3d, real_2d), (fake_3d, fake_2d), generator)
        return self.adversaries.judge((fake_3d, fake_2d)), scalars

    def descend(self, loss: Tensor) -> None:
        """One step of the generator, gradients clipped at 1."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and pools."""
        return {name: getattr(self, name).state_dict() for name in _PARTS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])


_PARTS = ("generator", "optimizer", "adversaries")


def difference_loss(chain: Chain) -> Tensor:
    """PoseAug's bounds: the mean of 1 - cos over bones is held at 0.205 +- 0.165, relative lengths at 0 +- 0.1."""
    return dead_zone(chain.turns.mean(-1), 0.205, 0.165) + dead_zone(chain.lengths, 0.0, 0.1)


def feedback_loss(
    lifter: Lifter, bent: Framed, placed: Framed, plain: Framed, seen: Tensor, progress: float
) -> tuple[Tensor, Tensor]:
    """PoseAug's feedback for windows (screen 2D, poses mm, cameras) -> loss; mean hardness of the placed, detached.

    Bent poses are to be 3 (at the start) to 5 (at the end) +- 2 times as hard as plain ones, placed ones 17 +- 15. Of
    these only the windows in the image count, seen (B,): errors of the others, which the lifter never gets, are
    hundreds of times as large, and their squares would be all that the generator learns from.
    """
    usual = usual_errors(lifter, *plain)
    bent_ratio, placed_ratio = group_errors(lifter, *bent) / usual, group_errors(lifter, *placed) / usual
    visible = seen.to(usual.dtype).unsqueeze(1)
    share = visible.mean().clamp_min(1 / len(seen))
    wanted = torch.where(visible > 0, placed_ratio, placed_ratio.new_full((), 17.0))  # what is unseen costs nothing
    loss = FEEDBACK_BENT * dead_zone(bent_ratio, 3 + 2 * progress, 2.0)
    loss = loss + FEEDBACK_PLACED * dead_zone(wanted, 17.0, 15.0) / share
    return loss, (placed_ratio.detach() * visible).mean() / share


def middle_pose(poses: Tensor, root: int) -> Tensor:
    """Middle poses (B, J, 3) mm of windows (B, T, J, 3) mm, relative to their roots."""
    pose = poses[:, poses.shape[1] // 2]
    return pose - pose[:, root : root + 1]


def chain_scalars(chain: Chain) -> dict[str, Tensor]:
    """What the generator does, for the log: turns of bones (rad), relative lengths, share of proposals at limits."""
    lengths = chain.lengths.detach()
    return {
        "bone_turn": torch.acos((1 - chain.turns.detach()).clamp(-1, 1)).mean(),
        "length_change": lengths.abs().mean(),
        "length_spread": lengths.std(0, correction=0).mean(),
        "at_limit": chain.at_limit,
    }

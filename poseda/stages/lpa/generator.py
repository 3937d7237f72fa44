"""The generator of LPA: a source pose and noise in, bone-angle, bone-length and rotation changes out.

PoseDA (ICCV 2023) says that its generator "outputs the parameters of pre-defined pose transformations" and no more;
the transformations, their order (angles, lengths, rotation) and the trunk are those of PoseAug (CVPR 2021), with bone
angles as true rotations (AdaptPose, CVPR 2022); positions are left to whatever aligns them (GPA).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poseda.geometry.bones import bone_lengths
from poseda.geometry.rotations import axis_angle_to_matrix, sixd_to_matrix
from poseda.lifters.base import MM_PER_METRE
from poseda.skeleton import Skeleton
from poseda.stages.augmentation.changes import TRUNK, bend, bone_turns, free_groups, group_index, stretch, turn
from poseda.stages.augmentation.trunk import NOISE, normal, trunk
from poseda.stages.augmentation.watch import share_at_limit


@dataclass(frozen=True, eq=False)
class Proposal:
    """What the generator proposes for B windows."""

    angles: Tensor
    """(B, E, 3) turn of each bone: a rotation vector in rad, or what is added to its direction."""
    turns: Tensor
    """(B, E) 1 - cos of these turns."""
    lengths: Tensor
    """(B, G) relative change of each symmetric bone group."""
    rotation: Tensor
    """(B, 3, 3) turn of the whole body about the middle root."""
    divergence: Tensor
    """(B,) Kullback-Leibler divergence of the distributions drawn from, from those at the start."""
    at_limit: Tensor
    """Share of the proposals that lie at their limits, detached."""
    variety: Tensor
    """Spread of the proposals over the batch, as a share of that at the start, detached."""


class Head(nn.Module):
    """Changes within +-limit: a trunk gives the mean and the spread of each, and fresh noise is drawn with them, as
    AdaptPose does for its rotation.

    The spread starts at `start`, not at 0: from the first step on the changes are as various as a plain random
    augmentation, and the adversaries shape them from there.
    """

    limit: Tensor
    start: Tensor

    def __init__(self, inputs: int, limit: Tensor, start: Tensor, hidden: int) -> None:
        super().__init__()
        self.body = trunk(inputs, 2 * len(limit), hidden)
        self.register_buffer("limit", limit, persistent=False)
        self.register_buffer("start", start.clamp_min(1e-6), persistent=False)
        last = self.body[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.copy_(torch.cat([torch.zeros_like(start), start.clamp_min(1e-6).log()]))

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, inputs), noise (B, outputs) ~ N(0, 1) -> changes (B, outputs), divergence (B,)."""
        mean, log_spread = self.body(features).chunk(2, -1)
        ratio = log_spread.clamp(max=1.5).exp() / self.start
        free = mean + self.start * ratio * noise
        divergence = 0.5 * (ratio.square() + (mean / self.start).square() - 1) - ratio.log()
        # limit * tanh(free / limit), and exactly 0 where the limit is 0
        changes = self.limit * torch.tanh(free / self.limit.clamp_min(1e-6))
        return changes, (divergence * (self.limit > 0)).sum(-1)

    def variety(self, changes: Tensor) -> Tensor:
        """Mean spread of changes (B, outputs) over the batch, as a share of `start`; 1 where none is free."""
        free = (self.limit > 0).to(changes.dtype)
        spread = changes.detach().std(0, correction=0) / torch.minimum(self.start, self.limit).clamp_min(1e-6)
        return ((spread * free).sum() + (free.sum() == 0)) / free.sum().clamp_min(1)


class PoseGenerator(nn.Module):
    """Three heads with a trunk each. Poses (B, J, 3) mm, root-relative, in the camera frame."""

    group_of_bone: Tensor

    def __init__(
        self,
        skeleton: Skeleton,
        *,
        angle: tuple[float, float],
        length: tuple[float, float],
        tilt: tuple[float, float],
        yaw: tuple[float, float],
        angles: str = "axis_angle",
        rotation: str = "yaw_tilt",
        clip: str = "constant",
        frozen_angles: tuple[str, ...] = TRUNK,
        frozen_lengths: tuple[str, ...] = (),
        hidden: int = 256,
        noise: int = NOISE,
    ) -> None:
        """(limit, spread at the start) of bone angles (rad), bone lengths (share), and tilt and yaw (rad)."""
        super().__init__()
        self.skeleton, self.noise = skeleton, noise
        self.angles, self.rotation, self.clip = angles, rotation, clip
        joints, bones = skeleton.num_joints, len(skeleton.bones)
        self.register_buffer("group_of_bone", group_index(skeleton), persistent=False)
        bend_bones = free_groups(skeleton, frozen_angles, "lpa.frozen_angles")[self.group_of_bone].repeat_interleave(3)
        grow = free_groups(skeleton, frozen_lengths, "lpa.frozen_lengths")
        self.angle_head = Head(3 * joints + noise, angle[0] * bend_bones, angle[1] * torch.ones(3 * bones), hidden)
        self.length_head = Head(3 * joints + bones + noise, length[0] * grow, length[1] * torch.ones(len(grow)), hidden)
        limit, start = torch.tensor([_turn_values(rotation, tilt[i], yaw[i]) for i in (0, 1)])
        self.rotation_head = Head(3 * joints + noise, limit, start, hidden)

    def forward(self, pose: Tensor, generator: torch.Generator) -> Proposal:
        """Proposals for root-relative poses (B, J, 3) mm, with fresh noise."""
        flat = pose.flatten(1) / MM_PER_METRE  # (B, 3J)
        sizes = bone_lengths(pose, self.skeleton) / MM_PER_METRE  # (B, E)
        heads = (self.angle_head, self.length_head, self.rotation_head)
        drawn = [
            self._propose(head, features, generator)
            for head, features in zip(heads, (flat, torch.cat([flat, sizes], 1), flat), strict=True)
        ]
        angles, lengths, values = (changes for changes, _ in drawn)
        angles = angles.reshape(len(pose), -1, 3)
        limits = torch.cat([head.limit for head in heads])
        return Proposal(
            angles=angles,
            turns=bone_turns(pose, angles, self.skeleton, self.angles),
            lengths=lengths,
            rotation=turn_matrix(self.rotation, values),
            divergence=sum(divergence for _, divergence in drawn),  # type: ignore[arg-type]
            at_limit=share_at_limit(torch.cat([changes for changes, _ in drawn], 1), limits),
            variety=torch.stack([head.variety(c) for head, (c, _) in zip(heads, drawn, strict=True)]).amin(),
        )

    def _propose(self, head: Head, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        noise = normal(len(features), self.noise + len(head.limit), features, generator)
        return head(torch.cat([features, noise[:, : self.noise]], 1), noise[:, self.noise :])  # type: ignore[no-any-return]

    def apply_to(self, poses: Tensor, proposal: Proposal) -> Tensor:
        """Windows (B, T, J, 3) mm with the changes made: bones turn, then lengths change, then the clip turns about its
        middle root, which stays. A clip keeps constant bone lengths.
        """
        bent = bend(poses, proposal.angles, self.skeleton, self.angles, self.clip)
        grown = stretch(bent, proposal.lengths.index_select(1, self.group_of_bone), self.skeleton)
        return turn(grown, proposal.rotation, self.skeleton)


def _turn_values(rotation: str, tilt: float, yaw: float) -> list[float]:
    """Limits, or spreads, of what the rotation head says, from those of tilt and yaw in rad.

    A turn about y changes the first row of the matrix in x and z alone; all else is tilt.
    """
    if rotation == "yaw_tilt":
        return [tilt, yaw, tilt]  # about x (pitch), y (the camera's vertical), z (roll)
    if rotation == "axis_angle":
        return [tilt, yaw, tilt, max(tilt, yaw)]  # an axis, and the angle about it
    return [yaw, tilt, yaw, tilt, tilt, tilt]


def turn_matrix(rotation: str, values: Tensor) -> Tensor:
    """Rotations (B, 3, 3) of what the head says; no change gives the identity."""
    if rotation == "yaw_tilt":
        return axis_angle_to_matrix(values)
    if rotation == "axis_angle":
        axis = values[:, :3] / values[:, :3].norm(dim=-1, keepdim=True).clamp_min(1e-6)
        return axis_angle_to_matrix(axis * values[:, 3:])
    eye = torch.eye(3, dtype=values.dtype, device=values.device)
    return sixd_to_matrix(values + eye[:2].reshape(6))

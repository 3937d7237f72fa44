"""The generator of LPA: a source pose and noise in, bone-angle, bone-length and rotation changes out.

PoseDA (ICCV 2023) says that its generator "outputs the parameters of pre-defined pose transformations" and no more;
the transformations, their order (angles, lengths, rotation) and the trunk are those of PoseAug (CVPR 2021), with bone
angles as true rotations (AdaptPose, CVPR 2022); positions are left to whatever aligns them (GPA).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from poseda.geometry.bones import bone_lengths, bone_vectors, joints_from_bones
from poseda.geometry.rotations import axis_angle_to_matrix
from poseda.skeleton import Skeleton

METRE = 1000.0
FROZEN_ANGLES = ("spine", "thorax")
"""Bones whose direction stays, by their child joint: the trunk carries the pose (PoseAug's code freezes these)."""


@dataclass(frozen=True, eq=False)
class Augmentation:
    """What the generator proposes for B windows."""

    angles: Tensor
    """(B, E, 3) rotation vector of each bone, rad."""
    lengths: Tensor
    """(B, G) relative change of each symmetric bone group."""
    rotation: Tensor
    """(B, 3) rotation vector of the whole body about the middle root, rad."""
    divergence: Tensor
    """(B,) Kullback-Leibler divergence of the distributions drawn from, from those at the start."""


class Head(nn.Module):
    """Changes within +-limit: a trunk (Linear, BatchNorm, LeakyReLU; two blocks of two such layers) gives the mean and
    the spread of each, and fresh noise is drawn with them, as AdaptPose does for its rotation.

    The spread starts at `start`, not at 0: from the first step on the changes are as various as a plain random
    augmentation, and the adversaries shape them from there.
    """

    def __init__(self, inputs: int, limit: Tensor, start: Tensor, hidden: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * 5]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU()]
        self.body = nn.Sequential(*layers, nn.Linear(hidden, 2 * len(limit)))
        self.register_buffer("limit", limit, persistent=False)
        self.register_buffer("start", start.clamp_min(1e-6), persistent=False)
        last = self.body[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.copy_(torch.cat([torch.zeros_like(start), start.clamp_min(1e-6).log()]))

    limit: Tensor
    start: Tensor

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, inputs), noise (B, outputs) ~ N(0, 1) -> changes (B, outputs), divergence (B,)."""
        mean, log_spread = self.body(features).chunk(2, -1)
        ratio = log_spread.clamp(max=1.5).exp() / self.start
        free = mean + self.start * ratio * noise
        divergence = 0.5 * (ratio.square() + (mean / self.start).square() - 1) - ratio.log()
        # limit * tanh(free / limit), and exactly 0 where the limit is 0
        changes = self.limit * torch.tanh(free / self.limit.clamp_min(1e-6))
        return changes, (divergence * (self.limit > 0)).sum(-1)


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
        hidden: int = 256,
        noise: int = 48,
    ) -> None:
        """(limit, spread at the start) of bone angles (rad), bone lengths (share), and tilt and yaw (rad)."""
        super().__init__()
        self.skeleton = skeleton
        self.noise = noise
        joints, bones = skeleton.num_joints, len(skeleton.bones)
        groups = skeleton.bone_groups
        free_bones = torch.tensor([float(name not in FROZEN_ANGLES) for name in skeleton.bone_names])
        per_axis = free_bones.repeat_interleave(3)
        self.angle_head = Head(3 * joints + noise, angle[0] * per_axis, angle[1] * torch.ones(3 * bones), hidden)
        every_group = torch.ones(len(groups))  # PoseAug keeps the torso; bodies of another data set differ there too
        self.length_head = Head(3 * joints + bones + noise, length[0] * every_group, length[1] * every_group, hidden)
        turn = torch.tensor([tilt, yaw, tilt])  # rotation vector about x (pitch), y (the vertical: yaw), z (roll)
        self.rotation_head = Head(3 * joints + noise, turn[:, 0], turn[:, 1], hidden)
        group_of = {bone: number for number, members in enumerate(groups.values()) for bone in members}
        self.register_buffer("group_of_bone", torch.tensor([group_of[b] for b in range(bones)]), persistent=False)

    def forward(self, pose: Tensor, generator: torch.Generator) -> Augmentation:
        """Proposals for root-relative poses (B, J, 3) mm, with fresh noise."""
        flat = pose.flatten(1) / METRE  # (B, 3J)
        lengths = bone_lengths(pose, self.skeleton) / METRE  # (B, E)
        angles, from_angles = self._propose(self.angle_head, flat, generator)
        ratios, from_ratios = self._propose(self.length_head, torch.cat([flat, lengths], 1), generator)
        rotation, from_rotation = self._propose(self.rotation_head, flat, generator)
        return Augmentation(
            angles=angles.reshape(len(pose), -1, 3),
            lengths=ratios,
            rotation=rotation,
            divergence=from_angles + from_ratios + from_rotation,
        )

    def _propose(self, head: Head, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        width = self.noise + len(head.limit)
        noise = torch.randn(
            len(features), width, generator=generator, device=generator.device, dtype=features.dtype
        ).to(features.device, non_blocking=True)
        return head(torch.cat([features, noise[:, : self.noise]], 1), noise[:, self.noise :])  # type: ignore[no-any-return]

    def apply_to(self, poses: Tensor, change: Augmentation) -> Tensor:
        """Windows (B, T, J, 3) mm with the change made to all frames alike: a clip keeps constant bone lengths.

        Each bone turns about its own vector's start (children keep their directions), then lengths change, then the
        clip turns about its middle root. Absolute position of the middle root stays.
        """
        bones = bone_vectors(poses, self.skeleton)  # (B, T, E, 3)
        turned = (axis_angle_to_matrix(change.angles)[:, None] @ bones.unsqueeze(-1)).squeeze(-1)
        scale = 1 + change.lengths.index_select(1, self.group_of_bone)  # (B, E)
        relative = joints_from_bones(turned * scale[:, None, :, None], self.skeleton)  # root at 0
        root = poses[:, :, self.skeleton.root]  # (B, T, 3)
        pivot = root[:, poses.shape[1] // 2, None, None]  # (B, 1, 1, 3)
        around = relative + (root.unsqueeze(-2) - pivot)
        return around @ axis_angle_to_matrix(change.rotation).mT.unsqueeze(1) + pivot

"""PoseAug's chain of changes: bones turn, bones lengthen, the body turns, and moves to a learned place.

The heads of PoseAug (Gong et al., CVPR 2021) and of AdaptPose (Gholami et al., CVPR 2022), from their papers and from
descriptions of their code. Departures: the place that is proposed first is the mean place of the source's people, where
a fresh head of theirs proposes the camera's centre; people before the lens are put 30 cm before it and get weight 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poseda.data.clips import LabelledClips
from poseda.geometry.bones import bone_lengths
from poseda.geometry.camera import Camera, normalise_screen
from poseda.geometry.rotations import axis_angle_to_matrix
from poseda.lifters.base import MM_PER_METRE
from poseda.skeleton import Skeleton
from poseda.stages.augmentation.changes import (
    TRUNK,
    bend,
    bone_turns,
    free_groups,
    group_index,
    move,
    stretch,
    turn,
)
from poseda.stages.augmentation.trunk import NOISE, normal, trunk
from poseda.stages.augmentation.watch import share_at_limit

NEAREST_MM = 300.0
LENGTH_LIMIT = 0.2
"""Largest relative change of a bone (PoseAug)."""
TURN_LIMIT = 3.141593


@dataclass(frozen=True, eq=False)
class Chain:
    """Windows (B, T, J, 3) mm along the chain, and what was done to them."""

    original: Tensor
    bent: Tensor
    """Bones turned; roots and bone lengths as in `original`."""
    grown: Tensor
    """... and their lengths changed."""
    placed: Tensor
    """... and the body turned and moved; at least 30 cm before the camera."""
    turns: Tensor
    """(B, E) 1 - cos of the turns of the bones."""
    lengths: Tensor
    """(B, G) relative changes of the bone groups."""
    at_limit: Tensor
    """Share of the bounded proposals that lie at their limits, detached."""

    def distance(self, pairs: tuple[tuple[str, str], ...], measure: nn.Module) -> Tensor:
        """Mean of `measure` over pairs of links of the chain, given by name."""
        values = [measure(getattr(self, first), getattr(self, second)) for first, second in pairs]
        return torch.stack(values).mean()


class ChainGenerator(nn.Module):
    """Four heads with a trunk each: angles, lengths, rotation, place.

    form=additive and a rotation vector within +-pi an axis is PoseAug; form=axis_angle, with a rotation that is drawn
    from a learned normal distribution over axis and angle, is AdaptPose.
    """

    group_of_bone: Tensor
    bends: Tensor
    grows: Tensor

    def __init__(
        self, skeleton: Skeleton, start_mm: Tensor, *, form: str, clip: str = "constant", hidden: int = 256
    ) -> None:
        """start_mm (3,): where the first proposals place people, in camera axes."""
        super().__init__()
        self.skeleton, self.form, self.clip = skeleton, form, clip
        joints, bones = skeleton.num_joints, len(skeleton.bones)
        inputs = 3 * joints + NOISE
        self.register_buffer("group_of_bone", group_index(skeleton), persistent=False)
        self.register_buffer("bends", free_groups(skeleton, TRUNK, "angles")[self.group_of_bone], persistent=False)
        self.register_buffer("grows", free_groups(skeleton, ("torso",), "lengths"), persistent=False)
        self.angle_head = trunk(inputs, (3 if form == "additive" else 4) * bones, hidden)
        self.length_head = trunk(inputs + bones, len(self.grows), hidden)
        self.rotation_head = trunk(inputs, 3 if form == "additive" else 8, hidden)
        self.place_head = trunk(inputs, 3, hidden)
        last = self.place_head[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            x, y, z = (start_mm.cpu() / MM_PER_METRE).unbind()
            last.bias.add_(torch.stack([x, y, z.clamp_min(0.0).sqrt()]))

    def forward(self, poses: Tensor, generator: torch.Generator) -> Chain:
        """The chain for windows (B, T, J, 3) mm; their middle frame is what the heads see."""
        middle = poses[:, poses.shape[1] // 2]
        pose = middle - middle[:, self.skeleton.root : self.skeleton.root + 1]
        flat = pose.flatten(1) / MM_PER_METRE
        angles = self._angles(self._propose(self.angle_head, flat, generator))
        sizes = bone_lengths(pose, self.skeleton) / MM_PER_METRE
        raw = self._propose(self.length_head, torch.cat([flat, sizes], 1), generator)
        lengths = LENGTH_LIMIT * torch.tanh(raw) * self.grows
        rotation, bounded = self._rotation(self._propose(self.rotation_head, flat, generator), generator)
        x, y, z = self._propose(self.place_head, flat, generator).unbind(-1)
        bent = bend(poses, angles, self.skeleton, self.form, self.clip)
        grown = stretch(bent, lengths.index_select(1, self.group_of_bone), self.skeleton)
        turned = turn(grown, axis_angle_to_matrix(rotation), self.skeleton)
        limits = torch.cat([LENGTH_LIMIT * self.grows, bounded.new_full((bounded.shape[1],), TURN_LIMIT)])
        return Chain(
            original=poses,
            bent=bent,
            grown=grown,
            placed=before_camera(move(turned, MM_PER_METRE * torch.stack([x, y, z.square()], -1), self.skeleton)),
            turns=bone_turns(pose, angles, self.skeleton, self.form),
            lengths=lengths,
            at_limit=share_at_limit(torch.cat([lengths, bounded], 1), limits),
        )

    def _propose(self, head: nn.Module, features: Tensor, generator: torch.Generator) -> Tensor:
        noise = normal(len(features), NOISE, features, generator)
        return head(torch.cat([features, noise], 1))  # type: ignore[no-any-return]

    def _angles(self, values: Tensor) -> Tensor:
        """(B, E, 3) of what the head says: vectors to add, or axes and angles."""
        values = values.view(len(values), len(self.bends), -1)
        if self.form == "axis_angle":
            values = unit_axis(values[..., :3]) * values[..., 3:]
        return values * self.bends[:, None]

    def _rotation(self, values: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rotation vectors (B, 3) in rad, and those of the numbers behind them that are bounded (B, n)."""
        if self.form == "additive":
            bounded = TURN_LIMIT * torch.tanh(values)
            return bounded, bounded
        mean, log_spread = values.chunk(2, -1)
        drawn = mean + log_spread.clamp(-5.0, 1.5).exp() * normal(len(values), 4, values, generator)
        return unit_axis(drawn[:, :3]) * drawn[:, 3:], drawn[:, :0]


def unit_axis(vector: Tensor) -> Tensor:
    """Vectors (..., 3) of length 1, 0 for a zero one."""
    length: Tensor = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return vector / length.clamp_min(1e-6)


def before_camera(poses: Tensor) -> Tensor:
    """Windows (B, T, J, 3) mm pushed along z until all joints are 30 cm before the camera or further."""
    short = (NEAREST_MM - poses[..., 2].flatten(1).amin(1)).clamp_min(0.0)
    return poses + nn.functional.pad(short.unsqueeze(1), (2, 0))[:, None, None]


def mean_place(source: LabelledClips) -> Tensor:
    """(3,) mean place of the source's people in mm, camera axes."""
    return source.poses[:, source.skeleton.root].mean(0)


def project_screen(poses: Tensor, cameras: Camera) -> Tensor:
    """Screen-normalised 2D (B, T, J, 2) of windows (B, T, J, 3) mm in cameras (B,)."""
    return normalise_screen(cameras.project(poses), cameras.width, cameras.height)


def inside_image(poses: Tensor, keypoints: Tensor) -> Tensor:
    """(B,) bool: windows that lie before the camera, with no screen coordinate beyond 1 (PoseAug tests one side)."""
    near = poses[..., 2].flatten(1).amin(1) > 1.001 * NEAREST_MM  # what was pushed there does not count
    return near & (keypoints.abs().flatten(1).amax(1) <= 1.0)

"""Discriminators and what they are given: do poses look like anatomy (3D) and like people in images (2D)?

They judge features, not poses: the slope that WGAN-GP holds near 1 is then one per unit of a cosine or a metre.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from poseda.geometry.bones import bone_lengths, bone_vectors, unit_bones, with_bone_lengths
from poseda.geometry.boxes import box_scale
from poseda.lifters.base import MM_PER_METRE
from poseda.skeleton import Skeleton

# Five overlapping body parts (PoseAug), as bones by their child joint; a joint that a skeleton lacks is left out.
PARTS: tuple[tuple[str, ...], ...] = (
    ("rhip", "lhip", "spine", "thorax", "nose", "head", "lshoulder", "rshoulder"),
    ("rhip", "rknee", "rankle", "lhip", "spine"),
    ("lhip", "lknee", "lankle", "rhip", "spine"),
    ("thorax", "lshoulder", "lelbow", "lwrist"),
    ("thorax", "rshoulder", "relbow", "rwrist"),
)


def part_pairs(skeleton: Skeleton) -> list[list[tuple[int, int]]]:
    """For each body part the pairs of its bones, as indices into `skeleton.bones`, the lesser first."""
    place = {name: bone for bone, name in enumerate(skeleton.bone_names)}
    bones = [sorted(place[name] for name in part if name in place) for part in PARTS]
    return [list(combinations(part, 2)) for part in bones if len(part) > 1]


class KCS(nn.Module):
    """Kinematic chain space: the cosine of each pair of bones that share a body part, each pair once.

    PoseAug gives each part the 15 x 15 Gram matrix of unit bones, 1,125 numbers, of which 45 differ and say something:
    the matrices are symmetric with a diagonal of 1, zero outside the part, and parts overlap.
    """

    first: Tensor
    second: Tensor

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton = skeleton
        self.pairs = sorted({pair for pairs in part_pairs(skeleton) for pair in pairs})
        self.register_buffer("first", torch.tensor([a for a, _ in self.pairs]), persistent=False)
        self.register_buffer("second", torch.tensor([b for _, b in self.pairs]), persistent=False)

    def forward(self, pose: Tensor) -> Tensor:
        """(B, J, 3) mm, relative to the root or not -> (B, U) cosines."""
        bones = unit_bones(bone_vectors(pose, self.skeleton))  # (B, E, 3)
        # index_select, not bones[:, first]: on several threads the latter's gradient is summed in random order
        cosines: Tensor = (bones.index_select(1, self.first) * bones.index_select(1, self.second)).sum(-1)
        return cosines


class PartLinear(nn.Module):
    """One linear layer a body part, all in one batched product: (B, P, in) -> (B, P, out)."""

    def __init__(self, parts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(parts, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(parts, outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(B, P, in) -> (B, P, out)."""
        return torch.baddbmm(self.bias.unsqueeze(1), features.transpose(0, 1), self.weight).transpose(0, 1)


class PartDiscriminator(nn.Module):
    """Scores (B, P), one for each body part, of the KCS features (B, U) of poses."""

    slots: Tensor
    mask: Tensor

    def __init__(self, skeleton: Skeleton, hidden: int = 128) -> None:
        super().__init__()
        place = {pair: slot for slot, pair in enumerate(KCS(skeleton).pairs)}
        parts = [[place[pair] for pair in pairs] for pairs in part_pairs(skeleton)]
        width = max(map(len, parts))
        slots = torch.tensor([part + [0] * (width - len(part)) for part in parts])
        mask = torch.tensor([[float(k < len(part)) for k in range(width)] for part in parts])
        self.register_buffer("slots", slots, persistent=False)  # (P, W)
        self.register_buffer("mask", mask, persistent=False)
        self.score = nn.Sequential(
            PartLinear(len(parts), width, hidden), nn.LeakyReLU(0.2),
            PartLinear(len(parts), hidden, hidden), nn.LeakyReLU(0.2),
            PartLinear(len(parts), hidden, 1),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """(B, U) -> (B, P)."""
        parts = features.index_select(1, self.slots.flatten()).view(len(features), *self.slots.shape) * self.mask
        scores: Tensor = self.score(parts).squeeze(-1)
        return scores


class PlainDiscriminator(nn.Module):
    """Scores (B, 1) of features of any shape (B, ...), by three linear layers."""

    def __init__(self, inputs: int, hidden: int = 256) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(inputs, hidden), nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """(B, ...) -> (B, 1)."""
        scores: Tensor = self.score(features.flatten(1))
        return scores


def pair_features(anchor: Tensor, candidate: Tensor, root: int) -> Tensor:
    """Poses (B, J, 3) mm beside their anchors (B, J, 3) mm -> (B, 2, J, 3) metres, each relative to its root."""
    both = torch.stack([anchor, candidate], 1)
    return (both - both[:, :, root : root + 1]) / MM_PER_METRE


def keypoint_features(keypoints: Tensor, visible: Tensor, root: int) -> Tensor:
    """Screen keypoints (B, J, 2), visible (B, J) -> (B, J, 2) relative to the root, in units of their own box side.

    Missing joints are set to the root: give generated poses the visibility of a real one.
    """
    scale = box_scale(keypoints, visible).clamp_min(1e-3)
    relative = (keypoints - keypoints[:, root : root + 1]) / scale[:, None, None]
    return relative * (visible & visible[:, root : root + 1]).unsqueeze(-1)


def screen_features(keypoints: Tensor, visible: Tensor, root: int) -> Tensor:
    """Screen keypoints (B, J, 2), visible (B, J) -> (B, J, 2) where they are in the image (PoseAug, AdaptPose).

    Missing joints are set to the root, and all to the image's centre without one. Places far outside the image are
    drawn in towards +-2, smoothly: a person near the camera's plane would otherwise be all that a discriminator sees.
    """
    keypoints = 2 * torch.tanh(keypoints / 2)
    found = visible[:, root : root + 1].unsqueeze(-1)
    centre = torch.where(found, keypoints[:, root : root + 1], torch.zeros_like(keypoints[:, :1]))
    return torch.where(visible.unsqueeze(-1) & found, keypoints, centre)


def swap_bone_lengths(poses: Tensor, other: Tensor, skeleton: Skeleton) -> Tensor:
    """Poses (..., J, 3) mm with their own bone directions and root, and the bone lengths of `other`, (..., J, 3) mm."""
    return with_bone_lengths(poses, bone_lengths(other, skeleton), skeleton)

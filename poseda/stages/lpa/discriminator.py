"""Discriminators of LPA: do augmented poses look like anatomy (3D) and like the target's people (2D)?

PoseDA names an "anchor discriminator" without saying what it is given. Both readings of the word are here:
`sets` (default): the real sets are source 3D and target 2D, as in PoseAug and AdaptPose; `pair`: the 3D discriminator
sees a candidate beside its anchor, the un-augmented source pose, and a real pair is a source pose with the bone lengths
of another person.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from poseda.geometry.bones import bone_lengths, bone_vectors, joints_from_bones, unit_bones
from poseda.geometry.boxes import box_scale
from poseda.skeleton import Skeleton

METRE = 1000.0
# Five overlapping body parts (PoseAug), as bones by their child joint; a joint that a skeleton lacks is left out.
PARTS: tuple[tuple[str, ...], ...] = (
    ("rhip", "lhip", "spine", "thorax", "nose", "head", "lshoulder", "rshoulder"),
    ("rhip", "rknee", "rankle", "lhip", "spine"),
    ("lhip", "lknee", "lankle", "rhip", "spine"),
    ("thorax", "lshoulder", "lelbow", "lwrist"),
    ("thorax", "rshoulder", "relbow", "rwrist"),
)


class KCS(nn.Module):
    """Kinematic chain space, part by part: cosines between all pairs of bones of a body part, each pair once.

    The Gram matrix of a part's unit bones is symmetric with a diagonal of 1, so its upper triangle is all that it says.
    """

    pairs: Tensor
    mask: Tensor

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton = skeleton
        place = {name: bone for bone, name in enumerate(skeleton.bone_names)}
        parts = [list(combinations([place[n] for n in part if n in place], 2)) for part in PARTS]
        parts = [pairs for pairs in parts if pairs]
        self.width = max(len(pairs) for pairs in parts)
        padded = [pairs + [(0, 0)] * (self.width - len(pairs)) for pairs in parts]
        self.register_buffer("pairs", torch.tensor(padded), persistent=False)  # (P, W, 2)
        mask = [[float(k < len(pairs)) for k in range(self.width)] for pairs in parts]
        self.register_buffer("mask", torch.tensor(mask), persistent=False)

    def forward(self, pose: Tensor) -> Tensor:
        """(B, J, 3) mm -> (B, P, W): cosines of the bone pairs of each part, 0 where a part has fewer pairs."""
        bones = unit_bones(bone_vectors(pose, self.skeleton))  # (B, E, 3)
        # index_select, not bones[:, pairs]: on several threads the latter's gradient is summed in random order
        ends = (bones.index_select(1, end.flatten()) for end in self.pairs.unbind(-1))
        first, second = (end.reshape(len(pose), *self.mask.shape, 3) for end in ends)  # (B, P, W, 3)
        cosines: Tensor = (first * second).sum(-1)
        return cosines * self.mask


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


class PoseDiscriminator(nn.Module):
    """Scores (B, P) of root-relative poses, a score for each body part, from their KCS features."""

    def __init__(self, skeleton: Skeleton, hidden: int = 128) -> None:
        super().__init__()
        self.features = KCS(skeleton)
        parts, width = self.features.mask.shape
        self.score = nn.Sequential(
            PartLinear(parts, width, hidden), nn.LeakyReLU(0.2),
            PartLinear(parts, hidden, hidden), nn.LeakyReLU(0.2),
            PartLinear(parts, hidden, 1),
        )  # fmt: skip

    def forward(self, sample: Tensor) -> Tensor:
        """(B, J, 3) mm -> (B, P)."""
        scores: Tensor = self.score(self.features(sample)).squeeze(-1)
        return scores


class PairDiscriminator(nn.Module):
    """Scores (B, 1) of a candidate beside its anchor: (B, 2, J, 3) mm, root-relative, anchor first."""

    def __init__(self, skeleton: Skeleton, hidden: int = 256) -> None:
        super().__init__()
        self.root = skeleton.root
        self.score = _mlp(6 * skeleton.num_joints, hidden)

    def forward(self, sample: Tensor) -> Tensor:
        """(B, 2, J, 3) mm -> (B, 1)."""
        relative = sample - sample[:, :, self.root : self.root + 1]
        scores: Tensor = self.score(relative.flatten(1) / METRE)
        return scores


class KeypointDiscriminator(nn.Module):
    """Scores (B, 1) of 2D poses (B, J, 2) in screen coordinates, centred on the root and divided by their box.

    Place and size are taken out because alignment has set them already; missing joints are set to the root in real and
    generated poses alike, with the visibility of the target person that the source pose is paired with.
    """

    def __init__(self, skeleton: Skeleton, hidden: int = 256) -> None:
        super().__init__()
        self.root = skeleton.root
        self.score = _mlp(2 * skeleton.num_joints, hidden)

    def forward(self, sample: Tensor) -> Tensor:
        """(B, J, 2) -> (B, 1)."""
        scores: Tensor = self.score(sample.flatten(1))
        return scores


def keypoint_features(keypoints: Tensor, visible: Tensor, root: int) -> Tensor:
    """Screen keypoints (B, J, 2), visible (B, J) -> (B, J, 2) relative to the root, in units of their own box side."""
    scale = box_scale(keypoints, visible).clamp_min(1e-3)
    relative = (keypoints - keypoints[:, root : root + 1]) / scale[:, None, None]
    return relative * (visible & visible[:, root : root + 1]).unsqueeze(-1)


def swap_bone_lengths(pose: Tensor, other: Tensor, skeleton: Skeleton) -> Tensor:
    """Poses (B, J, 3) mm with their own bone directions and the bone lengths of `other` (B, J, 3), root at 0."""
    directions = unit_bones(bone_vectors(pose, skeleton))
    return joints_from_bones(directions * bone_lengths(other, skeleton).unsqueeze(-1), skeleton)


def _mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
    )

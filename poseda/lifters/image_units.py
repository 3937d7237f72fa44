"""Poses in the 2.5D image units of MotionBERT's data, and what makes millimetres of them without labels.

There x and y are screen-normalised as the input is, and z is the depth behind the root, multiplied by the focal length
over the root's depth. Published evaluations multiply the whole by that factor's inverse, known from each frame's
labels, and take the result for the pose. Without labels, and without a camera, two numbers are assumed: a focal
length, which undoes the perspective around the root's place in the 2D input, and the sum of the body's bone lengths,
which gives the size. On the Human3.6M stand-in, true 2.5D coordinates and the true size come within 2 mm of the pose
this way, 22 mm without the perspective; on that of MPI-INF-3DHP, whose focal length is another, within 12 and 31 mm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poseda.errors import choose
from poseda.lifters.base import MM_PER_METRE, Lifter, LifterOutput, check_range
from poseda.lifters.blocks import append_confidence, joint_scales
from poseda.skeleton import Skeleton

UNITS = ("metres", "image")
BONES_MM = 4150.0
"""Sum of Human3.6M's 16 bones, of the skeleton on which its angle data are published (subject 1)."""
FOCAL = 2.29
"""Focal length of Human3.6M's cameras, 1145 px, over half the image width, 500 px."""
_SMALLEST = 1e-6
_NEAREST = 0.1
"""A joint's depth over the root's, at least: fresh weights give any number."""


def check_units(units: str, bones_mm: float, focal: float) -> None:
    """Raise ConfigError unless `units` is known, and body and focal length are not absurdly large or small."""
    choose(units, UNITS, "unit of network outputs")
    check_range("bones_mm", bones_mm, 1.0, 1e6)
    check_range("focal", focal, 0.01, 1e4)


def carry_root(latent: Tensor, keypoints: Tensor, root: int) -> Tensor:
    """The latent (B, T, J, C) with the root's place in the image (B, T, J, >= 2) as two more channels: C + 2."""
    place = keypoints[..., root : root + 1, :2].expand(*latent.shape[:-1], 2)
    return torch.cat([latent, place], -1)


def as_metres(values: Tensor, place: Tensor, skeleton: Skeleton, bones_mm: float, focal: float) -> Tensor:
    """Root-relative poses in metres, with bones that sum to `bones_mm`, of image coordinates (..., J, 3).

    `place` (..., J or 1, 2) is where the root is in the image. The root's own coordinates are subtracted, since some
    published weights give them.
    """
    root = slice(skeleton.root, skeleton.root + 1)
    relative = values - values[..., root, :]
    depth = (1 + relative[..., 2:] / focal).clamp(min=_NEAREST)  # over the root's
    pose = torch.cat([(relative[..., :2] + place) * depth / focal, depth], -1)
    pose = pose - pose[..., root, :]
    total = (skeleton.bone_matrix(pose) @ pose).norm(dim=-1).sum(-1)
    metres: Tensor = pose * (bones_mm / MM_PER_METRE / total.clamp(min=_SMALLEST))[..., None, None]
    return metres


class RepresentationLifter(Lifter):
    """Base of MotionBERT and MotionAGFormer: a motion representation, and a linear head of it that is read as metres or
    as image units. A subclass writes `features` and has these parts."""

    units: str
    in_image_units: tuple[float, float]
    """Sum of the bone lengths, mm, and focal length, both for image units."""
    head: nn.Linear
    sigma_head: nn.Linear | None

    def features(self, keypoints: Tensor) -> Tensor:
        """Motion representation (B, T, J, dim_rep) of x, y, ..., confidence (B, T, J, C)."""
        raise NotImplementedError

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, inputs) -> (B, T, J, dim_rep), at full confidence unless it is among the inputs."""
        return self.represent(keypoints if self.reads_confidence else append_confidence(keypoints))

    def represent(self, keypoints: Tensor) -> Tensor:
        """The latent of x, y, ..., confidence (B, T, J, C): features, in image units with the root's place."""
        features = self.features(keypoints)
        return carry_root(features, keypoints, self.skeleton.root) if self.units == "image" else features

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, T, J, dim_rep), in image units dim_rep + 2 -> poses (B, T, J, 3) mm."""
        if self.units == "image":
            # the root's place is data, which refining the latent must not move
            latent, place = latent[..., :-2], latent[..., -2:].detach()
            metres = as_metres(self.head(latent), place, self.skeleton, *self.in_image_units)
        else:
            metres = self.head(latent)
        return self.to_output(metres, joint_scales(self.sigma_head, latent, self.skeleton.root))

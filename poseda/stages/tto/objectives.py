"""The terms of the objective: each gives a value for each frame, so that no frame feels its batch mates.

A penalty of the 2D and an anchor are separable: they act on each joint alone. Bones, symmetry, limits and jerk couple
joints or frames; each is half the mean square of residuals, which Gauss-Newton needs, and belongs to the frame at which
it starts. All are means over joints (or bones), so that weights mean the same for every skeleton.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.geometry.bones import bone_lengths
from poseda.geometry.camera import normalise_screen
from poseda.geometry.joint_limits import limit_excess
from poseda.skeleton import Skeleton
from poseda.stages.tto.config import TTOConfig
from poseda.stages.tto.observation import PER_AXIS, Observation, third_difference
from poseda.stages.tto.roots import Roots, clip_mean

LENGTH_UNIT = 10.0
"""mm; of bones, symmetry and jerk."""
LIMIT_UNIT = 0.1
"""Of limits, a sine or cosine."""
_TINY = 1e-6
# A joint that already fits has no direction to move in: the norm's gradient at 0 is taken as 0, up to 1e-6 of the
# screen (0.0005 px) or mm, for Adam would make a full step of the sign of a float32 rounding error.


@dataclass(frozen=True, eq=False)
class Objective:
    """What N frames should minimise; poses are (N, J, 3) mm, root-relative."""

    config: TTOConfig
    roots: Roots
    seen: Observation

    def __call__(self, pose: Tensor) -> Tensor:
        """(N,) the weighted sum of the terms. The root, or the weak camera, is solved for and held."""
        pixels, valid = self.project(pose)
        value = self.config.weight_reprojection * self.reprojection(pixels, valid)
        value = value + self.config.weight_anchor * self.anchor(pose)
        coupled = self.residuals(pose)
        return value if coupled is None else value + 0.5 * coupled.square().sum(-1)

    def project(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (N, J, 2) of poses, and whether they mean something (N,): a person before the camera."""
        seen = self.seen
        if self.config.camera == "weak":
            scale, shift, valid = weak_perspective(pose.detach(), seen.pixels, seen.confidence)
            return scale[:, None, None] * pose[..., :2] + shift[:, None], valid
        root, valid = self.roots(pose, seen)
        root = torch.where(valid.unsqueeze(-1), root, root.new_tensor([0.0, 0.0, 5000.0]))
        return seen.cameras.project(pose + root.unsqueeze(-2)), valid

    def reprojection(self, pixels: Tensor, valid: Tensor) -> Tensor:
        """(N,) mean penalty of pixels (N, J, 2), weighted by confidence; 0 for missing joints and invalid frames."""
        weight = self.seen.confidence * valid.unsqueeze(-1)
        if self.config.reprojection == "l2":
            penalty = _screen_distance(pixels, self.seen)
        else:
            square = self._square(pixels)
            penalty = robust_penalty(square, self.config.reprojection, self.config.robust)
        return torch.where(weight > 0, weight * penalty, 0.0).mean(-1)

    def reprojection_curvature(self, pixels: Tensor, valid: Tensor) -> Tensor:
        """(N, J) 1/px²: weight of a joint's squared distance in the parabola that touches its penalty from above."""
        weight = self.seen.confidence * valid.unsqueeze(-1) / pixels.shape[-2]
        if self.config.reprojection == "l2":
            per_pixel = 2 / self.seen.cameras.width.unsqueeze(-1)
            curve = per_pixel**2 / _screen_distance(pixels, self.seen)
        else:
            square = self._square(pixels)
            curve = robust_weight(square, self.config.reprojection, self.config.robust)
            curve = curve / self.seen.noise.square().unsqueeze(-1)
        return self.config.weight_reprojection * torch.where(weight > 0, weight * curve, 0.0)

    def anchor(self, pose: Tensor) -> Tensor:
        """(N,) mean pull back to the first prediction."""
        offset = pose - self.seen.pose
        if self.config.anchor == "mahalanobis":
            precision = self.seen.precision
            if precision is None:
                return 0.5 * (offset * (PER_AXIS / self.seen.sigma).unsqueeze(-1)).square().sum(-1).mean(-1)
            return 0.5 * torch.einsum("nja,njab,njb->nj", offset, precision, offset).mean(-1)
        moved = offset.square().sum(-1).clamp_min(_TINY**2).sqrt()
        # a density exp(-r / b) / (8 pi b³) in 3D has mean r = 3 b
        return (3.0 if self.config.anchor == "laplace" else 1.0) * (moved / self.seen.sigma).mean(-1)

    def residuals(self, pose: Tensor) -> Tensor | None:
        """(N, M) residuals of the coupling terms, weights included; half their squares' sum counts. None: no term."""
        config, skeleton = self.config, self.seen.skeleton
        parts = []
        if config.weight_bones or config.weight_symmetry:
            lengths = bone_lengths(pose, skeleton) / LENGTH_UNIT
        if config.weight_bones:
            wanted = clip_mean(lengths, self.seen)
            if self.seen.bones is not None:
                wanted = torch.where(self.seen.bones.isfinite(), self.seen.bones / LENGTH_UNIT, wanted)
            parts.append((config.weight_bones, lengths - wanted))
        if config.weight_symmetry:
            parts.append((config.weight_symmetry, asymmetry(lengths, skeleton)))
        if config.weight_limits:
            parts.append((config.weight_limits, limit_excess(pose, skeleton) / LIMIT_UNIT))
        if config.weight_jerk:
            jerk = third_difference(pose, self.seen.clip) / LENGTH_UNIT
            parts.append((3 * config.weight_jerk, jerk.flatten(1)))  # the mean over joints, not over coordinates
        scaled = [(weight / values.shape[-1]) ** 0.5 * values for weight, values in parts if values.shape[-1]]
        return torch.cat(scaled, -1) if scaled else None

    def misfit(self, pixels: Tensor) -> Tensor:
        """(N,) px along an axis: root of the mean square distance to the keypoints, weighted by confidence."""
        weight = self.seen.confidence
        square = torch.where(weight > 0, weight * (pixels - self.seen.pixels).square().sum(-1), 0.0).sum(-1)
        return (0.5 * square / weight.sum(-1).clamp_min(1e-12)).sqrt()

    def _square(self, pixels: Tensor) -> Tensor:
        """(N, J) squared distance to the keypoints in units of the noise."""
        return (pixels - self.seen.pixels).square().sum(-1) / self.seen.noise.square().unsqueeze(-1)


def robust_penalty(square: Tensor, kind: str, limit: float) -> Tensor:
    """Penalty of squared distances u²: square u²/2, huber (linear beyond `limit`), geman_mcclure (levels off)."""
    if kind == "huber":
        distance = square.clamp_min(limit**2).sqrt()
        return torch.where(square <= limit**2, 0.5 * square, limit * (distance - 0.5 * limit))
    if kind == "geman_mcclure":
        return 0.5 * limit**2 * square / (limit**2 + square)
    return 0.5 * square


def robust_weight(square: Tensor, kind: str, limit: float) -> Tensor:
    """Twice the derivative of `robust_penalty` by u²: the weight of iteratively reweighted least squares."""
    if kind == "huber":
        return limit / square.clamp_min(limit**2).sqrt()
    if kind == "geman_mcclure":
        return (limit**2 / (limit**2 + square)) ** 2
    return torch.ones_like(square)


def asymmetry(lengths: Tensor, skeleton: Skeleton) -> Tensor:
    """Left minus right bone lengths: (..., E) -> (..., P)."""
    left, right = ([pair[side] for pair in skeleton.bone_pairs] for side in (0, 1))
    return lengths[..., left] - lengths[..., right]


def weak_perspective(pose: Tensor, pixels: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale (N,) px/mm and shift (N, 2) px with which x, y of (N, J, 3) mm fit (N, J, 2) px best; valid (N,) bool.

    Weighted least squares in closed form, with no intrinsics. Not valid where fewer than two joints are visible, or
    where the best scale is not positive.
    """
    weight = confidence.unsqueeze(-1)
    seen, flat = pixels.masked_fill(weight <= 0, 0.0), pose[..., :2]
    total = weight.sum(-2).clamp_min(1e-12)
    mean, centre = (weight * flat).sum(-2) / total, (weight * seen).sum(-2) / total
    offset = flat - mean.unsqueeze(-2)
    spread = (weight * offset.square()).sum((-2, -1))
    scale = (weight * offset * (seen - centre.unsqueeze(-2))).sum((-2, -1)) / spread.clamp_min(1e-6)
    valid = (scale > 0) & (spread > 1e-6) & ((confidence > 0).sum(-1) >= 2)
    return scale, centre - scale.unsqueeze(-1) * mean, valid


def _screen_distance(pixels: Tensor, seen: Observation) -> Tensor:
    """(N, J) distance to the keypoints in screen units, as published."""
    width, height = seen.cameras.width, seen.cameras.height
    miss = normalise_screen(pixels, width, height) - normalise_screen(seen.pixels, width, height)
    return miss.square().sum(-1).clamp_min(_TINY**2).sqrt()

"""Self-supervised geometry of a lifter: lift, turn the body, reproject, lift again, turn back; nothing may change.

    P = f(x)          root r where P fits x
    y = project(R P + r)
    Q = R^-1 f(y)     ||Q - P||² in 3D, ||project(Q + r) - x||² in 2D, and y must look like a person

Errors are shares of the person's own size, in 3D and in the image: a pose cannot lower them by shrinking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poseda.geometry.camera import Camera, normalise_screen
from poseda.geometry.root import root_from_keypoints
from poseda.geometry.rotations import axis_angle_to_matrix
from poseda.lifters.inference import fill_missing
from poseda.stages.augmentation.discriminators import keypoint_features

NEAREST_MM = 200.0
"""A view in which a joint comes nearer to the camera's plane than this is left out."""
AWAY_MM = 5000.0
_SMALLEST = 1e-12

Lift = Callable[[Tensor], Tensor]
"""Lifter's 2D (N, K, L, J, 2) of K views of N pieces of L frames -> poses (N, K, L, J, 3) mm."""


@dataclass(frozen=True, eq=False)
class Seen:
    """2D of N pieces of L consecutive frames of one camera each."""

    pixels: Tensor
    """(N, L, J, 2) px."""
    confidence: Tensor
    """(N, L, J) in [0, 1], 0 = missing."""
    cameras: Camera
    """(N,)."""

    def rays(self) -> Tensor:
        """(N, L, J, 2) undistorted rays."""
        return self.cameras.unproject(self.pixels)

    def screen(self) -> Tensor:
        """(N, L, J, 2) what the lifter sees."""
        return lifter_input(self.pixels, self.cameras, self.confidence > 0)


@dataclass(frozen=True, eq=False)
class CycleLosses:
    """Dimensionless losses (N,) of N pieces, means over views, frames and joints."""

    three_d: Tensor
    two_d: Tensor
    plausible: Tensor
    """0 without a critic."""


def lifter_input(pixels: Tensor, cameras: Camera, visible: Tensor | None = None) -> Tensor:
    """What a lifter is given for keypoints (N, ..., J, 2) px, cameras (N,), visible (N, ..., J); None: all."""
    screen = normalise_screen(pixels, cameras.width, cameras.height)
    return screen if visible is None else fill_missing(screen, visible)


def draw_views(count: int, yaw: float, tilt: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """Random turns (count, 3, 3): within +-yaw about the camera's y axis, then tilts ~ N(0, tilt) about its x and z
    axes, rad. Each yaw is uniform, and together they are evenly spread, so that few views say as much as many."""
    start = torch.rand(1, generator=generator, device=generator.device)
    spread = (start + torch.arange(count, device=generator.device) / count) % 1
    turn = (2 * spread - 1) * yaw
    lean = tilt * torch.randn(count, 2, generator=generator, device=generator.device)
    zero = torch.zeros_like(turn)
    upright = axis_angle_to_matrix(torch.stack([zero, turn, zero], -1).to(like))
    leaning = axis_angle_to_matrix(torch.stack([lean[:, 0], zero, lean[:, 1]], -1).to(like))
    return leaning @ upright


def reproject(pose: Tensor, root: Tensor, views: Tensor, cameras: Camera) -> tuple[Tensor, Tensor]:
    """Poses (N, K, L, J, 3) mm turned by views (broadcast over (N, K, L, 3, 3)) about roots (N, K, L, 3) mm -> pixels
    (N, K, L, J, 2), and whether all joints are before the camera (N, K, L)."""
    placed = pose @ views.mT + root.unsqueeze(-2)
    seen = (placed[..., 2] > NEAREST_MM).all(-1)
    away = placed.new_tensor([0.0, 0.0, AWAY_MM])
    return cameras.project(torch.where(seen[..., None, None], placed, away)), seen


def cycle_losses(
    pose: Tensor,
    lift: Lift,
    seen: Seen,
    views: Tensor,
    critic: nn.Module | None,
    joint: int,
    root: Tensor | None = None,
) -> CycleLosses:
    """Losses of poses (N, L, J, 3) mm that were lifted from `seen`, over K views (K, 3, 3).

    `root` (N, L, 3) mm is solved for from the pose where it is not given, and has no gradient. `joint` is the root
    joint's number. A view counts for a piece when all its frames have a root and lie before the camera.
    """
    valid = torch.ones_like(pose[..., 0, 0], dtype=torch.bool)
    if root is None:
        root, valid = root_from_keypoints(pose.detach(), seen.rays(), seen.confidence)
    pixels, before = reproject(pose.unsqueeze(1), root.unsqueeze(1), views[:, None], seen.cameras)
    turned = lifter_input(pixels, seen.cameras)
    back = lift(turned) @ views[:, None]
    again, behind = reproject(back, root.unsqueeze(1), torch.eye(3).to(pose), seen.cameras)
    used = (valid.unsqueeze(1) & before & behind).all(-1)  # (N, K)
    original, mask = seen.screen(), seen.confidence > 0
    size = pose.square().sum(-1).mean((-1, -2)).clamp_min(_SMALLEST)  # (N,)
    spread = _spread(original, seen.confidence)  # (N,)
    miss_3d = (back - pose.unsqueeze(1)).square().sum(-1).mean((-1, -2)) / size.unsqueeze(1)
    distance = (lifter_input(again, seen.cameras) - original.unsqueeze(1)).square().sum(-1)  # (N, K, L, J)
    weight = (seen.confidence * mask).unsqueeze(1)
    miss_2d = (weight * distance).sum((-1, -2)) / weight.sum((-1, -2)).clamp_min(1e-6) / spread.unsqueeze(1)
    fake = torch.zeros_like(miss_3d) if critic is None else implausible(critic, turned, joint)
    return CycleLosses(*(_mean_of(values, used) for values in (miss_3d, miss_2d, fake)))


def implausible(critic: nn.Module, screen: Tensor, joint: int) -> Tensor:
    """(D(y) - 1)², mean over frames: screen keypoints (N, K, L, J, 2) -> (N, K)."""
    flat = screen.flatten(0, 2)
    features = keypoint_features(flat, torch.ones_like(flat[..., 0], dtype=torch.bool), joint)
    scores: Tensor = critic(features)
    return (scores - 1).square().mean(-1).view(screen.shape[:3]).mean(-1)


def _spread(screen: Tensor, confidence: Tensor) -> Tensor:
    """Mean square distance (N,) of visible joints from their mean, frame by frame; 1 where there is none."""
    weight = (confidence > 0).to(screen).unsqueeze(-1)
    count = weight.sum(-2, keepdim=True).clamp_min(1)
    middle = (weight * screen).sum(-2, keepdim=True) / count
    spread = ((weight * (screen - middle)).square().sum((-1, -2)) / count.squeeze((-1, -2))).mean(-1)
    return torch.where(spread > 1e-8, spread, torch.ones_like(spread))


def _mean_of(values: Tensor, used: Tensor) -> Tensor:
    """Mean over the used views, 0 without one: (N, K), (N, K) bool -> (N,)."""
    return torch.where(used, values, 0.0).sum(1) / used.sum(1).clamp_min(1)

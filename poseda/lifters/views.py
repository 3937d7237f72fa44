"""Views: from which virtual camera, and in which units, a lifter sees a person.

The usual input is screen-normalised pixels, which hold the focal length, the place in the image and the lens of the
cameras that a lifter was trained with. A view takes some of these out, with the intrinsics that each camera has, and
puts poses back into the camera's own axes afterwards. A lifter is trained with its view, and keeps it.

A window has one virtual camera, whatever its length: a rotation that changed from frame to frame would add motion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from poseda.errors import ConfigError, choose
from poseda.geometry.perspective import level_to_axis, rotate_rays, swing_to_axis

FOCAL = 2.29
"""Focal length of the virtual camera in screen units (2 f / width): about that of Human3.6M's cameras."""
TYPICAL_SIZE = 0.15
"""Half the diagonal of a person's box in ray units at which the size token is 0: a standing adult 6 m away."""
SMALLEST_SIZE = 1e-3
Token = Literal["size", "x", "y"]


@dataclass(frozen=True)
class View:
    """What a lifter's input is made of. `screen` is the one without a virtual camera."""

    text: str
    """One line for help."""
    rotation: Literal["none", "swing", "level"] = "none"
    """How the virtual camera turns to the person: not at all, by the smallest rotation, or by yaw and then pitch."""
    centre: Literal["box", "root"] = "box"
    """What of the person it turns to."""
    scale: Literal["keep", "box"] = "keep"
    """Whether 2D keep their size, or are given in units of half the diagonal of the person's box."""
    crop: bool = False
    """Whether 2D are given from the centre, without a rotation."""
    tokens: tuple[Token, ...] = ()
    """Extra channels, the same for all joints: log size of the person in rays, and the ray of the centre."""

    @property
    def looks(self) -> bool:
        """Whether the virtual camera depends on the person, so that each window has its own."""
        return self.rotation != "none" or self.scale != "keep" or self.crop or bool(self.tokens)


VIEWS: Mapping[str, View] = MappingProxyType({
    "screen": View("screen-normalised pixels, as VideoPose3D and its successors take them"),
    "rays": View("undistorted rays: what the intrinsics say is taken out"),
    "cliff": View("the person's box, and where and how large it is as tokens (CLIFF)",
                  scale="box", crop=True, tokens=("x", "y", "size")),
    "centred": View("a camera turned to the middle of the person's box (PersPose's perspective rotation)",
                    rotation="swing"),
    "canonical": View("a camera turned to the person's root (canonical domain, arXiv 2501.16146)",
                      rotation="swing", centre="root"),
    "pcl": View("a camera turned to the person's box by yaw and pitch, in units of the box (perspective crop layers)",
                rotation="level", scale="box"),
    "perspective": View("a camera turned to the person's box, in units of the box, its size as a token (PersPose's "
                        "rotation and encoding)", rotation="swing", scale="box", tokens=("size",)),
    "perspective_y": View("as perspective, and the height of the ray to the person, which tells how far the camera "
                          "was tilted", rotation="swing", scale="box", tokens=("size", "y")),
})  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A lifter's input, and how its virtual camera was turned."""

    keypoints: Tensor
    """(B, T, J, C): two coordinates, the view's tokens, and the confidence where the lifter reads it."""
    rotation: Tensor | None
    """(B, 3, 3) camera axes to the view's; None where they are the same."""


def get_view(name: str) -> View:
    """A view by name; ConfigError, with the nearest names, for an unknown one."""
    return VIEWS[choose(name, VIEWS, "view")]


def look(view: View, rays: Tensor, visible: Tensor | None, root: int) -> Seen:
    """What a view makes of undistorted rays (B, T, J, 2), visible (B, T, J) bool or None for all; root is a joint.

    A missing joint lies at the mean of its frame's visible ones, and has no say in where the camera looks; a window
    without any visible joint is seen straight on. Differentiable in the rays.
    """
    if view == VIEWS["screen"]:
        raise ConfigError("The view screen is made of pixels, not of rays.")
    seen = None if visible is None else visible.any(-1)  # (B, T)
    low, high = _box(rays, visible)  # (B, T, 2)
    centre = _over_frames((low + high) / 2, seen)
    if view.centre == "root":
        centre = _root_ray(rays, visible, root, centre)
    rotation = None
    if view.rotation != "none":
        rotation = (swing_to_axis if view.rotation == "swing" else level_to_axis)(centre)
        rays = rotate_rays(rotation, rays)
        low, high = _box(rays, visible)
    size = _over_frames((high - low).square().sum(-1).clamp_min(1e-18).sqrt() / 2, seen).clamp_min(SMALLEST_SIZE)
    flat = rays - centre[:, None, None] if view.crop else rays
    flat = flat / size[:, None, None, None] if view.scale == "box" else FOCAL * flat
    tokens = {"size": (size / TYPICAL_SIZE).log(), "x": FOCAL * centre[:, 0], "y": FOCAL * centre[:, 1]}
    extra = [tokens[name][:, None, None, None].expand(*flat.shape[:-1], 1) for name in view.tokens]
    return Seen(torch.cat([fill_missing(flat, visible), *extra], -1), rotation)


def fill_missing(keypoints: Tensor, visible: Tensor | None) -> Tensor:
    """Put each missing joint (visible (..., J) False) at the mean of its frame's visible joints, (..., J, 2).

    A place inside the body is the guess that moves a lifter least, and needs no past frames. Where nothing is
    visible the keypoints become 0, in screen-normalised input the image centre.
    """
    if visible is None:
        return keypoints
    seen = visible.unsqueeze(-1)
    total = keypoints.masked_fill(~seen, 0.0).sum(-2, keepdim=True)
    return torch.where(seen, keypoints, total / seen.sum(-2, keepdim=True).clamp(min=1))


def _box(rays: Tensor, visible: Tensor | None) -> tuple[Tensor, Tensor]:
    """Corners (B, T, 2) of the box of visible joints; 0 where there is none."""
    if visible is None:
        return rays.amin(-2), rays.amax(-2)
    hidden, some = ~visible.unsqueeze(-1), visible.any(-1, keepdim=True)
    low = rays.masked_fill(hidden, torch.inf).amin(-2)
    high = rays.masked_fill(hidden, -torch.inf).amax(-2)
    return torch.where(some, low, 0.0), torch.where(some, high, 0.0)


def _root_ray(rays: Tensor, visible: Tensor | None, root: int, otherwise: Tensor) -> Tensor:
    """Mean ray (B, 2) of the root over the frames that show it; `otherwise` (B, 2) where none does."""
    shown = None if visible is None else visible[..., root]
    mean = _over_frames(rays[..., root, :], shown)
    return mean if shown is None else torch.where(shown.any(1, keepdim=True), mean, otherwise)


def _over_frames(values: Tensor, known: Tensor | None) -> Tensor:
    """Mean (B, ...) of values (B, T, ...) over the frames that are known (B, T) bool; 0 where none is."""
    if known is None:
        return values.mean(1)
    weight = known.view(*known.shape, *(1,) * (values.ndim - 2))
    return torch.where(weight, values, 0.0).sum(1) / weight.sum(1).clamp(min=1)

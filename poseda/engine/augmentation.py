"""What supervised training changes of the windows that it draws: where people look, and how well they are detected."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch
from poseda.data.clips import LabelledClips
from poseda.data.noise import Seen, noisy_keypoints
from poseda.data.views import NEAREST_MM
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera, has_extrinsics, vertical
from poseda.geometry.rotations import rotate_about_axis


class Augmentation:
    """Windows turned about the vertical and projected anew, with fresh detector noise on their 2D.

    Both begin at the exact projection of the poses, so they are for clips whose 2D is that; ConfigError otherwise, and
    for `rotate` where a camera does not know which way is up.
    """

    def __init__(self, clips: LabelledClips, *, rotate: bool, noise: str) -> None:
        self.rotate, self.noise, self.fps, self.skeleton = rotate, noise, clips.fps, clips.skeleton
        about = clips.provenance
        if about.keypoints != "gt":
            raise ConfigError(
                f"train.rotate and train.noise start from exact 2D, and {about.name} carries {about.keypoints}: "
                "leave them out, or take the exact 2D (source.noise=none)."
            )
        if rotate and not bool(has_extrinsics(clips.cameras).all()):
            raise ConfigError(
                f"train.rotate=true turns people about the world's vertical, and a camera of {about.name} has no pose "
                "in the world: leave it out, or prepare the data with extrinsics."
            )

    def __call__(self, batch: SourceBatch, generator: torch.Generator) -> tuple[SourceBatch, Tensor, Tensor]:
        """The windows as changed, their 2D (B, T, J, 2) px, and its confidence (B, T, J), 0 = missing."""
        if self.rotate:
            angle = torch.rand(len(batch.poses), generator=generator, device=generator.device) * (2 * math.pi)
            angle = angle.to(batch.poses)
            batch = replace(batch, poses=turned_windows(batch.poses, batch.cameras, angle, self.skeleton.root))
        pixels = batch.cameras.project(batch.poses)
        if self.noise == "none":
            return batch, pixels, torch.ones_like(pixels[..., 0])
        windows, frames = pixels.shape[:2]
        bounds = torch.arange(windows + 1, device=pixels.device) * frames
        exact = pixels.flatten(0, 1)
        seen = Seen(exact, torch.ones_like(exact[..., 0]), bounds, self.fps, self.skeleton, each=frames)
        noisy, confidence = noisy_keypoints(seen, self.noise, generator)
        return batch, noisy.view_as(pixels), confidence.view(pixels.shape[:-1])


def turned_windows(poses: Tensor, cameras: Camera, angle: Tensor, root: int) -> Tensor:
    """Windows (B, T, J, 3) mm, each turned by angle (B,) rad about the vertical through its mean root.

    A window that would leave its camera's image, or come nearer than clips may be, stays as it is.
    """
    pivot = poses[:, :, root : root + 1].mean(1, keepdim=True)  # (B, 1, 1, 3): a walk stays where it is
    axis = vertical(cameras)[:, None, None]
    turned = rotate_about_axis(poses - pivot, axis, angle[:, None, None]) + pivot
    pixels = cameras.project(turned)
    size = torch.stack((cameras.width, cameras.height), -1)[:, None, None]
    inside = ((pixels >= 0) & (pixels <= size)).all(-1) & (turned[..., 2] > NEAREST_MM)
    return torch.where(inside.flatten(1).all(1)[:, None, None, None], turned, poses)

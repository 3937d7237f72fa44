"""How far the poses of slightly moved 2D scatter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poseda.errors import ConfigError
from poseda.geometry.boxes import box_scale
from poseda.uncertainty.base import Lifting
from poseda.uncertainty.disagreement import Disagreement


@dataclass(frozen=True)
class JitterConfig:
    """Options of augmentation disagreement."""

    scale: float = 0.01
    """Standard deviation of the noise on the 2D, as a share of the person's size in the image."""
    passes: int = 8
    """Noisy looks at each frame."""
    seed: int = 0
    """Seed of the noise."""

    def __post_init__(self) -> None:
        if not self.scale > 0 or self.passes < 1:
            raise ConfigError(f"jitter.scale={self.scale}, jitter.passes={self.passes}: must be positive.")


class Jitter(Disagreement):
    """Root mean square distance of noisy looks to the pose; costs `passes` more passes."""

    Config = JitterConfig
    name = "jitter"
    config: JitterConfig

    def disagreement(self, seen: Lifting) -> Tensor:
        """(F, J) mm, from noise that depends on the seed alone."""
        clips, config = seen.clips, self.config
        generator = torch.Generator().manual_seed(config.seed)
        size = config.scale * box_scale(clips.keypoints, clips.visible)[:, None, None]
        total = torch.zeros_like(seen.lifted.poses[..., 0])
        for _ in range(config.passes):
            noise = torch.randn(clips.keypoints.shape, generator=generator).to(clips.keypoints) * size
            moved = torch.where(clips.visible[..., None], clips.keypoints + noise, clips.keypoints)
            looked = seen.again(clips=replace(clips, keypoints=moved))
            total += (looked - seen.lifted.poses).square().sum(-1)
        return (total / config.passes).sqrt()


ESTIMATOR = Jitter

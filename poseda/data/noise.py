"""2D detector noise with the per-joint statistics of a published fit, correlated in time."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.data.clips import AnyClips
from poseda.data.windows import sequence_limits
from poseda.errors import ConfigError
from poseda.geometry.boxes import pixel_box
from poseda.skeleton import convert_joints, get_skeleton

# PoseLifter (Chang, Moon, Lee, arXiv:1910.12029): fit of a mixture to a detector's errors on Human3.6M, as
# released in Pose2Mesh: mean x, mean y, std x, std y in px of a 256 px person crop, and the share of
# outliers, which lie uniformly within 50 px. Human3.6M-17 order.
_ERRORS = (
    (-0.06, -2.37, 1.33, 2.13, 0.00), (-0.83, -2.07, 3.41, 2.69, 0.00), (-0.04, -1.01, 1.74, 2.20, 0.05),
    (0.52, -3.40, 1.39, 2.14, 0.07), (0.78, -2.79, 3.26, 2.28, 0.00), (0.42, -0.15, 1.53, 1.99, 0.06),
    (-0.15, -3.78, 1.39, 2.39, 0.07), (-0.05, 0.10, 1.36, 1.74, 0.01), (0.14, -2.56, 1.18, 1.15, 0.01),
    (0.13, -0.26, 0.78, 0.59, 0.02), (0.09, 0.49, 1.35, 0.87, 0.01), (-0.19, 0.31, 2.51, 1.48, 0.01),
    (0.11, -0.60, 1.79, 1.76, 0.05), (-0.02, 0.88, 2.02, 2.10, 0.09), (0.52, -0.12, 2.23, 1.73, 0.01),
    (0.06, -0.44, 1.93, 1.63, 0.05), (0.05, 0.16, 2.02, 2.24, 0.10),
)  # fmt: skip
_LEVELS = {
    "cpn": 5.4,
    "hrnet": 4.4,
}  # mean error in px on Human3.6M, fine-tuned detectors (EvoSkeleton's README)
_OUTLIER_PX = 50.0
_BOX_PX = 400.0  # the box at which a level is meant
_MEAN_PX = 6.31  # mean error of the table at that box, by numerical integration
_RHO = 0.8  # correlation of the jitter over 20 ms; detectors' errors persist (0.7 to 0.9)
_BURST = 8  # frames that an outlier lasts at 50 Hz (3 to 15)


def noise_level(level: str | float) -> float:
    """Mean error in px at a 400 px box of a named detector or of a number; ConfigError for anything else."""
    if isinstance(level, str) and level in _LEVELS:
        return _LEVELS[level]
    try:
        pixels = float(level)
    except ValueError:
        pixels = float("nan")
    if not 0.0 < pixels < 100.0:
        raise ConfigError(f"noise={level}: expected none, {', '.join(_LEVELS)}, or px at a 400 px box (0 to 100).")
    return pixels


def add_detector_noise(clips: AnyClips, level: str | float, generator: torch.Generator) -> AnyClips:
    """The clips with noisy 2D: level is "cpn" (5.4 px), "hrnet" (4.4 px) or the mean error in px at a 400
    px box.

    Jitter and outliers grow with the longer side of the person's box and persist over neighbouring frames;
    confidence falls with error.
    """
    scale = noise_level(level) / _MEAN_PX
    table = torch.tensor(_ERRORS)
    table = convert_joints(table, get_skeleton("h36m17"), clips.skeleton).to(clips.keypoints)  # (J, 5)
    first, _ = sequence_limits(clips.bounds)
    errors = _jitter(table, first, generator, clips.fps)
    box = torch.maximum(*pixel_box(clips.keypoints, clips.visible))  # (F,) px, the longer side
    outlier, offset = _outliers(table[:, 4], first, generator, clips.fps)
    errors = torch.where(outlier.unsqueeze(-1), offset, errors) * scale  # px of the 256 px crop
    keypoints = clips.keypoints + errors * (box / 256.0)[:, None, None]
    confidence = clips.confidence * torch.exp(-errors.norm(dim=-1) / 16.0).clamp(min=0.05)
    name = f"{clips.provenance.keypoints}+{level if isinstance(level, str) else f'{level:g}'}"
    return clips.with_keypoints(keypoints, confidence, f"{name} noise")


def _jitter(table: Tensor, first: Tensor, generator: torch.Generator, fps: float) -> Tensor:
    """Gaussian errors (F, J, 2) with the table's means and deviations, autoregressive inside a sequence."""
    rho = _RHO ** (50.0 / fps)
    fresh = _randn((len(first), len(table), 2), generator, table)
    return table[:, :2] + table[:, 2:4] * autoregress(fresh, first, rho)


def autoregress(fresh: Tensor, first: Tensor, rho: float) -> Tensor:
    """Unit-variance AR(1) noise from white noise (F, ...), restarted at each sequence's first frame first
    (F,).

    x_t = rho x_(t-1) + sqrt(1 - rho^2) e_t, by doubling: after step k each frame sums its last 2^k
    innovations.
    """
    frame = torch.arange(len(first), device=first.device)
    start = frame == first
    shape = (-1, *(1,) * (fresh.dim() - 1))
    noise = torch.where(start.view(shape), fresh, fresh * (1 - rho * rho) ** 0.5)
    reach = 1
    while rho**reach > 1e-4 and reach < len(first):
        inside = (frame[reach:] - reach >= first[reach:]).view(shape)
        noise = torch.cat([noise[:reach], noise[reach:] + rho**reach * noise[:-reach] * inside])
        reach *= 2
    return noise


def _outliers(share: Tensor, first: Tensor, generator: torch.Generator, fps: float) -> tuple[Tensor, Tensor]:
    """Which joints are outliers (F, J) bool and by how much (F, J, 2) px, both in bursts of frames."""
    length = max(1, round(_BURST * fps / 50.0))
    frame = torch.arange(len(first), device=first.device)
    starts = frame == first
    block = ((frame - first) % length == 0) | starts
    number = block.cumsum(0) - 1  # (F,) the burst that a frame belongs to
    drawn = _rand((int(block.sum()), len(share), 3), generator, share)[number]
    return drawn[..., 0] < share, (drawn[..., 1:] * 2 - 1) * _OUTLIER_PX


def _randn(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device).to(like)


def _rand(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(like)

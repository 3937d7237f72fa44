"""Many poses for a frame, from a flow: a lifter of one pose becomes one of many, without being trained again.

Conditional flow matching (Lipman et al., ICLR 2023; the straight paths of rectified flow, Liu et al., ICLR 2023), as
FMPose3D lifts with it; here it is fitted afterwards, to the errors e = pose - truth of a frozen lifter on the source. A
network v(x, t, frame) learns the mean of u - n along x = (1 - t) n + t u, with n normal, u the error less its mean in
units of its standard deviation, and the frame given as its 2D and its pose; from n, the steps of dx = v dt then end at
errors as the lifter makes them on such a frame, and pose - e is one hypothesis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from poseda.engine.descent import descend
from poseda.lifters.base import MM_PER_METRE, Lifter
from poseda.lifters.seeding import seeded
from poseda.uncertainty.base import Lifting, moving_joints
from poseda.uncertainty.posthoc import head_input

LEAST_SPREAD = 1e-3
"""Metres: no coordinate of an error counts as steadier than this."""
CHUNK = 65536
"""Frames and hypotheses at once."""
WAVES = 8
"""Frequencies in which the network is told the time."""


@dataclass(frozen=True)
class FlowConfig:
    """Options of the flow."""

    hidden: int = 512
    """Width of the three hidden layers."""
    steps: int = 3000
    """Steps of Adam on the source's errors."""
    batch_size: int = 1024
    """Frames in a step."""
    lr: float = 1e-3
    """Learning rate at the start; it falls to 0 along a cosine."""
    integration: int = 8
    """Steps of the midpoint rule from noise to an error."""
    spread: float = 1.0
    """Factor of the errors that are drawn."""


class ErrorFlow(nn.Module):
    """Draws errors (N, J - 1, 3) mm as a lifter made them on frames alike."""

    def __init__(self, config: FlowConfig, lifter: Lifter, seed: int) -> None:
        super().__init__()
        self.config, self.seed, self.skeleton = config, seed, lifter.skeleton
        joints = lifter.skeleton.num_joints
        size, given = 3 * (joints - 1), 5 * joints
        with seeded(seed):
            widths = (size + given + 2 * WAVES, *[config.hidden] * 3)
            layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.SiLU())]
            self.net = nn.Sequential(*layers, nn.Linear(config.hidden, size))
        self.register_buffer("centre", torch.zeros(given))
        self.register_buffer("width", torch.ones(given))
        self.register_buffer("shift", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.requires_grad_(False)

    centre: Tensor
    width: Tensor
    shift: Tensor
    scale: Tensor

    def fit(self, seen: Lifting) -> None:
        """Learn from labelled clips as a lifter lifted them."""
        given, error = head_input(seen), seen.error().flatten(1) / MM_PER_METRE
        self.to(given.device)
        self.centre, self.width = given.mean(0), given.std(0).clamp_min(1e-3)
        self.shift, self.scale = error.mean(0), error.std(0).clamp_min(LEAST_SPREAD)
        given, error = (given - self.centre) / self.width, (error - self.shift) / self.scale
        generator = torch.Generator().manual_seed(self.seed)
        count = self.config.batch_size

        def loss(_: int) -> Tensor:
            rows = torch.randint(len(error), (count,), generator=generator).to(error.device)
            noise = torch.randn(count, error.shape[1], generator=generator).to(error)
            time = torch.rand(count, 1, generator=generator).to(error)
            return self.loss(error[rows], noise, time, given[rows])

        descend(self, loss, steps=self.config.steps, lr=self.config.lr)

    def loss(self, error: Tensor, noise: Tensor, time: Tensor, given: Tensor) -> Tensor:
        """Mean squared distance of the velocity from that of the straight path; all (N, D), time (N, 1), in units."""
        return (self.velocity((1 - time) * noise + time * error, time, given) - (error - noise)).square().mean()

    def velocity(self, x: Tensor, time: Tensor, given: Tensor) -> Tensor:
        """(N, 3 (J - 1)) in units of `scale`, time (N, 1), given (N, 5 J) standardised -> as x."""
        angles = math.pi * time * torch.arange(1, WAVES + 1, device=x.device, dtype=x.dtype)
        found: Tensor = self.net(torch.cat([x, given, angles.sin(), angles.cos()], -1))
        return found

    @torch.no_grad()
    def draw(self, seen: Lifting, count: int, generator: torch.Generator) -> Tensor:
        """Hypotheses (F, count, J, 3) mm of lifted clips; the root stays 0."""
        given = ((head_input(seen).to(self.centre)) - self.centre) / self.width
        given = given.repeat_interleave(count, 0)
        noise = torch.randn(len(given), len(self.scale), generator=generator, device=generator.device).to(given)
        parts = zip(torch.split(noise, CHUNK), torch.split(given, CHUNK), strict=True)
        error = torch.cat([self._flow(*part) for part in parts]) * self.scale + self.shift
        poses = seen.lifted.poses[:, None].repeat(1, count, 1, 1)
        moving = moving_joints(self.skeleton, poses.device)
        error = self.config.spread * MM_PER_METRE * error
        poses[:, :, moving] -= error.view(len(poses), count, len(moving), 3).to(poses)
        return poses

    def _flow(self, x: Tensor, given: Tensor) -> Tensor:
        """From noise at time 0 to errors at time 1, by the midpoint rule."""
        step = 1 / self.config.integration
        for number in range(self.config.integration):
            time = x.new_full((len(x), 1), number * step)
            middle = x + step / 2 * self.velocity(x, time, given)
            x = x + step * self.velocity(middle, time + step / 2, given)
        return x

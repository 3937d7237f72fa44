"""Copies of some of a lifter's weights that move apart from each other, all in one pass (torch.func)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from poseda.errors import ConfigError
from poseda.lifters.base import Lifter, LifterOutput, evaluation_mode

WEIGHTS = ("norm", "head", "all")
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d)
BETAS, EPSILON = (0.9, 0.999), 1e-8


def moving_names(lifter: Lifter, which: str) -> tuple[str, ...]:
    """Names of the weights that move: of normalisation layers, of the layers after the latent, or all that poses
    depend on. Raises ConfigError where there are none."""
    if which == "norm":
        parts = {name for name, part in lifter.named_modules() if isinstance(part, NORMS)}
        names = tuple(name for name, _ in lifter.named_parameters() if name.rpartition(".")[0] in parts)
    else:
        names = _behind_poses(lifter, whole=which == "all")
    if not names:
        others = ", ".join(other for other in WEIGHTS if other != which)
        raise ConfigError(f"iso.weights={which}: {lifter.name} has no such weights; take {others}.")
    return names


def _behind_poses(lifter: Lifter, whole: bool) -> tuple[str, ...]:
    """Names of the parameters that poses depend on, or that poses depend on once the latent is known."""
    like = next(lifter.parameters())
    empty = like.new_zeros(1, lifter.frames, lifter.skeleton.num_joints, 2)
    names, values = zip(*((n, p) for n, p in lifter.named_parameters() if p.requires_grad), strict=True)
    with evaluation_mode(lifter), torch.enable_grad():
        latent = lifter.encode(empty)
        pose = lifter.decode(latent if whole else latent.detach()).pose
    if not pose.requires_grad:
        return ()
    gradients = torch.autograd.grad(pose.sum(), values, allow_unused=True)
    return tuple(name for name, gradient in zip(names, gradients, strict=True) if gradient is not None)


class Copies:
    """`count` copies of the named weights, each with an Adam of its own; the other weights are shared and stay.

    The lifter must be in evaluation mode whenever a copy is used: BatchNorm's statistics are never touched.
    """

    def __init__(self, lifter: Lifter, names: tuple[str, ...], count: int, lr: float) -> None:
        self.lifter, self.lr = lifter, lr
        values = {name: parameter.detach() for name, parameter in lifter.named_parameters()}
        self.start = {name: values.pop(name) for name in names}
        self.shared = values
        self.weights = {name: value.expand(count, *value.shape).clone() for name, value in self.start.items()}
        self.first = {name: torch.zeros_like(value) for name, value in self.weights.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self.weights.items()}
        self.steps = 0

    def lift(self, weights: Mapping[str, Tensor], keypoints: Tensor, length: int) -> Tensor:
        """Poses (C, N, L, J, 3) mm of the L middle frames of keypoints (C, N, W, J, 2), each copy its own."""

        def one(own: dict[str, Tensor], seen: Tensor) -> Tensor:
            pose: Tensor = functional_call(self.lifter, {**self.shared, **own}, (seen,)).pose
            return pose

        windows, frames = keypoints, self.lifter.frames
        sliced = not self.lifter.slides and self.lifter.output == "seq2frame"
        if sliced:  # one window for each frame
            windows = keypoints.unfold(2, frames, 1).movedim(-1, 3).flatten(1, 2)
        with sdpa_kernel(SDPBackend.MATH):  # the only attention that torch can batch over copies
            poses: Tensor = vmap(one)(dict(weights), windows)
        return poses.view(*keypoints.shape[:2], length, *poses.shape[-2:])

    def output(self, keypoints: Tensor) -> LifterOutput:
        """What the lifter gives for keypoints (B, T, J, 2) with the weights of the first copy."""
        own = {name: value[0] for name, value in self.weights.items()}
        output: LifterOutput = functional_call(self.lifter, {**self.shared, **own}, (keypoints,))
        return output

    @torch.no_grad()
    def change(self, keypoints: Tensor, length: int) -> Tensor:
        """Poses (C, N, L, J, 3) mm of the first C copies for keypoints (C, N, W, J, 2), less those of the start."""
        count = len(keypoints)
        now = {name: value[:count] for name, value in self.weights.items()}
        then = {name: value.expand(count, *value.shape) for name, value in self.start.items()}
        return self.lift(now, keypoints, length) - self.lift(then, keypoints, length)

    def taken(self, active: int) -> dict[str, Tensor]:
        """The first `active` copies, as leaves."""
        return {name: value[:active].detach().requires_grad_(True) for name, value in self.weights.items()}

    @torch.no_grad()
    def step(self, weights: Mapping[str, Tensor], loss: Tensor) -> None:
        """One step of Adam of these leaves (the first copies) on a loss, summed over copies."""
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        self.steps += 1
        low, high = (1 - beta**self.steps for beta in BETAS)
        for (name, value), gradient in zip(weights.items(), gradients, strict=True):
            if gradient is None:
                continue
            gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
            first = self.first[name][: len(value)].lerp_(gradient, 1 - BETAS[0])
            second = self.second[name][: len(value)].lerp_(gradient.square(), 1 - BETAS[1])
            self.weights[name][: len(value)] -= self.lr * (first / low) / ((second / high).sqrt() + EPSILON)

    def pull_back(self, share: float, active: int) -> None:
        """Soft reset of the first copies: weights <- weights + share (start - weights)."""
        for name, value in self.weights.items():
            value[:active].lerp_(self.start[name].expand_as(value[:active]), share)

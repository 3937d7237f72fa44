"""How the objective is brought down: Adam on any latent, Gauss-Newton on the pose itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from poseda.stages.tto.config import TTOConfig
from poseda.stages.tto.objectives import LENGTH_UNIT, Objective
from poseda.stages.tto.observation import PER_AXIS

CONJUGATE_STEPS = 10
"""Of conjugate gradients in one step of Gauss-Newton, where joints or frames are coupled."""
FIRST_DAMPING = 1e-3
"""Levenberg-Marquardt, relative to the curvature; ten times as much after a step that is refused."""
JERK_CURVATURE = 20.0
"""Sum of the squares of the third difference's factors."""

Symmetric = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""xx, yy, zz, xy, xz, yz of 3x3 matrices."""


@dataclass(frozen=True, eq=False)
class Moves:
    """What Adam may move, and the poses (N, J, 3) mm that it stands for."""

    latents: list[Tensor]
    pose: Callable[[], Tensor]
    settle: Callable[[], None]
    """Puts the latents back inside the trust region after a step, where that can be done in them."""


def within(offset: Tensor, radius: Tensor | None) -> Tensor:
    """Offsets (N, J, 3) mm, those longer than radius (N, J) mm cut to it; None: as they are."""
    if radius is None:
        return offset
    length = offset.square().sum(-1).clamp_min(1e-12).sqrt()
    return offset * (radius / length).clamp(max=1.0).unsqueeze(-1)


def adam(moves: Moves, objective: Objective, config: TTOConfig) -> Tensor:
    """(N, J, 3) mm after config.count steps; a frame whose 2D is fitted to its noise keeps the pose it had then."""
    optimizer = torch.optim.Adam(moves.latents, lr=config.lr)
    kept, moving = objective.seen.pose, torch.ones_like(objective.seen.noise, dtype=torch.bool)
    for _ in range(config.count):
        pose = moves.pose()
        if config.discrepancy:
            arrived = moving & fitted(objective, pose.detach())
            kept = torch.where(arrived[:, None, None], pose.detach(), kept)
            moving = moving & ~arrived
        optimizer.zero_grad(set_to_none=True)
        objective(pose).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            moves.settle()
    with torch.no_grad():
        return torch.where(moving[:, None, None], moves.pose(), kept)


@torch.no_grad()
def fitted(objective: Objective, pose: Tensor) -> Tensor:
    """(N,) bool: the reprojection is no larger than the noise of the 2D (Morozov's discrepancy principle)."""
    pixels, valid = objective.project(pose)
    return valid & (objective.misfit(pixels) <= objective.seen.noise)


class Linear(NamedTuple):
    """The objective about a pose: its value (N,), and of its separable part the gradient and the curvature."""

    value: Tensor
    gradient: Tensor
    """(N, J, 3)."""
    curvature: Symmetric
    """Of (N, J)."""
    misfit: Tensor
    """(N,) px."""


@torch.no_grad()
def gauss_newton(objective: Objective, config: TTOConfig, radius: Tensor | None) -> Tensor:
    """(N, J, 3) mm after config.count steps of Levenberg-Marquardt on the pose; its objective never rises.

    A unit is a frame, or a sequence where frames look at each other: each has its own damping, and takes a step only
    where its own objective falls. Robust penalties are replaced by the parabolas that touch them (iteratively
    reweighted least squares); without coupling terms the system is 3x3 for each joint, and solved in closed form.
    """
    seen = objective.seen
    together = config.weight_bones > 0 or config.weight_jerk > 0 or config.root in ("clip", "ground")
    unit = seen.clip if together else torch.arange(len(seen.pose), device=seen.pose.device)
    units = seen.clips if together else len(seen.pose)
    total = _Total(unit, units) if together else None
    pose, at = seen.pose, linearise(objective, seen.pose)
    value = total(at.value) if total else at.value
    damping = torch.full_like(value, FIRST_DAMPING)
    free = torch.ones_like(pose[..., :1])
    free[:, seen.skeleton.root] = 0.0
    for _ in range(config.count):
        moving = free if not config.discrepancy else free * (at.misfit > seen.noise)[:, None, None]
        step = _step(objective, pose, at, damping[unit], moving, total)
        candidate = seen.pose + within(pose + step - seen.pose, radius)
        there = linearise(objective, candidate)
        new = total(there.value) if total else there.value
        better = new < value  # a NaN is not
        chosen = better[unit]
        pose = torch.where(chosen[:, None, None], candidate, pose)
        at = _choose(chosen, there, at)
        value = torch.where(better, new, value)
        damping = torch.where(better, 0.1 * damping, 10 * damping)
    return pose


class _Total:
    """Sums over units: (N,) -> (U,)."""

    def __init__(self, unit: Tensor, units: int) -> None:
        self.unit, self.units = unit, units

    def __call__(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.units).index_add_(0, self.unit, values)


def linearise(objective: Objective, pose: Tensor) -> Linear:
    """Value, gradient and Gauss-Newton curvature of the objective at poses (N, J, 3) mm."""
    seen, joints = objective.seen, pose.shape[1]
    with torch.enable_grad():
        at = pose.detach().requires_grad_(True)
        pixels, valid = objective.project(at)
        (along_u,) = torch.autograd.grad(pixels[..., 0].sum(), at, retain_graph=True)
        (along_v,) = torch.autograd.grad(pixels[..., 1].sum(), at)
    pixels = pixels.detach()
    weight = objective.reprojection_curvature(pixels, valid)
    usable = (weight > 0).unsqueeze(-1)
    along_u, along_v = torch.where(usable, along_u, 0.0), torch.where(usable, along_v, 0.0)
    miss = torch.where(usable, pixels - seen.pixels, 0.0)
    gradient = (weight * miss[..., 0]).unsqueeze(-1) * along_u + (weight * miss[..., 1]).unsqueeze(-1) * along_v
    held, curvature = _anchor(objective, pose - seen.pose, joints)
    ux, uy, uz = along_u.unbind(-1)
    vx, vy, vz = along_v.unbind(-1)
    pairs = ((ux, ux, vx, vx), (uy, uy, vy, vy), (uz, uz, vz, vz), (ux, uy, vx, vy), (ux, uz, vx, vz), (uy, uz, vy, vz))
    full = tuple(weight * (a * b + c * d) + e for (a, b, c, d), e in zip(pairs, curvature, strict=True))
    value = objective.config.weight_reprojection * objective.reprojection(pixels, valid)
    value = value + objective.config.weight_anchor * objective.anchor(pose)
    coupled = objective.residuals(pose)
    if coupled is not None:
        value = value + 0.5 * coupled.square().sum(-1)
    return Linear(value, gradient + held, full, objective.misfit(pixels))  # type: ignore[arg-type]


def _anchor(objective: Objective, offset: Tensor, joints: int) -> tuple[Tensor, Symmetric]:
    """Gradient (N, J, 3) and curvature of the Gaussian anchor."""
    seen, share = objective.seen, objective.config.weight_anchor / joints
    if seen.precision is None:
        stiff = share * (PER_AXIS / seen.sigma).square()
        zero = torch.zeros_like(stiff)
        return stiff.unsqueeze(-1) * offset, (stiff, stiff, stiff, zero, zero, zero)
    full = share * seen.precision
    places = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    return (full * offset.unsqueeze(-2)).sum(-1), tuple(full[..., a, b] for a, b in places)  # type: ignore[return-value]


def _step(
    objective: Objective, pose: Tensor, at: Linear, damping: Tensor, free: Tensor, total: _Total | None
) -> Tensor:
    """The damped Gauss-Newton step (N, J, 3) mm, 0 where `free` (N, J, 1) is 0."""
    xx, yy, zz, xy, xz, yz = at.curvature
    extra = damping.unsqueeze(-1) * (xx + yy + zz) / 3 + 1e-12
    damped = (xx + extra, yy + extra, zz + extra, xy, xz, yz)
    with torch.enable_grad():
        moved = pose.detach().requires_grad_(True)
        residuals = objective.residuals(moved)
        if residuals is None:
            return -free * solve_symmetric(damped, at.gradient)
        unit = torch.zeros_like(residuals, requires_grad=True)
        (backward,) = torch.autograd.grad(residuals, moved, unit, create_graph=True)
    (pull,) = torch.autograd.grad(residuals, moved, residuals.detach(), retain_graph=True)

    def curvature(direction: Tensor) -> Tensor:
        # J d: the transposed product is linear in `unit`, and its own transpose is what is wanted
        (forward,) = torch.autograd.grad(backward, unit, direction, retain_graph=True)
        (back,) = torch.autograd.grad(residuals, moved, forward, retain_graph=True)
        return free * (apply_symmetric(damped, direction) + back)

    guess = JERK_CURVATURE * objective.config.weight_jerk / pose.shape[1] / LENGTH_UNIT**2
    guess += objective.config.weight_bones / len(objective.seen.skeleton.bones) / LENGTH_UNIT**2
    a, b, c, *rest = damped
    blocks = (a + guess, b + guess, c + guess, *rest)
    return conjugate_gradients(
        curvature,
        -free * (at.gradient + pull),
        lambda vector: free * solve_symmetric(blocks, vector),  # type: ignore[arg-type]
        total,
    )


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], target: Tensor, precondition: Callable[[Tensor], Tensor], total: _Total | None
) -> Tensor:
    """x (N, J, 3) with product(x) near target; every unit has its own step sizes, so that none feels another."""

    def dot(first: Tensor, second: Tensor) -> Tensor:
        values = (first * second).sum((1, 2))
        return total(values)[total.unit] if total else values

    x, residual = torch.zeros_like(target), target
    conditioned = precondition(residual)
    direction, size = conditioned, dot(residual, conditioned)
    for _ in range(CONJUGATE_STEPS):
        curved = product(direction)
        bend = dot(direction, curved)
        length = torch.where(bend > 0, size / bend.clamp_min(1e-30), 0.0)[:, None, None]
        x, residual = x + length * direction, residual - length * curved
        conditioned = precondition(residual)
        new = dot(residual, conditioned)
        direction = conditioned + torch.where(size > 0, new / size.clamp_min(1e-30), 0.0)[:, None, None] * direction
        size = new
    return x


def solve_symmetric(matrix: Symmetric, vector: Tensor) -> Tensor:
    """x (N, J, 3) of positive 3x3 systems by cofactors."""
    xx, yy, zz, xy, xz, yz = matrix
    x, y, z = vector.unbind(-1)
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    d, e, f = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    determinant = xx * a + xy * b + xz * c
    solved = torch.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z], -1)
    return solved / determinant.unsqueeze(-1)


def apply_symmetric(matrix: Symmetric, vector: Tensor) -> Tensor:
    """(N, J, 3) times 3x3."""
    xx, yy, zz, xy, xz, yz = matrix
    x, y, z = vector.unbind(-1)
    return torch.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z], -1)


def _choose(chosen: Tensor, first: Linear, second: Linear) -> Linear:
    """Frame by frame, one linearisation or the other."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(chosen.view(-1, *(1,) * (a.ndim - 1)), a, b)

    curvature = tuple(pick(a, b) for a, b in zip(first.curvature, second.curvature, strict=True))
    return Linear(
        pick(first.value, second.value),
        pick(first.gradient, second.gradient),
        curvature,  # type: ignore[arg-type]
        pick(first.misfit, second.misfit),
    )

"""World-space motion drawn from the fitted statistics: (N, T, 17, 3) mm, z up, feet on the floor."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, normalize, pad

from poseda.data.standin.statistics import COMPONENTS, MotionStatistics
from poseda.geometry.rotations import yaw_matrix
from poseda.skeleton import Skeleton, get_skeleton

FPS = 50.0
_WARM_UP = 25  # states until the process has forgotten its start
_TRUNCATE = 2.5  # standard deviations of the innovation: no pose far outside what was seen
_ANKLE_MM = 85.0  # height of the ankle, or of what else is lowest, above the floor
_RADIUS_MM = 1100.0  # of the circle in which people walk: the capture areas are about 4 x 5 m
_FASTEST = 1.4  # m/s: a faster runner would leave the capture area
_STRAIGHT_KNEE = 0.05  # sine of the greatest bend of a knee the wrong way
_ROOT_FRAMES = 9  # window that keeps the root's height from jumping when the lowest joint changes
_FASTEST_TURN = 0.4  # rad per frame: keeps a bone from whipping round where its vector passes near zero


def generate_motion(
    statistics: MotionStatistics,
    classes: Tensor,
    frames: int,
    lengths: Tensor,
    reach: float,
    generator: torch.Generator,
) -> Tensor:
    """N clips at 50 Hz: classes (N,), bone lengths (N, E) mm -> joints (N, T = frames, 17, 3) mm, world.

    Each clip walks and turns about the world's origin. `reach` scales how far poses go from the mean of
    their class.
    """
    skeleton = get_skeleton("h36m17")
    steps = math.ceil(frames * statistics.rate_hz / FPS) + 3
    states = draw_states(statistics, classes, steps, reach, generator)
    states = interpolate(states, round(FPS / statistics.rate_hz))[:, :frames]  # (N, T, D)
    flat = statistics.mean + states[..., COMPONENTS] @ statistics.basis.T
    bones = normalize(flat.reshape(*flat.shape[:-1], -1, 3), dim=-1)  # (N, T, E, 3)
    bones = limit_turns(keep_knees(keep_bends(bones, statistics.bend, skeleton), skeleton))
    relative = torch.einsum("je,ntec->ntjc", skeleton.path_matrix(), bones * lengths[:, None, :, None])
    return _move(relative, states[..., -3:], generator)


def draw_states(
    statistics: MotionStatistics, classes: Tensor, steps: int, reach: float, generator: torch.Generator
) -> Tensor:
    """States of N clips, one trial each: classes (N,) -> (N, steps, D)."""
    count, size = len(classes), statistics.means.shape[1]
    first, second = statistics.regression[classes].unbind(1)
    noise = torch.randn(count, steps + _WARM_UP, size, generator=generator).clamp(-_TRUNCATE, _TRUNCATE)
    noise = noise @ statistics.innovation[classes].mT
    states = [torch.zeros(count, size), torch.zeros(count, size)]
    for new in noise.unbind(1):
        after = torch.einsum("nij,nj->ni", first, states[-1]) + torch.einsum("nij,nj->ni", second, states[-2]) + new
        states.append(after)
    style = torch.randn(count, size, generator=generator).clamp(-2, 2).unsqueeze(-1)
    centre = statistics.means[classes] + (statistics.between[classes] @ style).squeeze(-1)
    return centre.unsqueeze(1) + reach * torch.stack(states[-steps:], dim=1)


def interpolate(states: Tensor, factor: int) -> Tensor:
    """Cubic (Catmull-Rom) interpolation in time: (N, S, D) -> (N, factor (S - 3), D), from state 1 on."""
    t = torch.arange(factor) / factor
    weights = 0.5 * torch.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], dim=-1
    )  # (factor, 4)
    around = states.unfold(1, 4, 1)  # (N, S - 3, D, 4)
    return torch.einsum("nsdk,fk->nsfd", around, weights).flatten(1, 2)


def limit_turns(bones: Tensor) -> Tensor:
    """Unit bones (N, T, E, 3) that follow the given ones in time, turning 0.4 rad a frame at most."""
    kept = [bones[:, 0]]
    limits = bones.new_tensor([0.0, _FASTEST_TURN])
    for wanted in bones.unbind(1)[1:]:
        kept.append(_bend_into(wanted, kept[-1], limits))
    return torch.stack(kept, dim=1)


def keep_bends(bones: Tensor, bend: Tensor, skeleton: Skeleton) -> Tensor:
    """Unit bones (..., E, 3) whose angle to the bone before them is brought into bend (E, 2) rad."""
    place = {child: bone for bone, (_, child) in enumerate(skeleton.bones)}
    kept: list[Tensor] = []
    for bone, (parent, _) in enumerate(skeleton.bones):
        vector = bones[..., bone, :]
        if parent in place:  # parents come first, so the bone before is final
            vector = _bend_into(vector, kept[place[parent]], bend[bone])
        kept.append(vector)
    return torch.stack(kept, dim=-2)


def keep_knees(bones: Tensor, skeleton: Skeleton) -> Tensor:
    """Unit bones (..., E, 3) whose shanks do not bend forward at the knee."""
    place = {name: bone for bone, name in enumerate(skeleton.bone_names)}
    left = normalize(bones[..., place["lhip"], :] - bones[..., place["rhip"], :], dim=-1)
    bones = bones.clone()
    for side in ("l", "r"):
        thigh, shank = bones[..., place[f"{side}knee"], :], bones[..., place[f"{side}ankle"], :]
        forward = normalize(torch.linalg.cross(thigh, left), dim=-1)  # down x left = forward, on the standing body
        excess = ((shank * forward).sum(-1, keepdim=True) - _STRAIGHT_KNEE).clamp(min=0.0)
        bones[..., place[f"{side}ankle"], :] = normalize(shank - excess * forward, dim=-1)
    return bones


def _bend_into(vector: Tensor, before: Tensor, limits: Tensor) -> Tensor:
    """Unit vectors (..., 3) turned in their plane with `before` until their angle to it is within limits."""
    along = (vector * before).sum(-1, keepdim=True).clamp(-1.0, 1.0)
    side = normalize(vector - along * before, dim=-1)
    angle = along.arccos().clamp(float(limits[0]), float(limits[1]))
    return torch.where((along.arccos() - angle).abs() > 1e-6, before * angle.cos() + side * angle.sin(), vector)


def _move(relative: Tensor, moves: Tensor, generator: torch.Generator) -> Tensor:
    """Joints (N, T, J, 3) mm turned, walked by moves (N, T, 3), set on the floor; mean root at 0, 0."""
    speed = moves[..., :2].mean(1).norm(dim=-1)  # (N,) m/s
    slower = (_FASTEST / speed.clamp(min=_FASTEST)).unsqueeze(-1)
    side = torch.randint(2, (len(moves),), generator=generator) * 2.0 - 1.0
    circle = side * speed.clamp(max=_FASTEST) * 1000.0 / _RADIUS_MM  # rad/s that keep a walker in the capture area
    start = torch.rand(len(moves), 1, generator=generator) * 2 * math.pi
    heading = start + ((moves[..., 2] + circle.unsqueeze(-1)) / FPS).cumsum(1)
    turn = yaw_matrix(heading)  # (N, T, 3, 3)
    step = torch.cat([moves[..., :2] * slower.unsqueeze(-1), torch.zeros_like(moves[..., :1])], dim=-1)
    path = (turn @ step.unsqueeze(-1)).squeeze(-1).cumsum(1) * (1000.0 / FPS)
    path = path - path.mean(1, keepdim=True)
    path[..., 2] = _smooth(_ANKLE_MM - relative[..., 2].amin(-1))
    return relative @ turn.mT + path.unsqueeze(2)


def _smooth(heights: Tensor) -> Tensor:
    """Moving average over 9 frames, (N, T) -> (N, T)."""
    padded = pad(heights.unsqueeze(1), (_ROOT_FRAMES // 2, _ROOT_FRAMES // 2), mode="replicate")
    return avg_pool1d(padded, _ROOT_FRAMES, stride=1).squeeze(1)

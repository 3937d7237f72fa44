"""World-space motion drawn from the fitted statistics: (N, T, 17, 3) mm, z up, feet on the floor."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv1d, normalize, pad

from poseda.data.noise import autoregress
from poseda.data.standin.floor import put_on_floor
from poseda.data.standin.statistics import COMPONENTS, FPS, LIFT_SCORES, MOVES, MotionStatistics
from poseda.skeleton import Skeleton, get_skeleton

_WARM_UP = 25  # states until the process has forgotten its start
_TRUNCATE = 2.5  # standard deviations of the innovation and of the style: no pose far outside what was seen
_PACE_RHO = 0.97  # correlation of the pace from frame to frame: it lasts about half a second
_PACE_LIMITS = (0.1, 2.0)  # times the mean pace
_STRAIGHT_KNEE = 0.05  # sine of the greatest bend of a knee the wrong way
_SOFT_FRAMES = 2.0  # 40 ms: unit bones turn abruptly where the components nearly cancel, and limbs have inertia
_FASTEST_TURN = 0.3  # rad per frame: keeps a bone from whipping round where its vector passes near zero


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
    their clip.
    """
    skeleton = get_skeleton("h36m17")
    modes = _draw_modes(statistics, classes, generator)
    rates = statistics.tempo[classes] * statistics.rate_hz / FPS  # states a frame
    times = _times(statistics.pace[modes], frames, rates, generator)  # (N, T)
    states = draw_states(statistics, modes, math.ceil(float(times.max())) + 3, reach, generator)
    states = interpolate(states, times)  # (N, T, D)
    flat = statistics.mean + states[..., COMPONENTS] @ statistics.basis.T
    bones = normalize(flat.reshape(*flat.shape[:-1], -1, 3), dim=-1)  # (N, T, E, 3)
    bones = soften(limit_turns(keep_bends(bones, statistics.bend, skeleton)))
    bones = keep_knees(bones, skeleton)
    relative = torch.einsum("je,ntec->ntjc", skeleton.path_matrix(), bones * lengths[:, None, :, None])
    lift = _lift(states[..., -1], statistics.lift[classes])
    pace = pad(times.diff(dim=1), (1, 0), mode="replicate") * FPS / statistics.rate_hz  # (N, T)
    moves = states[..., MOVES] * pace.unsqueeze(-1)  # who moves slowly walks slowly
    return put_on_floor(relative, moves, lift, statistics.grounded[classes] > 0, generator)


def _draw_modes(statistics: MotionStatistics, classes: Tensor, generator: torch.Generator) -> Tensor:
    """A mode of each class: classes (N,) -> (N,) int64."""
    mine = statistics.of_class == classes.unsqueeze(-1)  # (N, M)
    return torch.multinomial(statistics.share * mine, 1, generator=generator).squeeze(-1)


def _times(pace: Tensor, frames: int, rates: Tensor, generator: torch.Generator) -> Tensor:
    """When each frame is, in states from state 1 on: deviations (N, 2) of the logarithm of the pace and
    mean rates (N,) -> (N, T).

    The pace has mean square 1, so that the root mean square speed is that of the autoregression.
    """
    draws = torch.randn(len(pace), frames, generator=generator)
    first = torch.arange(len(pace)).repeat_interleave(frames) * frames
    inside = autoregress(draws.flatten(), first, _PACE_RHO).view(len(pace), frames)
    style = torch.randn(len(pace), 1, generator=generator)
    log = pace[:, :1] * style + pace[:, 1:] * inside - (pace**2).sum(1, keepdim=True)
    return 1.0 + (log.exp().clamp(*_PACE_LIMITS) * rates.unsqueeze(-1)).cumsum(1)


def draw_states(
    statistics: MotionStatistics, modes: Tensor, steps: int, reach: float, generator: torch.Generator
) -> Tensor:
    """States of N clips: modes (N,) -> (N, steps, D)."""
    count, size = len(modes), statistics.means.shape[1]
    first, second = statistics.regression[modes].unbind(1)
    noise = torch.randn(count, steps + _WARM_UP, size, generator=generator).clamp(-_TRUNCATE, _TRUNCATE)
    noise = noise @ statistics.innovation[modes].mT
    states = [torch.zeros(count, size), torch.zeros(count, size)]
    for new in noise.unbind(1):
        after = torch.einsum("nij,nj->ni", first, states[-1]) + torch.einsum("nij,nj->ni", second, states[-2]) + new
        states.append(after)
    style = torch.randn(count, size, generator=generator).clamp(-_TRUNCATE, _TRUNCATE).unsqueeze(-1)
    centre = statistics.means[modes] + (statistics.between[modes] @ style).squeeze(-1)
    return centre.unsqueeze(1) + reach * torch.stack(states[-steps:], dim=1)


def interpolate(states: Tensor, times: Tensor) -> Tensor:
    """Cubic (Catmull-Rom) interpolation: states (N, S, D) at times (N, T) in [1, S - 2] -> (N, T, D)."""
    before = times.floor().clamp(1, states.shape[1] - 3).long()
    t = times - before
    weights = 0.5 * torch.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], dim=-1
    )  # (N, T, 4)
    row = torch.arange(len(states)).unsqueeze(-1)
    return torch.stack([states[row, before + k - 1] * weights[..., k : k + 1] for k in range(4)]).sum(0)


def _lift(scores: Tensor, table: Tensor) -> Tensor:
    """Lifts (N, T) mm from normal scores (N, T) by quantiles (N, Q), linear between them."""
    low, high = LIFT_SCORES
    place = (scores.clamp(low, high) - low) / (high - low) * (table.shape[1] - 1)
    before = place.floor().clamp(max=table.shape[1] - 2).long()
    return torch.lerp(table.gather(1, before), table.gather(1, before + 1), place - before)


def limit_turns(bones: Tensor) -> Tensor:
    """Unit bones (N, T, E, 3) that follow the given ones in time, turning 0.3 rad a frame at most."""
    kept = [bones[:, 0]]
    limits = bones.new_tensor([0.0, _FASTEST_TURN])
    for wanted in bones.unbind(1)[1:]:
        kept.append(_bend_into(wanted, kept[-1], limits))
    return torch.stack(kept, dim=1)


def soften(bones: Tensor) -> Tensor:
    """Unit bones (N, T, E, 3) averaged in time with a Gaussian of 2 frames."""
    reach = math.ceil(2.5 * _SOFT_FRAMES)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / _SOFT_FRAMES) ** 2)
    rows = pad(bones.movedim(1, -1).flatten(1, 2), (reach, reach), mode="replicate")  # (N, 3E, T + 2 reach)
    rows = conv1d(rows.flatten(0, 1).unsqueeze(1), (kernel / kernel.sum()).view(1, 1, -1))
    return normalize(rows.view(len(bones), *bones.shape[2:], -1).movedim(-1, 1), dim=-1)


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

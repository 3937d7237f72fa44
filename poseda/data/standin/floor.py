"""How generated people stand on the floor: a foot that touches it carries the body and stays where it is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, normalize, pad

from poseda.data.standin.statistics import FPS
from poseda.geometry.rotations import yaw_matrix
from poseda.skeleton import get_skeleton

_ANKLE_MM = 85.0  # height of the ankle, or of what else is lowest, above the floor
_TOUCH_MM, _SOFT_MM = 35.0, 10.0  # an ankle so far above that height is half in contact; how sharp that is
_CONSENT, _STANDS = 0.4, 0.7  # m/s: how far a touching foot may be from the expected speed, and from standing still
_RADIUS_MM = 1100.0  # of the circle in which people walk: the capture areas are about 4 x 5 m
_FASTEST = 2.0  # m/s: a faster runner would leave the capture area
_ROOT_FRAMES = 9  # window that keeps the root's height from jumping when the lowest joint changes
_FORGET = 0.92  # of a lifted foot's correction is left after a frame
_FARTHEST_MM = 120.0  # a foot that is held back farther than this slides
_STRETCH = 0.9995  # of a leg's length, so that a knee keeps a side to bend to
_LEGS = (("rhip", "rknee", "rankle"), ("lhip", "lknee", "lankle"))


def put_on_floor(relative: Tensor, moves: Tensor, lift: Tensor, grounded: Tensor, generator: torch.Generator) -> Tensor:
    """Joints (N, T, J, 3) mm about the root, in the heading frame -> world joints (N, T, J, 3) mm.

    moves (N, T, 3): forward and leftward speed in m/s and turning in rad/s, which hold where no foot touches the
    floor; lift (N, T) mm: how far the lower ankle is above its standing height; grounded (N,) bool: whether feet
    carry these people at all. The mean root of each clip is at 0, 0.
    """
    height = _smooth(_ANKLE_MM + lift - relative[..., 2].amin(-1))  # (N, T)
    over = relative[:, :, _ankles(), 2] + height.unsqueeze(-1) - _ANKLE_MM  # (N, T, 2)
    touch = torch.sigmoid((_TOUCH_MM - over) / _SOFT_MM) * grounded[:, None, None]
    heading = moves[..., 2].cumsum(1) / FPS
    velocity, _ = _carried(relative, heading, moves, touch)
    speed = velocity.norm(dim=-1).mean(1)  # (N,)
    slower = (_FASTEST / speed.clamp(min=_FASTEST))[:, None, None]
    side = torch.randint(2, (len(moves),), generator=generator) * 2.0 - 1.0
    start = torch.rand(len(moves), 1, generator=generator) * 2 * torch.pi
    circle = side * speed.clamp(max=_FASTEST) * 1000.0 / _RADIUS_MM  # rad/s that keep a walker in the capture area
    heading = heading + start + circle.unsqueeze(-1) * torch.arange(moves.shape[1]) / FPS
    velocity, touch = _carried(relative, heading, moves, touch)
    path = (velocity * slower).cumsum(1) * (1000.0 / FPS)
    path = torch.cat([path - path.mean(1, keepdim=True), height.unsqueeze(-1)], -1)
    world = relative @ yaw_matrix(heading).mT + path.unsqueeze(2)
    return hold_feet(world, touch * (slower > 0.999))


def hold_feet(world: Tensor, touch: Tensor) -> Tensor:
    """World joints (N, T, J, 3) mm whose ankles stay in place while touch (N, T, 2) in [0, 1] is 1; hips are kept."""
    joints = get_skeleton("h36m17").joints
    legs = [[joints.index(name) for name in leg] for leg in _LEGS]
    ankles = world[:, :, [leg[2] for leg in legs], :2]  # (N, T, 2, 2)
    steps = ankles.diff(dim=1)
    offsets = [torch.zeros_like(ankles[:, 0])]
    for step, held in zip(steps.unbind(1), touch[:, 1:].unsqueeze(-1).unbind(1), strict=True):
        offset = held * (offsets[-1] - step) + (1 - held) * _FORGET * offsets[-1]
        length = offset.norm(dim=-1, keepdim=True)
        offsets.append(offset * (_FARTHEST_MM / length.clamp(min=_FARTHEST_MM)))
    offset = torch.stack(offsets, 1)
    world = world.clone()
    for number, (hip, knee, ankle) in enumerate(legs):
        goal = world[:, :, ankle] + pad(offset[:, :, number], (0, 1))
        world[:, :, knee], world[:, :, ankle] = bend_leg(world[:, :, hip], world[:, :, knee], world[:, :, ankle], goal)
    return world


def bend_leg(hip: Tensor, knee: Tensor, ankle: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Knee and ankle, (..., 3) each, of a leg whose ankle goes to `goal` or as near as the leg reaches.

    Both bones keep their lengths, and the knee stays on its side of the line from hip to ankle.
    """
    thigh, shank = ((a - b).norm(dim=-1, keepdim=True) for a, b in ((knee, hip), (ankle, knee)))
    nearest, farthest = (thigh - shank).abs() + 1.0, _STRETCH * (thigh + shank)
    before = (ankle - hip).norm(dim=-1, keepdim=True)  # a leg already as straight stays as straight
    reach = (goal - hip).norm(dim=-1, keepdim=True)
    reach = torch.minimum(torch.maximum(reach, nearest), torch.maximum(before, farthest))
    along = normalize(goal - hip, dim=-1)
    # the side is that of the leg as it was: a moved line may pass on the other side of the knee
    out = _across(_across(knee - hip, normalize(ankle - hip, dim=-1)), along)
    foot = (thigh**2 - shank**2 + reach**2) / (2 * reach)  # of the knee's height over the line
    rise = (thigh**2 - foot**2).clamp(min=0.0).sqrt()
    return hip + foot * along + rise * out, hip + reach * along


def _across(vector: Tensor, along: Tensor) -> Tensor:
    """The unit vector of what of vectors (..., 3) is perpendicular to unit vectors (..., 3)."""
    return normalize(vector - (vector * along).sum(-1, keepdim=True) * along, dim=-1)


def _carried(relative: Tensor, heading: Tensor, moves: Tensor, touch: Tensor) -> tuple[Tensor, Tensor]:
    """Root velocity (N, T, 2) m/s over the floor that keeps the touching feet in place, and how much each foot then
    stands, (N, T, 2); without a touching foot as in moves.

    Where the feet disagree, the one counts more that is nearer to what moves say.
    """
    turn = yaw_matrix(heading)  # (N, T, 3, 3)
    feet = (relative[:, :, _ankles()] @ turn.mT)[..., :2]
    speed = torch.cat([feet[:, 1:2] - feet[:, :1], feet.diff(dim=1)], 1) * (FPS / 1000.0)  # (N, T, 2, 2)
    free = (turn[..., :2, :2] @ moves[..., :2].unsqueeze(-1)).squeeze(-1)  # (N, T, 2)
    weight = touch * _agreement(speed + free.unsqueeze(2), _CONSENT)
    most = touch.amax(-1, keepdim=True)
    mean = -(weight.unsqueeze(-1) * speed).sum(-2) / weight.sum(-1, keepdim=True).clamp(min=1e-9)
    velocity = most * mean + (1 - most) * free
    return velocity, touch * _agreement(speed + velocity.unsqueeze(2), _STANDS)


def _agreement(difference: Tensor, width: float) -> Tensor:
    """1 where a velocity (..., 2) m/s is 0, falling with its size."""
    return torch.exp(-0.5 * (difference / width).square().sum(-1)).clamp(min=1e-6)


def _ankles() -> list[int]:
    joints = get_skeleton("h36m17").joints
    return [joints.index(leg[2]) for leg in _LEGS]


def _smooth(heights: Tensor) -> Tensor:
    """Moving average over 9 frames, (N, T) -> (N, T)."""
    padded = pad(heights.unsqueeze(1), (_ROOT_FRAMES // 2, _ROOT_FRAMES // 2), mode="replicate")
    return avg_pool1d(padded, _ROOT_FRAMES, stride=1).squeeze(1)

"""A body with joint limits: angles of its joints in, bone vectors out, by batched forward kinematics.

Ranges of motion are the American Academy of Orthopaedic Surgeons' usual values for adults (Joint Motion, 1965), the
trunk's shared evenly by two bones. DH-AUG's own table, in Denavit-Hartenberg parameters, was not at hand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from poseda.errors import ConfigError
from poseda.geometry.bones import joints_from_bones
from poseda.geometry.joint_limits import ELBOW_FLEXION, KNEE_FLEXION
from poseda.geometry.rotations import axis_angle_to_matrix
from poseda.skeleton import Skeleton

Motion = tuple[tuple[float, float, float], float, float]
"""A way to turn: axis in the frame of the bone's parent (x to the person's left, y down, z backwards), least and
greatest angle in degrees. The axis of a left limb; a right one has it mirrored."""

# The order of motions is from the outside in: a bone twists, then swings sideways, then forwards.
_TRUNK: tuple[Motion, ...] = (((1, 0, 0), -12.5, 40.0), ((0, 0, 1), -17.5, 17.5), ((0, 1, 0), -22.5, 22.5))
_NECK: tuple[Motion, ...] = (((1, 0, 0), -45.0, 45.0), ((0, 0, 1), -45.0, 45.0), ((0, 1, 0), -60.0, 60.0))
MOTIONS: dict[str, tuple[Motion, ...]] = {
    # by the child joint: the thigh moves in the hip, the shank in the knee
    "knee": (((-1, 0, 0), -30.0, 120.0), ((0, 0, -1), -30.0, 45.0), ((0, 1, 0), -45.0, 45.0)),
    "ankle": (((1, 0, 0), 0.0, KNEE_FLEXION),),
    "elbow": (((-1, 0, 0), -60.0, 180.0), ((0, 0, -1), -30.0, 180.0), ((0, 1, 0), -90.0, 70.0)),
    "wrist": (((-1, 0, 0), 0.0, ELBOW_FLEXION),),
    "spine": _TRUNK,
    "thorax": _TRUNK,
}
GLOBAL: tuple[Motion, ...] = (((1, 0, 0), -30.0, 30.0), ((0, 0, 1), -30.0, 30.0), ((0, 1, 0), -180.0, 180.0))
"""Turns of the whole body: a camera sees people from all around, and rarely from far above or below."""
REST: dict[str, tuple[float, float, float]] = {
    "hip": (1, 0, 0), "knee": (0, 1, 0), "ankle": (0, 1, 0), "spine": (0, -1, 0), "thorax": (0, -1, 0),
    "nose": (0, -1, 0), "head": (0, -1, 0), "shoulder": (1, 0, 0), "elbow": (0, 1, 0), "wrist": (0, 1, 0),
}  # fmt: skip
"""Directions of the bones of a person who stands and faces the camera, camera axes; left limbs."""


class Body(nn.Module):
    """Forward kinematics of a skeleton whose joints move in `MOTIONS`; D ways to turn, the body's own first."""

    low: Tensor
    high: Tensor
    axes: Tensor
    slots: Tensor
    rest: Tensor

    def __init__(self, skeleton: Skeleton, slack_degrees: float) -> None:
        """slack_degrees widens each range at both ends. ConfigError for joints without a known motion."""
        super().__init__()
        self.skeleton = skeleton
        names = [_part(skeleton, child) for _, child in skeleton.bones]
        unknown = sorted(set(names) - set(REST))
        if unknown or skeleton.joints[skeleton.root] != "pelvis":
            raise ConfigError(
                f"dh_aug has no joint limits for the joints of {skeleton.name} ({', '.join(unknown) or 'no pelvis'}): "
                "take a lifter of h36m17, h36m16 or 3dhp17."
            )
        motions = [GLOBAL] + [self._motions(bone) for bone in range(len(skeleton.bones))]
        limits: list[tuple[float, float]] = []
        axes, slots = [], []
        for turns in motions:
            for place in range(3):
                axis, low, high = turns[place] if place < len(turns) else ((1.0, 0.0, 0.0), 0.0, 0.0)
                slots.append(len(limits) if place < len(turns) else -1)
                axes.append(axis)
                if place < len(turns):
                    slack = 0.0 if abs(low) == 180.0 else slack_degrees
                    limits.append((low - slack, high + slack))
        self.count = len(limits)
        edges = torch.tensor(limits) * math.pi / 180
        self.register_buffer("low", edges[:, 0].clone(), persistent=False)
        self.register_buffer("high", edges[:, 1].clone(), persistent=False)
        self.register_buffer("axes", torch.tensor(axes, dtype=torch.float32).view(-1, 3, 3), persistent=False)
        self.register_buffer("slots", torch.tensor([s if s >= 0 else self.count for s in slots]), persistent=False)
        rest = [_mirrored(REST[name], skeleton, child) for name, (_, child) in zip(names, skeleton.bones, strict=True)]
        self.register_buffer("rest", torch.tensor(rest, dtype=torch.float32), persistent=False)
        self.levels = _levels(skeleton)

    def _motions(self, bone: int) -> tuple[Motion, ...]:
        """Ways in which a bone turns against its parent; the neck's belong to the first bone above the thorax."""
        skeleton = self.skeleton
        parent, child = skeleton.bones[bone]
        name = _part(skeleton, child)
        if name in ("nose", "head"):
            return _NECK if skeleton.joints[parent] == "thorax" else ()
        turns = MOTIONS.get(name, ())
        return tuple((_mirrored_axis(axis, skeleton, child), low, high) for axis, low, high in turns)

    def angles(self, values: Tensor) -> Tensor:
        """Free values (..., D) -> angles in rad within the ranges, by tanh."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return middle + half * torch.tanh(values)

    def forward(self, angles: Tensor, lengths: Tensor) -> Tensor:
        """angles (B, D) rad, lengths (B, E) mm -> root-relative poses (B, J, 3) mm in camera axes.

        One batched product for each level of the tree, not one for each joint.
        """
        spread = torch.cat([angles, torch.zeros_like(angles[:, :1])], 1).index_select(1, self.slots)
        spread = spread.view(len(angles), -1, 3)  # (B, 1 + E, 3)
        turns = axis_angle_to_matrix(spread.unsqueeze(-1) * self.axes)  # (B, 1 + E, 3, 3, 3)
        local = turns[:, :, 0] @ turns[:, :, 1] @ turns[:, :, 2]
        frames: dict[int, Tensor] = {0: local[:, 0]}
        for level in self.levels:
            carrying = torch.stack([frames[parent] for _, parent in level], 1)
            own = torch.stack([local[:, bone] for bone, _ in level], 1)
            for place, frame in enumerate((carrying @ own).unbind(1)):
                frames[level[place][0]] = frame
        world = torch.stack([frames[bone + 1] for bone in range(len(self.rest))], 1)  # (B, E, 3, 3)
        bones = (world @ self.rest.unsqueeze(-1)).squeeze(-1) * lengths.unsqueeze(-1)
        return joints_from_bones(bones, self.skeleton)


def _part(skeleton: Skeleton, joint: int) -> str:
    """Name of a joint without its side."""
    name = skeleton.joints[joint]
    return name[1:] if skeleton.mirror[joint] != joint else name


def _mirrored(vector: tuple[float, float, float], skeleton: Skeleton, joint: int) -> tuple[float, float, float]:
    """A direction of a left limb on the side of `joint`."""
    x, y, z = vector
    return (-x, y, z) if joint in skeleton.right else vector


def _mirrored_axis(axis: tuple[float, float, float], skeleton: Skeleton, joint: int) -> tuple[float, float, float]:
    """An axis of rotation mirrors the other way: the part along x stays."""
    x, y, z = axis
    return (x, -y, -z) if joint in skeleton.right else axis


def _levels(skeleton: Skeleton) -> list[list[tuple[int, int]]]:
    """Bones by depth, each with the bone that carries it; numbered from 1, 0 is the body itself."""
    place = {child: bone + 1 for bone, (_, child) in enumerate(skeleton.bones)}
    depth = [len(chain) for chain in skeleton.chains]
    levels: list[list[tuple[int, int]]] = [[] for _ in range(max(depth))]
    for parent, child in skeleton.bones:
        levels[depth[child] - 1].append((place[child], place.get(parent, 0)))
    return levels

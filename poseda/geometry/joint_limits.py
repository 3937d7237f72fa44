"""How far knees and elbows bend: published ranges, and by how much poses exceed them.

Ranges of motion are the American Academy of Orthopaedic Surgeons' usual values for adults (Joint Motion, 1965).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from poseda.errors import ConfigError
from poseda.geometry.bones import unit_bones
from poseda.skeleton import Skeleton

KNEE_FLEXION = 135.0
"""Degrees between a stretched knee and one that is bent as far as it goes."""
ELBOW_FLEXION = 150.0
"""The same of an elbow."""
HYPEREXTENSION = 10.0
"""Degrees that a knee may bend forwards."""

_HINGES = (("hip", "knee", "ankle", KNEE_FLEXION), ("shoulder", "elbow", "wrist", ELBOW_FLEXION))


def limit_excess(pose: Tensor, skeleton: Skeleton) -> Tensor:
    """By how much joints bend farther than they can, 0 where they do not: (..., J, 3) mm -> (..., V), no unit.

    For each knee and elbow, cos(limit) - cos(flexion) where it is above 0. For each knee, also the sine of its forward
    bend beyond sin(HYPEREXTENSION): thigh x shank points to the person's left when a knee bends as knees do. An elbow
    has no such direction, because the upper arm turns about itself. Raises ConfigError for a skeleton without limbs.
    """
    values = []
    for hip, knee, ankle, degrees in _HINGES:
        for side in "lr":
            names = [side + hip, side + knee, side + ankle]
            if any(name not in skeleton.joints for name in names):
                continue
            upper, middle, lower = (pose[..., skeleton.index(name), :] for name in names)
            near, far = unit_bones(middle - upper), unit_bones(lower - middle)
            values.append(torch.relu(math.cos(math.radians(degrees)) - (near * far).sum(-1)))
            if hip == "hip":
                left = unit_bones(pose[..., skeleton.index("lhip"), :] - pose[..., skeleton.index("rhip"), :])
                backwards = (torch.linalg.cross(near, far, dim=-1) * left).sum(-1)
                values.append(torch.relu(-backwards - math.sin(math.radians(HYPEREXTENSION))))
    if not values:
        raise ConfigError(f"{skeleton.name} has no whole leg or arm, and so no joint limits; set weight_limits=0.")
    return torch.stack(values, -1)

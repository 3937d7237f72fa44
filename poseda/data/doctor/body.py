"""Anatomy: how long bones are, that they stay so, which way the trunk points, and where knees bend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poseda.data.doctor.robust import Floats, column_medians, group_median, median, unit
from poseda.data.doctor.sample import Sample
from poseda.skeleton import Skeleton

# A person who stands with hanging arms, mm: x to the left, y up, z forward. Mean adult; bones as measured in
# Human3.6M and CMU motion capture, the others by eye. Only ratios of distances are used, with wide margins.
_HALF = {
    "hip": (105, 0, 0), "knee": (105, -425, 0), "ankle": (105, -860, 0), "foot": (110, -900, 100),
    "toe": (110, -915, 170), "clavicle": (30, 490, 0), "shoulder": (170, 460, 0), "elbow": (200, 175, 0),
    "wrist": (210, -90, 30), "hand": (210, -170, 50), "eye": (32, 700, 70), "ear": (75, 680, 0),
}  # fmt: skip
_MIDDLE = {
    "pelvis": (0, 0, 0), "spine": (0, 235, 0), "spine2": (0, 330, 0), "spine3": (0, 400, 0), "spine4": (0, 450, 0),
    "thorax": (0, 490, 0), "nose": (0, 610, 40), "head": (0, 760, 0),
}  # fmt: skip
LONGEST_FRAMES = 3000  # for distances of all pairs of joints
FEWEST_FRAMES = 30  # of one person: below that a spread says little
BENT = 0.06  # a knee this far off the line from hip to ankle, over its length, is bent by about 27 degrees


def place(joint: str) -> tuple[float, float, float]:
    """Where a joint of that name is in the standing person; the trunk's middle for an unknown name."""
    if joint in _MIDDLE:
        return _MIDDLE[joint]
    x, y, z = _HALF.get(joint[1:], (0, 235, 0))
    return (x if joint[:1] == "l" else -x), y, z


def standing(joints: tuple[str, ...]) -> Floats:
    """(J, 3) mm: the standing person's joints by name."""
    return np.array([place(joint) for joint in joints], dtype=np.float64)


def pair_distances(points: Floats) -> Floats:
    """Distances of all pairs of joints: (F, J, D) -> (F, J, J)."""
    return np.asarray(np.linalg.norm(points[:, :, None] - points[:, None], axis=-1))


@dataclass(frozen=True, eq=False)
class Lengths:
    """Distances of joints in each person's 3D."""

    people: tuple[int, ...]
    """Numbers of the people with enough frames."""
    length: Floats
    """(P, J, J) medians."""
    spread: Floats
    """(P, J, J) standard deviation (from the 10 % and 90 % quantiles) over the median."""


def measure_lengths(sample: Sample) -> Lengths:
    """Medians and spreads of all pair distances of each person, from evenly taken frames."""
    chosen = sample.thin(LONGEST_FRAMES)
    distances, person = pair_distances(chosen.labels), chosen.person
    people = [p for p in range(len(sample.people)) if (person == p).sum() >= FEWEST_FRAMES]
    joints = sample.skeleton.num_joints
    lows, middles, highs = (np.empty((len(people), joints, joints)) for _ in range(3))
    for row, number in enumerate(people):
        lows[row], middles[row], highs[row] = np.quantile(distances[person == number], (0.1, 0.5, 0.9), axis=0)
    normal = 2 * 1.2816  # the two quantiles of a normal distribution lie this many deviations apart
    spread = (highs - lows) / normal / np.where(middles > 0, middles, np.inf)
    return Lengths(tuple(people), middles, spread)


def trunk(points: Floats, skeleton: Skeleton) -> Floats:
    """From between the hips to between the shoulders: (F, J, D) -> (F, D) of length 1."""
    hips = _middle(points, skeleton, "hip")
    return unit(_middle(points, skeleton, "shoulder") - hips)


def size(points: Floats) -> Floats:
    """Root mean square distance of the joints from their centre: (F, J, 3) -> (F,); no order of joints needed."""
    centred = points - points.mean(1, keepdims=True)
    return np.asarray(np.sqrt((centred**2).sum(-1).mean(-1)))


def sideways(points: Floats, skeleton: Skeleton, part: str) -> Floats:
    """From the right to the left joint of a pair: (F, J, D) -> (F, D)."""
    return np.asarray(points[:, skeleton.index("l" + part)] - points[:, skeleton.index("r" + part)])


def knees_forward(points: Floats, skeleton: Skeleton) -> tuple[float, int]:
    """Share of bent knees before the line from hip to ankle, and how many bent knees there are.

    Forward is left × up of the trunk in a right-handed frame: about 1 for people, about 0 for their mirror image.
    """
    forward = unit(np.cross(sideways(points, skeleton, "hip"), trunk(points, skeleton)))
    votes = []
    for side in "lr":
        hip, knee, ankle = (points[:, skeleton.index(side + part)] for part in ("hip", "knee", "ankle"))
        off = knee - (hip + ankle) / 2
        length = np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1)
        along = unit(ankle - hip)
        across = off - (off * along).sum(-1, keepdims=True) * along
        bent = np.linalg.norm(across, axis=-1) > BENT * length
        votes.append((across * forward).sum(-1)[bent])
    signs = np.concatenate(votes) > 0
    return (float(signs.mean()) if len(signs) else float("nan")), len(signs)


def true_up(sample: Sample) -> Floats:
    """(F, 3) where up must be in the camera frame: by the extrinsics (world z up), else against the image's y."""
    rotation = sample.cameras.R.numpy()
    known = np.abs(rotation - np.eye(3)).max((1, 2)) > 1e-6
    return np.where(known[:, None], rotation[:, :, 2], (0.0, -1.0, 0.0))[sample.camera]


def upside(points: Floats, up: Floats, skeleton: Skeleton) -> Floats:
    """(F,) cosine of the trunk with `up` (F, D) or (D,)."""
    return np.asarray((trunk(points, skeleton) * up).sum(-1))


def camera_medians(values: Floats, sample: Sample) -> Floats:
    """Median of (F,) or (F, D) values for each camera: (C,) or (C, D)."""
    if values.ndim == 1:
        return group_median(values, sample.camera, len(sample.cameras))
    return column_medians(values, sample.camera, len(sample.cameras))


def leaf_speed(sample: Sample) -> float:
    """95 % of the speeds of the joints at the tree's ends, units of the poses a second."""
    rows = sample.neighbours(1)
    leaves = [joint for joint in range(sample.skeleton.num_joints) if joint not in sample.skeleton.parents]
    if len(rows) == 0:
        return float("nan")
    steps = sample.labels[rows + 1][:, leaves] - sample.labels[rows][:, leaves]
    return float(np.quantile(np.linalg.norm(steps, axis=-1), 0.95)) * sample.fps


def main_direction(vectors: Floats) -> Floats:
    """(D,) median of directions (F, D), not of length 1: short where they differ."""
    return np.array([median(column) for column in vectors.T])


def _middle(points: Floats, skeleton: Skeleton, part: str) -> Floats:
    return np.asarray((points[:, skeleton.index("l" + part)] + points[:, skeleton.index("r" + part)]) / 2)

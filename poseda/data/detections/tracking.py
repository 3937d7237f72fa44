"""Who is who from frame to frame: the detector's numbers where they are good, else the nearest keypoints."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from poseda.data.detections.found import NOBODY, Floats, Integers
from poseda.errors import DataError

NEAR = 0.3
"""Two detections are the same person when their keypoints lie this far apart on average, or less, as a share of
the larger one's diagonal extent. A walker moves by about 0.03 of it in a frame at 30 Hz."""
MOST_PEOPLE = 500
_LEAST_COMMON = 3
_BLOCK = 1 << 17
_REPEATED = 0.01


def usable_numbers(person: Integers, video: Integers, frame: Integers) -> tuple[bool, str]:
    """Whether the detector's person numbers name tracks, and a sentence where they are there but do not.

    AlphaPose without tracking calls everybody 0: a number that stands for several people of a frame is no track.
    """
    if (person == NOBODY).all():
        return False, ""
    if (person == NOBODY).any():
        return False, "not everybody has a person number: people are tracked anew"
    order = np.lexsort((person, frame, video))
    repeated = 1.0 - starts_of(video[order], frame[order], person[order]).mean()
    if repeated > _REPEATED:
        return False, "the file's person numbers repeat within frames: people are tracked anew"
    return True, ""


def starts_of(*keys: Integers) -> NDArray[np.bool_]:
    """(N,) where a new combination of the sorted keys, (N,) each, begins."""
    new = np.ones(len(keys[0]), dtype=bool)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return new


def track(points: Floats, confidence: Floats, video: Integers, frame: Integers, max_gap: int, where: str) -> Integers:
    """(N,) person numbers of detections (N, J, 2) px: 1, 2, ... in each video in the order of appearance.

    First neighbouring frames are linked, then frames further apart, with up to `max_gap` frames between: the closest
    pair of all first, each detection to one before and one after it. Deterministic. Raises DataError for a crowd.
    """
    order = np.lexsort((frame, video))
    points, confidence, video, frame = points[order], confidence[order], video[order], frame[order]
    time = _timeline(video, frame, max_gap + 2)
    crowd = np.bincount(time)
    if crowd.max() > MOST_PEOPLE:
        number = int(frame[np.searchsorted(time, crowd.argmax())])
        raise DataError(f"{where}: frame {number} holds {crowd.max()} people; at most {MOST_PEOPLE} can be told apart.")
    before = np.full(len(order), -1, dtype=np.int64)
    after = np.full(len(order), -1, dtype=np.int64)
    for step in range(1, max_gap + 2):
        _link(*_pairs(points, confidence, time, step, before, after), before, after)
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = _numbers(before, video)
    return numbers


def _timeline(video: Integers, frame: Integers, far: int) -> Integers:
    """(N,) frame numbers on one axis for all videos; gaps, and the cuts between videos, are at most `far` long."""
    steps = np.zeros(len(frame), dtype=np.int64)
    steps[1:] = np.where(np.diff(video) > 0, far, np.minimum(np.diff(frame), far))
    return steps.cumsum()


def _pairs(
    points: Floats, confidence: Floats, time: Integers, step: int, before: Integers, after: Integers
) -> tuple[Integers, Integers, Floats]:
    """Pairs (left, right) of detections `step` frames apart that nobody has claimed, near enough, with their cost."""
    left = np.flatnonzero(after < 0)
    start = np.searchsorted(time, time[left] + step)
    sizes = np.searchsorted(time, time[left] + step, side="right") - start
    left, start, sizes = left[sizes > 0], start[sizes > 0], sizes[sizes > 0]
    parts = [_near(points, confidence, left[part], start[part], sizes[part], before) for part in _blocks(sizes)]
    if not parts:
        return left, left, np.zeros(0)
    lefts, rights, costs = zip(*parts, strict=True)
    return np.concatenate(lefts), np.concatenate(rights), np.concatenate(costs)


def _blocks(sizes: Integers) -> list[slice]:
    """Slices of detections with about _BLOCK pairs each, so that memory stays small."""
    if not len(sizes):
        return []
    number = (sizes.cumsum() - sizes) // _BLOCK
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(sizes)]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]


def _near(
    points: Floats, confidence: Floats, left: Integers, start: Integers, sizes: Integers, before: Integers
) -> tuple[Integers, Integers, Floats]:
    """Of each left detection and the `sizes` detections from `start` on: the pairs that may be one person."""
    offset = np.arange(sizes.sum()) - np.repeat(sizes.cumsum() - sizes, sizes)
    left, right = np.repeat(left, sizes), np.repeat(start, sizes) + offset
    free = before[right] < 0
    left, right = left[free], right[free]
    common = (confidence[left] > 0) & (confidence[right] > 0)
    distance = np.linalg.norm(points[left] - points[right], axis=-1) * common
    count = common.sum(-1)
    extent = np.maximum(_extent(points[left], common), _extent(points[right], common))
    cost = distance.sum(-1) / np.maximum(count, 1) / np.maximum(extent, 1e-9)
    good = (count >= _LEAST_COMMON) & (cost <= NEAR)
    return left[good], right[good], cost[good]


def _extent(points: Floats, visible: NDArray[np.bool_]) -> Floats:
    """(P,) diagonal in px of the box around the visible joints of (P, J, 2)."""
    seen = visible[..., None]
    size = np.where(seen, points, -np.inf).max(1) - np.where(seen, points, np.inf).min(1)
    width, height = np.where(np.isfinite(size), size, 0.0).T
    diagonal: Floats = np.hypot(width, height)
    return diagonal


def _link(left: Integers, right: Integers, cost: Floats, before: Integers, after: Integers) -> None:
    """Join pairs, cheapest first, each detection once on either side; ties go to the earlier entry."""
    for i in np.lexsort((right, left, cost)).tolist():
        a, b = left[i], right[i]
        if after[a] < 0 and before[b] < 0:
            after[a], before[b] = b, a


def _numbers(before: Integers, video: Integers) -> Integers:
    """1, 2, ... for the chains of each video, in the order of their first detections."""
    root = np.where(before < 0, np.arange(len(before)), before)
    while not np.array_equal(root, root[root]):
        root = root[root]
    roots, chain = np.unique(root, return_inverse=True)
    first = np.searchsorted(video[roots], video[roots])
    numbers: Integers = np.arange(len(roots)) - first + 1
    return numbers[chain.reshape(-1)]

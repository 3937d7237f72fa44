"""Tracks as sequences of consecutive frames: short gaps filled, long ones cut, short sequences left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poseda.data.detections.found import Floats, Integers
from poseda.data.detections.tracking import starts_of

FILLED = 0.1
"""A filled keypoint has this share of the lesser confidence of the two that it lies between."""


@dataclass(frozen=True, eq=False)
class Detected:
    """People, entry by entry, in the joints that are asked for."""

    points: Floats
    """(N, J, 2) px; 0 where missing."""
    confidence: Floats
    """(N, J) in [0, 1]; 0 where missing."""
    video: Integers
    """(N,) index of the video."""
    frame: Integers
    """(N,) frame number."""
    person: Integers
    """(N,) number of the person in that video."""

    def take(self, which: Integers) -> Detected:
        """Only the entries of these indices, in their order."""
        return Detected(
            self.points[which], self.confidence[which], self.video[which], self.frame[which], self.person[which]
        )

    def sort(self) -> Detected:
        """By video, person and frame; of one person's entries in one frame the surest only."""
        order = np.lexsort((-self.confidence.mean(-1), self.frame, self.person, self.video))
        entries = self.take(order)
        return entries.take(np.flatnonzero(starts_of(entries.video, entries.person, entries.frame)))


@dataclass(frozen=True, eq=False)
class Pieces:
    """Sequences of consecutive frames, F frames in S sequences."""

    points: Floats
    """(F, J, 2) px."""
    confidence: Floats
    """(F, J) in [0, 1]."""
    bounds: Integers
    """(S + 1,) sequence s holds the frames bounds[s] to bounds[s + 1]."""
    video: Integers
    """(S,) index of the video."""
    person: Integers
    """(S,) number of the person in that video."""
    first: Integers
    """(S,) number of the first frame in the video."""
    gaps: int
    """Gaps that were filled."""
    filled: int
    """Frames in them."""
    cuts: int
    """Gaps too long to be filled."""
    short: tuple[int, ...]
    """Frames of each sequence that was too short."""


def cut(entries: Detected, max_gap: int, min_frames: int) -> Pieces:
    """Sequences of sorted entries. Up to `max_gap` missing frames are filled linearly, with confidence FILLED."""
    same = ~starts_of(entries.video, entries.person)
    missing = np.where(same, np.diff(entries.frame, prepend=entries.frame[:1]) - 1, 0)  # before each entry
    joined = same & (missing <= max_gap)
    begin = np.flatnonzero(~joined)
    piece = (~joined).cumsum() - 1
    first = entries.frame[begin]
    lengths = entries.frame[np.append(begin[1:], len(piece)) - 1] - first + 1
    long = lengths >= min_frames
    bounds = np.append(0, lengths[long].cumsum())
    offset = np.where(long, lengths, 0).cumsum() - lengths
    place = entries.frame - first[piece] + offset[piece]
    kept = long[piece]
    gaps = np.flatnonzero(kept & joined & (missing > 0))
    points, confidence = _fill(entries, place, np.flatnonzero(kept), gaps, missing[gaps], int(bounds[-1]))
    return Pieces(
        points=points,
        confidence=confidence,
        bounds=bounds.astype(np.int64),
        video=entries.video[begin[long]],
        person=entries.person[begin[long]],
        first=first[long],
        gaps=len(gaps),
        filled=int(missing[gaps].sum()),
        cuts=int((same & ~joined).sum()),
        short=tuple(lengths[~long].tolist()),
    )


def _fill(
    entries: Detected, place: Integers, kept: Integers, after: Integers, missing: Integers, frames: int
) -> tuple[Floats, Floats]:
    """Entries at their places, and `missing` frames before each of the entries `after` on straight lines."""
    joints = entries.confidence.shape[1]
    points, confidence = np.zeros((frames, joints, 2)), np.zeros((frames, joints))
    points[place[kept]], confidence[place[kept]] = entries.points[kept], entries.confidence[kept]
    right = np.repeat(after, missing)
    left = right - 1
    nth = np.arange(1, missing.sum() + 1) - np.repeat(missing.cumsum() - missing, missing)
    share = (nth / (np.repeat(missing, missing) + 1))[:, None, None]
    sure = np.minimum(entries.confidence[left], entries.confidence[right])
    between = entries.points[left] * (1 - share) + entries.points[right] * share
    points[place[left] + nth] = np.where(sure[..., None] > 0, between, 0.0)
    confidence[place[left] + nth] = FILLED * sure
    return points, confidence

"""What the doctor looks at: at most some 20 000 frames, from clips or from raw recordings, however wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from poseda.data.clips import Clips, LabelledClips
from poseda.data.doctor.robust import Flags, Floats, Ints
from poseda.data.recordings import Recording
from poseda.errors import DataError
from poseda.geometry.camera import Camera
from poseda.skeleton import Skeleton

LARGEST = 20_000  # frames: medians of so many stand still to a fraction of a per cent
RUN = 20  # consecutive frames taken together: speeds and lags need neighbours


@dataclass(frozen=True, eq=False)
class Sample:
    """Frames in runs of consecutive ones; units and frame of reference are those of the data, unchecked."""

    name: str
    skeleton: Skeleton
    fps: float
    label_scale: str
    source: str
    """Where the 2D come from: gt or a detector."""
    subjects: tuple[str, ...]
    """Of each sequence."""
    lengths: tuple[int, ...]
    """Frames of each sequence, before sampling."""
    cameras: Camera
    """(C,) float64."""
    keypoints: Floats
    """(F, J, 2); 0 where missing."""
    visible: Flags
    """(F, J)."""
    poses: Floats | None
    """(F, J, 3), finite; None without labels."""
    camera: Ints
    """(F,) camera of each frame."""
    sequence: Ints
    """(F,) sequence of each frame."""
    time: Ints
    """(F,) frame number in its sequence."""
    broken: int = 0
    """Frames looked at and left out, because a 3D joint is not finite."""

    @property
    def labels(self) -> Floats:
        """The poses of a sample that has some."""
        if self.poses is None:
            raise DataError(f"{self.name} has no 3D.")
        return self.poses

    @property
    def people(self) -> tuple[str, ...]:
        """Names of the subjects, sorted, each once."""
        return tuple(sorted(set(self.subjects)))

    @property
    def person(self) -> Ints:
        """(F,) number in `people` of each frame."""
        number = {name: place for place, name in enumerate(self.people)}
        return np.array([number[name] for name in self.subjects], dtype=np.int64)[self.sequence]

    @property
    def size(self) -> Floats:
        """(F, 2) width and height in px of each frame's image."""
        return torch.stack((self.cameras.width, self.cameras.height), -1).numpy()[self.camera]

    def box(self) -> Floats:
        """(F,) longer side of the box of the visible joints; NaN where that is 0."""
        seen = self.visible[..., None]
        low = np.where(seen, self.keypoints, np.inf).min(1)
        high = np.where(seen, self.keypoints, -np.inf).max(1)
        side = (high - low).max(-1)
        return np.where(np.isfinite(side) & (side > 0), side, np.nan)

    def joint(self, name: str, points: Floats) -> Floats:
        """One joint of points (F, J, D) by name -> (F, D)."""
        return points[:, self.skeleton.index(name)]

    def take(self, rows: Flags | Ints) -> Sample:
        """Some of the frames."""
        picked = {name: getattr(self, name)[rows] for name in ("keypoints", "visible", "camera", "sequence", "time")}
        return replace(self, **picked, poses=None if self.poses is None else self.poses[rows])

    def thin(self, largest: int) -> Sample:
        """At most about `largest` frames, whole runs of them, evenly."""
        every = -(-len(self.time) // largest)
        return self if every <= 1 else self.take(np.arange(len(self.time)) // RUN % every == 0)

    def neighbours(self, lag: int) -> Ints:
        """Rows i such that row i + lag is the frame `lag` later in the same sequence."""
        rows = np.arange(max(0, -lag), len(self.time) - max(0, lag))
        later = rows + lag
        follows = (self.sequence[rows] == self.sequence[later]) & (self.time[later] - self.time[rows] == lag)
        return np.asarray(rows[follows], dtype=np.int64)


def sample_clips(clips: Clips, largest: int = LARGEST) -> Sample:
    """An even sample of clips, in runs; reads only these frames of mapped tensors."""
    rows = _runs(clips.num_frames, largest)
    bounds, index = clips.bounds.cpu().numpy(), torch.from_numpy(rows)
    sequence = np.searchsorted(bounds, rows, side="right") - 1
    cameras, renumbered = _distinct(clips.cameras.to("cpu", torch.float64))
    numbers = renumbered[[item.camera for item in clips.sequences]]
    confidence = _numbers(clips.confidence[index])
    keypoints = _numbers(clips.keypoints[index])
    visible = (confidence > 0) & np.isfinite(keypoints).all(-1)
    return _finite(
        Sample(
            name=clips.provenance.name,
            skeleton=clips.skeleton,
            fps=float(clips.fps),
            label_scale=clips.provenance.label_scale,
            source=clips.provenance.keypoints,
            subjects=tuple(item.subject for item in clips.sequences),
            lengths=tuple(int(n) for n in np.diff(bounds)),
            cameras=cameras,
            keypoints=np.where(visible[..., None], keypoints, 0.0),
            visible=visible,
            poses=_numbers(clips.poses[index]) if isinstance(clips, LabelledClips) else None,
            camera=numbers[sequence],
            sequence=sequence,
            time=rows - bounds[sequence],
        )
    )


@dataclass(frozen=True, eq=False)
class _Piece:
    """A run of one recording."""

    keypoints: Floats
    visible: Flags
    poses: Floats
    sequence: Ints
    time: Ints


def sample_recordings(
    recordings: Iterable[Recording], skeleton: Skeleton, *, name: str, label_scale: str, source: str
) -> Sample:
    """An even sample of raw recordings, read one after the other. Raises DataError where there is no frame."""
    pieces: list[_Piece] = []
    subjects, lengths, cameras, rates, unlabelled = [], [], [], [], 0
    stride, runs = RUN, 0
    for number, item in enumerate(recordings):
        count = len(item.keypoints)
        for start in range(-runs * RUN % stride, count, stride):
            rows = np.arange(start, min(start + RUN, count))
            rows = rows if item.keep is None else rows[item.keep[rows]]
            pieces += [_piece(item, number, rows)] if len(rows) else []
        runs += -(-count // RUN)
        while len(pieces) > 2 * LARGEST // RUN:  # as many runs as fit: every second one goes
            pieces, stride = pieces[::2], stride * 2
        subjects.append(item.subject)
        lengths.append(count)
        cameras.append(item.camera.to("cpu", torch.float64))
        rates.append(item.fps)
        unlabelled += item.poses is None
    if not pieces:
        raise DataError(f"{name}: there is no frame to look at.")
    joined = {f.name: np.concatenate([getattr(piece, f.name) for piece in pieces]) for f in fields(_Piece)}
    distinct, renumbered = _distinct(Camera.cat(cameras))
    labelled = unlabelled < len(subjects)
    sample = Sample(
        name=name,
        skeleton=skeleton,
        fps=float(np.median(rates)),
        label_scale=label_scale,
        source=source,
        subjects=tuple(subjects),
        lengths=tuple(lengths),
        cameras=distinct,
        keypoints=joined["keypoints"],
        visible=joined["visible"],
        poses=joined["poses"] if labelled else None,
        camera=renumbered[joined["sequence"]],
        sequence=joined["sequence"],
        time=joined["time"],
    )
    return _finite(sample)


def _piece(item: Recording, number: int, rows: Ints) -> _Piece:
    """The rows of a recording that lies in memory whole."""
    keypoints = np.asarray(item.keypoints[rows], dtype=np.float64)
    visible = np.asarray(np.isfinite(keypoints).all(-1))
    if item.confidence is not None:
        visible &= item.confidence[rows] > 0
    poses = np.full((*visible.shape, 3), np.nan) if item.poses is None else item.poses[rows].astype(np.float64)
    shown = np.where(visible[..., None], keypoints, 0.0)
    return _Piece(shown, visible, poses, np.full(len(rows), number, dtype=np.int64), rows)


def _runs(frames: int, largest: int) -> Ints:
    """Rows of evenly spread runs: all of `frames` where they are few."""
    every = -(-frames // largest)
    rows = np.arange(frames, dtype=np.int64)
    return rows if every == 1 else rows[rows // RUN % every == 0]


def _distinct(cameras: Camera) -> tuple[Camera, Ints]:
    """Cameras that differ, and the new number of each old one (C,)."""
    table = torch.cat([getattr(cameras, field.name).reshape(len(cameras), -1) for field in fields(Camera)], 1)
    _, first, number = np.unique(table.numpy(), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # np.unique sorts by value; keep the order of the data
    rank = np.argsort(order)
    return cameras[torch.from_numpy(first[order])], rank[number.reshape(-1)].astype(np.int64)


def _numbers(values: Tensor) -> Floats:
    return values.detach().cpu().to(torch.float64).numpy()


def _finite(sample: Sample) -> Sample:
    """Without the frames whose 3D is not finite. Raises DataError where nothing is left to look at."""
    if not sample.visible.any():
        raise DataError(f"{sample.name}: no 2D keypoint of the frames that were looked at is visible.")
    if sample.poses is None:
        return sample
    whole = np.asarray(np.isfinite(sample.poses).all((1, 2)))
    if not whole.any():
        raise DataError(f"{sample.name}: every 3D pose that was looked at has a joint that is not finite.")
    return sample if whole.all() else replace(sample.take(whole), broken=int((~whole).sum()))

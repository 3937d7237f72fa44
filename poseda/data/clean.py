"""From recordings as a data set holds them to clips: frames that cannot be used are dropped, and counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from poseda.data.checks import MINIMUM_BONE_MM, MINIMUM_VISIBLE
from poseda.data.clips import LabelledClips, Provenance, Sequence, UnlabelledClips
from poseda.data.recordings import Floats, Recording
from poseda.errors import DataError
from poseda.geometry.camera import Camera
from poseda.skeleton import Skeleton

Bools = NDArray[np.bool_]
RATE_TOLERANCE = 0.01  # of a frame rate: 29.97 counts as 30


@dataclass
class Counts:
    """What came out of a unit."""

    read: int = 0
    """Frames in the files, before thinning."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> frames that were left out."""

    def to_json(self) -> dict[str, object]:
        """Plain values for the archive's record."""
        return {"read": self.read, "dropped": dict(sorted(self.dropped.items()))}


def clean_recordings(
    recordings: Iterable[Recording], skeleton: Skeleton, fps: float, provenance: Provenance
) -> tuple[LabelledClips | UnlabelledClips | None, Counts]:
    """Clips of all recordings at `fps`, in `skeleton`, and what was dropped; None where no frame is left.

    A frame goes where the data set calls it invalid, a 3D joint is missing or not before the camera, a bone has no
    length, or fewer than two keypoints are there; the sequence is cut at it. Raises DataError that names the
    recording for wrong shapes or rates, and for a mixture of labelled and unlabelled recordings.
    """
    counts = Counts()
    parts = [_clean(recording, skeleton, fps, counts) for recording in recordings]
    kept = [part for part in parts if len(part.frames)]
    if not kept:
        return None, counts
    labelled = {part.recording.poses is not None for part in kept}
    if len(labelled) > 1:
        raise DataError(f"{kept[0].recording.name}: some recordings have 3D and some have none; prepare them apart.")
    return _join(kept, skeleton, fps, provenance), counts


@dataclass(frozen=True, eq=False)
class _Kept:
    """A recording and the numbers of its frames that are used."""

    recording: Recording
    frames: NDArray[np.int64]
    confidence: Floats
    runs: list[int]
    """Length of each run of neighbouring frames."""


def _clean(recording: Recording, skeleton: Skeleton, fps: float, counts: Counts) -> _Kept:
    _check_shapes(recording, skeleton)
    every = thinning(recording.fps, fps, recording.name)
    counts.read += len(recording.keypoints)
    frames = np.arange(0, len(recording.keypoints), every)
    if every > 1:
        counts.dropped["between frames of the archive's rate"] += len(recording.keypoints) - len(frames)
    confidence = _confidence(recording)
    good = np.ones(len(frames), dtype=np.bool_)
    for reason, bad in _faults(recording, confidence, skeleton, frames):
        found = int((good & bad).sum())
        if found:
            counts.dropped[reason] += found
        good &= ~bad
    starts = good & ~np.concatenate([[False], good[:-1]])
    runs = np.bincount((starts.cumsum() - 1)[good]).tolist() if good.any() else []
    return _Kept(recording, frames[good], confidence, runs)


def thinning(fps: float, wanted: float, name: str) -> int:
    """Of how many frames one is kept to get from `fps` to `wanted`; DataError unless it is a whole number."""
    every = round(fps / wanted) if wanted > 0 else 0
    if every < 1 or abs(fps / (every * wanted) - 1) > RATE_TOLERANCE:
        raise DataError(f"{name}: {fps:g} frames/s cannot be thinned to {wanted:g} by taking every n-th frame.")
    return every


def thin_recording(recording: Recording, fps: float) -> Recording:
    """The recording at `fps`, by taking every n-th frame; DataError unless n is a whole number."""
    every = thinning(recording.fps, fps, recording.name)
    arrays = ("keypoints", "poses", "confidence", "keep", "scored")
    given = {name: getattr(recording, name) for name in arrays}
    thinned: dict[str, Any] = {name: None if x is None else x[::every] for name, x in given.items()}
    return replace(recording, fps=recording.fps / every, **thinned)


def _check_shapes(recording: Recording, skeleton: Skeleton) -> None:
    frames = len(recording.keypoints)
    wanted = {"keypoints": (frames, skeleton.num_joints, 2), "poses": (frames, skeleton.num_joints, 3),
              "confidence": (frames, skeleton.num_joints), "keep": (frames,), "scored": (frames,)}  # fmt: skip
    for name, shape in wanted.items():
        value = getattr(recording, name)
        if value is not None and value.shape != shape:
            raise DataError(f"{recording.name}: {name} has shape {value.shape}; expected {shape} ({skeleton.name}).")


def _confidence(recording: Recording) -> Floats:
    """(T, J): as given, 1 where nothing is said, 0 where the keypoint is not finite."""
    there = np.isfinite(recording.keypoints).all(-1)
    given = np.ones(there.shape, np.float32) if recording.confidence is None else recording.confidence
    return np.where(there, np.clip(np.nan_to_num(given), 0.0, 1.0), 0.0).astype(np.float32)


def _faults(
    recording: Recording, confidence: Floats, skeleton: Skeleton, frames: NDArray[np.int64]
) -> Iterator[tuple[str, Bools]]:
    """Reasons to drop frames, in the order in which they are counted, each with its frames (N,)."""
    if recording.keep is not None:
        yield "called invalid by the data set", ~recording.keep[frames]
    yield "fewer than two keypoints", (confidence[frames] > 0).sum(-1) < MINIMUM_VISIBLE
    if recording.poses is not None:
        poses = recording.poses[frames]
        broken: Bools = np.asarray(~np.isfinite(poses).all((-2, -1)))
        yield "a 3D joint is missing", broken
        behind: Bools = np.asarray((poses[..., 2] <= 0).any(-1))
        yield "a joint is behind the camera", ~broken & behind
        parents, children = (list(side) for side in zip(*skeleton.bones, strict=True))
        lengths = np.linalg.norm(poses[:, children] - poses[:, parents], axis=-1)
        flat: Bools = np.asarray((lengths < MINIMUM_BONE_MM).any(-1))
        yield "a bone has no length", ~broken & flat


def _join(kept: list[_Kept], skeleton: Skeleton, fps: float, provenance: Provenance) -> LabelledClips | UnlabelledClips:
    keypoints = _stack([part.recording.keypoints[part.frames] for part in kept])
    sequences = [sequence for number, part in enumerate(kept) for sequence in _sequences(part, number)]
    counts = [0, *(length for part in kept for length in part.runs)]
    shared = {
        "keypoints": torch.where(keypoints.isfinite(), keypoints, 0.0),
        "confidence": _stack([part.confidence[part.frames] for part in kept]),
        "bounds": torch.tensor(counts).cumsum(0),
        "sequences": tuple(sequences),
        "cameras": Camera.cat([part.recording.camera.to(dtype=torch.float32) for part in kept]),
        "skeleton": skeleton,
        "fps": fps,
        "provenance": provenance,
    }
    if kept[0].recording.poses is None:
        return UnlabelledClips(**shared)  # type: ignore[arg-type]
    poses = _stack([part.recording.poses[part.frames] for part in kept if part.recording.poses is not None])
    return LabelledClips(**shared, poses=poses, scored=_scored(kept))  # type: ignore[arg-type]


def _scored(kept: list[_Kept]) -> torch.Tensor | None:
    """(F,) frames that are scored, None where no recording leaves one out."""
    masks = [part.recording.scored for part in kept]
    if all(mask is None for mask in masks):
        return None
    given = [np.ones(len(part.recording.keypoints), bool) if mask is None else mask
             for part, mask in zip(kept, masks, strict=True)]  # fmt: skip
    return torch.from_numpy(np.concatenate([mask[part.frames] for part, mask in zip(kept, given, strict=True)]))


def _stack(arrays: list[Floats]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([array.astype(np.float32, copy=False) for array in arrays]))


def _sequences(part: _Kept, camera: int) -> Iterator[Sequence]:
    """The runs of one recording; a piece is numbered where there are several."""
    recording = part.recording
    for number in range(len(part.runs)):
        name = recording.name if len(part.runs) == 1 else f"{recording.name}/piece{number}"
        yield Sequence(name, recording.subject, recording.action, camera)

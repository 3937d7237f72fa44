"""A domain as whole tensors: clips with labels, and clips that have no 3D attribute at all."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor

from poseda.data.checks import check_clips, check_poses, check_scored
from poseda.errors import DataError
from poseda.geometry.camera import Camera
from poseda.skeleton import Skeleton, convert_confidence, convert_joints

if TYPE_CHECKING:
    from typing import Self

Kind = Literal["real", "motion", "stand-in"]
LabelScale = Literal["metric", "universal"]


@dataclass(frozen=True)
class Provenance:
    """Where clips come from; stored with them and printed with every result made from them."""

    name: str
    """Name of the domain."""
    kind: Kind
    """real = the data set; motion = motion capture through published cameras; stand-in = generated."""
    licence: str
    """Terms under which the data may be used."""
    label_scale: LabelScale
    """metric = the person's own size; universal = 3DHP's labels scaled to one common skeleton."""
    keypoints: str
    """gt, or the name of the detector or of the noise model."""
    notes: str = ""
    """What else a reader of a result must know."""


@dataclass(frozen=True)
class Sequence:
    """Consecutive frames of one person seen by one camera; `camera` is an index into the clips' cameras."""

    name: str
    subject: str
    action: str
    camera: int


@dataclass(frozen=True, eq=False)
class Clips:
    """What labelled and unlabelled clips share. Checked when made: DataError names sequence and frame."""

    keypoints: Tensor
    """(F, J, 2) px; a missing keypoint is stored as 0."""
    confidence: Tensor
    """(F, J) in [0, 1]; 0 = missing."""
    bounds: Tensor
    """(S + 1,) int64; sequence s holds the frames bounds[s] to bounds[s + 1]."""
    sequences: tuple[Sequence, ...]
    """One entry a sequence."""
    cameras: Camera
    """(C,) cameras, used by index."""
    skeleton: Skeleton
    """Joint order of keypoints and poses."""
    fps: float
    """Frames a second."""
    provenance: Provenance
    """Where the clips come from."""

    def __post_init__(self) -> None:
        check_clips(self)
        missing = ~self.keypoints.isfinite()
        if bool(missing.any()):
            object.__setattr__(self, "keypoints", self.keypoints.masked_fill(missing, 0.0))

    @property
    def visible(self) -> Tensor:
        """(F, J) bool: keypoints that are there."""
        return self.confidence > 0

    @property
    def num_frames(self) -> int:
        """F, over all sequences."""
        return int(self.keypoints.shape[0])

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the people, sorted, each once."""
        return tuple(sorted({sequence.subject for sequence in self.sequences}))

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the actions, sorted, each once."""
        return tuple(sorted({sequence.action for sequence in self.sequences}))

    @cached_property
    def sequence_index(self) -> Tensor:
        """(F,) int64: the sequence of each frame."""
        numbers = torch.arange(len(self.sequences), device=self.bounds.device)
        return numbers.repeat_interleave(self.bounds.diff(), output_size=self.num_frames)

    @cached_property
    def camera_index(self) -> Tensor:
        """(F,) int64: the camera of each frame."""
        numbers = [sequence.camera for sequence in self.sequences]
        return torch.tensor(numbers, device=self.bounds.device)[self.sequence_index]

    def cameras_at(self, frame_index: Tensor) -> Camera:
        """Camera of each frame in `frame_index` (N,) -> (N,) cameras."""
        return self.cameras[self.camera_index[frame_index]]

    def select(self, keep: Callable[[Sequence], bool]) -> Self:
        """Only the sequences that `keep` accepts. Raises DataError where none is left."""
        wanted = torch.tensor([bool(keep(sequence)) for sequence in self.sequences])
        if not bool(wanted.any()):
            raise DataError(f"no sequence of {self.provenance.name} is left after the selection.")
        return self._take(wanted.to(self.bounds.device)[self.sequence_index])

    def subsample(self, every: int) -> Self:
        """Frames 0, every, 2 every, ... of each sequence; fps falls by the same factor."""
        if every < 1:
            raise DataError(f"every={every}: clips can only be thinned by a whole number of at least 1.")
        place = torch.arange(self.num_frames, device=self.bounds.device) - self.bounds[self.sequence_index]
        return self if every == 1 else self._take(place % every == 0)._derive(fps=self.fps / every)

    def spread(self, most: int, window: int) -> Self:
        """At most about `most` frames of all parts: every n-th, or for lifters of longer windows whole sequences, cut
        where they are still too many, so that frames keep their neighbours."""
        every = -(-self.num_frames // most)
        if window == 1:
            return self.subsample(every)
        chosen = {id(sequence) for sequence in self.sequences[::every]}
        return self.select(lambda sequence: id(sequence) in chosen).limit(most)

    def limit(self, max_frames: int) -> Self:
        """At most `max_frames` frames: every sequence keeps its first part, all cut by the same ratio."""
        return self if max_frames >= self.num_frames else self._take(self.within_limit(max_frames))

    def within_limit(self, max_frames: int) -> Tensor:
        """(F,) bool: the frames that `limit` keeps."""
        shorter = self.bounds * min(max_frames, self.num_frames) // self.num_frames
        place = torch.arange(self.num_frames, device=self.bounds.device) - self.bounds[self.sequence_index]
        return place < shorter.diff()[self.sequence_index]

    def convert(self, skeleton: Skeleton) -> Self:
        """The same clips in another skeleton; a made joint is as sure as its least sure part."""
        if skeleton == self.skeleton:
            return self
        confidence = convert_confidence(self.confidence, self.skeleton, skeleton)
        keypoints = convert_joints(self.keypoints, self.skeleton, skeleton)
        keypoints = keypoints * (confidence > 0).unsqueeze(-1)
        return self._derive(keypoints=keypoints, confidence=confidence, skeleton=skeleton)

    def to(self, device: torch.device | str) -> Self:
        """The same clips on another device."""
        moved = {name: getattr(self, name).to(device) for name in (*self._frame_fields(), "bounds", "cameras")}
        return self._derive(**moved)

    def with_provenance(self, **changes: str) -> Self:
        """The same clips with some fields of the provenance replaced."""
        return self._derive(provenance=replace(self.provenance, **changes))  # type: ignore[arg-type]

    def with_keypoints(self, keypoints: Tensor, confidence: Tensor, name: str) -> Self:
        """The same clips with other 2D: keypoints (F, J, 2) px, confidence (F, J), name of their source."""
        provenance = replace(self.provenance, keypoints=name)
        return replace(self, keypoints=keypoints, confidence=confidence, provenance=provenance)

    def _frame_fields(self) -> tuple[str, ...]:
        return ("keypoints", "confidence")

    def _derive(self, **changes: Any) -> Self:
        """A copy with some fields changed, without checking what was checked already."""
        copy = object.__new__(type(self))
        for field in fields(self):
            object.__setattr__(copy, field.name, changes.get(field.name, getattr(self, field.name)))
        return copy

    def _take(self, keep: Tensor) -> Self:
        """The frames marked in keep (F,) bool; sequences without a frame go."""
        counts = torch.zeros_like(self.bounds[1:]).index_add_(0, self.sequence_index, keep.long())
        left = (counts > 0).tolist()
        kept = tuple(sequence for sequence, some in zip(self.sequences, left, strict=True) if some)
        counts = counts[counts > 0]
        bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        frames = {name: getattr(self, name)[keep] for name in self._frame_fields()}
        return self._derive(bounds=bounds, sequences=kept, **frames)


@dataclass(frozen=True, eq=False)
class UnlabelledClips(Clips):
    """2D keypoints with their cameras: all that a target domain may show during adaptation."""


@dataclass(frozen=True, eq=False)
class LabelledClips(Clips):
    """2D keypoints, cameras and 3D poses: a source, or what only evaluation sees of a target."""

    poses: Tensor
    """(F, J, 3) mm, camera frame, absolute."""
    scored: Tensor | None = None
    """(F,) bool: frames that results are computed on; the others are context for temporal lifters. None: all frames."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_poses(self)
        check_scored(self)

    @property
    def num_scored(self) -> int:
        """Frames that results are computed on."""
        return self.num_frames if self.scored is None else int(self.scored.sum())

    def convert(self, skeleton: Skeleton) -> Self:
        """The same clips with the joints of another skeleton, poses included."""
        return super().convert(skeleton)._derive(poses=convert_joints(self.poses, self.skeleton, skeleton))

    def unlabelled(self) -> UnlabelledClips:
        """The same clips without 3D."""
        shared = {field.name: getattr(self, field.name) for field in fields(UnlabelledClips)}
        copy = object.__new__(UnlabelledClips)
        for name, value in shared.items():
            object.__setattr__(copy, name, value)
        return copy

    def _frame_fields(self) -> tuple[str, ...]:
        return ("keypoints", "confidence", "poses", *(() if self.scored is None else ("scored",)))


AnyClips = TypeVar("AnyClips", UnlabelledClips, LabelledClips)


def concatenate(parts: SequenceOf[AnyClips]) -> AnyClips:
    """All sequences of several clips of one kind, skeleton and frame rate; the first's provenance."""
    first = parts[0]
    for part in parts[1:]:
        if part.skeleton != first.skeleton or part.fps != first.fps:
            raise DataError(
                f"{part.provenance.name} cannot be joined to {first.provenance.name}: "
                "they differ in skeleton or frame rate."
            )
    if len({part._frame_fields() for part in parts}) > 1:
        parts = [_scored_everywhere(part) for part in parts]
        first = parts[0]
    frames = {name: torch.cat([getattr(part, name) for part in parts]) for name in first._frame_fields()}
    counts = torch.cat([part.bounds.diff() for part in parts])
    bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return first._derive(
        bounds=bounds,
        sequences=_renumber(parts),
        cameras=Camera.cat([part.cameras for part in parts]),
        **frames,
    )


def _scored_everywhere(part: AnyClips) -> AnyClips:
    """The same clips, with the frames that are scored named also where these are all."""
    everything = torch.ones(part.num_frames, dtype=torch.bool, device=part.bounds.device)
    scored = getattr(part, "scored", None)
    return part._derive(scored=everything if scored is None else scored)


def _renumber(parts: SequenceOf[Clips]) -> tuple[Sequence, ...]:
    """Sequences of all parts, their camera numbers shifted to the joined list of cameras."""
    joined: list[Sequence] = []
    shift = 0
    for part in parts:
        joined += [replace(sequence, camera=sequence.camera + shift) for sequence in part.sequences]
        shift += len(part.cameras)
    return tuple(joined)

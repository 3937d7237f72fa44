"""What a detector's file holds, as plain arrays, and how a format's reader collects it entry by entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from poseda.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NOBODY = -1
"""Person number where the detector says none."""
_LARGEST_NUMBER = 1 << 53
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)
_SUFFIX = re.compile(r"(_keypoints)?(\.[A-Za-z]\w{0,4})?$")


@dataclass(frozen=True)
class Document:
    """One JSON value or opened npz file: its file's name without suffix, its place for messages, its content."""

    stem: str
    where: str
    value: object


@dataclass(frozen=True)
class Video:
    """What a file says about one video; 0 where it says nothing. Width and height in pixels."""

    name: str
    width: float = 0.0
    height: float = 0.0
    fps: float = 0.0


@dataclass(frozen=True, eq=False)
class Found:
    """All people of all frames of a file or folder, in any order."""

    form: str
    """What was recognised: "AlphaPose results"."""
    keypoints: Floats
    """(N, J, 2) px; not finite where missing."""
    scores: Floats
    """(N, J) as the detector gives them."""
    frame: Integers
    """(N,) frame numbers."""
    video: Integers
    """(N,) indices into `videos`."""
    person: Integers
    """(N,) the detector's own numbers, NOBODY where it gives none."""
    videos: tuple[Video, ...]
    """Videos, or series of images, that the entries belong to."""
    frames: int
    """Frames read, those without a person included."""
    names: tuple[str, ...] = ()
    """Joint names where the file gives them."""
    layout: str = ""
    """Joint layout where the file states it by a name."""
    scored: bool = True
    """Whether the detector's scores are in the file."""


@dataclass
class Collector:
    """Entries of a file in the order of reading; arrays are made once, at the end."""

    rows: list[object] = field(default_factory=list)
    scores: list[object] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    videos: list[int] = field(default_factory=list)
    persons: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    seen: set[tuple[int, int]] = field(default_factory=set)

    def start(self, video: str, frame: int) -> tuple[int, int]:
        """Note a frame, with or without people; returns the key that `add` takes."""
        key = (self.names.setdefault(video, len(self.names)), frame)
        self.seen.add(key)
        return key

    def add(self, key: tuple[int, int], where: str, row: object, person: int, scores: object = None) -> None:
        """Note one person: keypoints as the file has them, the detector's number, and where that was."""
        self.videos.append(key[0])
        self.frames.append(key[1])
        self.places.append(where)
        self.rows.append(row)
        self.persons.append(person)
        self.scores.append(scores)

    def triplets(self, form: str) -> Found:
        """Rows were x y c, joint after joint. Raises DataError naming the first entry that is not."""
        array = stack(self.rows, self.places, 1)
        if array.shape[1] % 3 or not array.shape[1]:
            raise DataError(f"{self.places[0]}: {array.shape[1]} numbers are not x, y, confidence for each joint.")
        return self._found(form, array.reshape(len(array), -1, 3))

    def points(self, form: str, names: tuple[str, ...] = ()) -> Found:
        """Rows were [x, y] for each joint, scores apart. Raises DataError naming the first entry that is not."""
        points = stack(self.rows, self.places, 2)
        if points.shape[2] != 2:
            raise DataError(
                f"{self.places[0]}: keypoints have {points.shape[2]} numbers each; 2D keypoints (x, y) are needed."
            )
        scores = stack(self.scores, self.places, 1, "scores")
        if scores.shape != points.shape[:2]:
            raise DataError(f"{self.places[0]}: {scores.shape[1]} scores for {points.shape[1]} keypoints.")
        return self._found(form, np.concatenate((points, scores[..., None]), -1), names)

    def _found(self, form: str, array: Floats, names: tuple[str, ...] = ()) -> Found:
        return Found(
            form=form,
            keypoints=array[..., :2],
            scores=array[..., 2],
            frame=np.array(self.frames, dtype=np.int64),
            video=np.array(self.videos, dtype=np.int64),
            person=np.array(self.persons, dtype=np.int64),
            videos=tuple(Video(name) for name in self.names),
            frames=len(self.seen),
            names=names,
        )


def stack(rows: Sequence[object], places: Sequence[str], depth: int, what: str = "keypoints") -> Floats:
    """(N, ...) array of N equal nested lists of numbers, `depth` deep. Raises DataError naming the first odd one."""
    if not rows:
        raise DataError("no person was detected in any frame.")
    try:
        array = np.array(rows)
    except ValueError:  # lists of different lengths
        array = np.zeros(0)
    if array.dtype.kind in "fiu" and array.ndim == depth + 1:
        return array.astype(np.float64)
    shapes = [_shape(row, depth) for row in rows]
    broken = next((i for i, shape in enumerate(shapes) if shape is None), None)
    if broken is not None:
        raise DataError(f"{places[broken]}: {what} are no list of numbers{' for each joint' if depth > 1 else ''}.")
    odd = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
    raise DataError(
        f"{places[odd]}: {what} have {_text(shapes[odd])} numbers, those of the first entry {_text(shapes[0])}; "
        "one file must hold one joint layout."
    )


def _shape(row: object, depth: int) -> tuple[int, ...] | None:
    try:
        array = np.array(row)
    except ValueError:
        return None
    return array.shape if array.dtype.kind in "fiu" and array.ndim == depth else None


def _text(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape or ()))


def frame_of(image: object, where: str) -> tuple[str, int]:
    """(series, number) of an image: a number as it is, a name by the last digits in it.

    "clip_000012.jpg" is frame 12 of "clip"; a name without digits is frame 0 of its own.
    """
    if isinstance(image, int | float) and not isinstance(image, bool):
        return "", whole(image, where, "image number")
    if not isinstance(image, str):
        raise DataError(f"{where}: the image is named by {type(image).__name__}; expected a number or a file's name.")
    stem = _SUFFIX.sub("", image)
    match = _NUMBERED.fullmatch(stem)
    if match is None:
        return stem, 0
    series = (match[1] + match[3]).strip("_-./ ")
    return series, whole(int(match[2][-20:]), where, "image number")


def person_of(value: object, where: str) -> int:
    """A detector's person number: a number, or a list (of lists) whose first is meant; NOBODY for None or below 0."""
    while isinstance(value, list) and value:
        value = value[0]
    if value is None or value == []:
        return NOBODY
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: the person is named by {type(value).__name__}; expected a number.")
    return max(whole(value, where, "person number"), NOBODY)


def whole(value: float, where: str, what: str) -> int:
    """A whole number that fits into 53 bits. Raises DataError."""
    if not abs(value) < _LARGEST_NUMBER or value != int(value):
        raise DataError(f"{where}: {what} {value} is not a whole number.")
    return int(value)

"""What a reader of raw data gives: recordings of people, unit by unit, with the facts that go into the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from poseda.data.clips import Kind, LabelScale
from poseda.errors import check_seed
from poseda.geometry.camera import Camera
from poseda.skeleton import Skeleton

Floats = NDArray[np.floating]
Split = Literal["train", "test"]


@dataclass(frozen=True)
class RawOptions:
    """What a user may say about raw data; a reader lists in USES the fields that it reads."""

    keypoints: str = ""
    """Which 2D to take: gt, a detector's name as in the file's name, or a file; empty: the reader's own choice."""
    labels: Literal["metric", "universal"] = "metric"
    """MPI-INF-3DHP: metric (annot3, the person's own size) or universal (univ_annot3) labels."""
    cameras: tuple[str, ...] = ()
    """Cameras to take, by their names in the data set; empty: those that papers use."""
    body_model: str = ""
    """The user's SMPL, SMPL+H or SMPL-X file, or the folder of its female, male and neutral files."""
    rig: str = ""
    """Motion capture: the rig that sees it, by name or JSON file; empty: h36m."""
    mapping: str = ""
    """JSON file that says what is where in data of one's own (docs/datasets.md)."""
    test_subjects: tuple[str, ...] = ()
    """Subjects of the test archive, where the data set has no split of its own; empty: the last fifth."""
    seed: int = 0
    """Motion capture: seed of where and how people stand in the rig."""

    def __post_init__(self) -> None:
        check_seed(self.seed, end=32)  # the other half of a generator's seed is the take's name


@dataclass(frozen=True, eq=False)
class Recording:
    """One person, seen by one camera in consecutive frames, as a raw data set holds it."""

    name: str
    """Unique in the data set, such as "S1/Walking 1/54138969"."""
    subject: str
    """Who it is."""
    action: str
    """What they do; "" where nobody says."""
    camera: Camera
    """One camera."""
    fps: float
    """Frames a second."""
    keypoints: Floats
    """(T, J, 2) px as in the image; NaN where missing."""
    poses: Floats | None = None
    """(T, J, 3) mm, camera frame, absolute; None without labels."""
    confidence: Floats | None = None
    """(T, J) in [0, 1], 0 = missing; None: 1 where keypoints are finite."""
    keep: NDArray[np.bool_] | None = None
    """(T,) frames that the data set itself calls valid; the others are left out and counted."""
    scored: NDArray[np.bool_] | None = None
    """(T,) frames that the data set scores; the others stay, as what temporal lifters see around them. None: all."""


@dataclass(frozen=True, eq=False)
class WorldTake:
    """One person's motion in a world with z up, seen by no camera yet."""

    name: str
    subject: str
    action: str
    fps: float
    """Frames a second."""
    joints: Floats
    """(T, J, 3) mm, world, z up, floor at z = 0, true root translation."""


@dataclass(frozen=True)
class Unit:
    """A part of a data set that is read at once: a subject, a sequence, a file. Prepared units survive a crash."""

    name: str
    """Unique in the data set; shown by the progress bar, such as "S1/Seq1"."""
    split: Split | None
    """train or test; None where the data set has no split: subjects are then split as the options say."""
    files: tuple[Path, ...]
    """What `read` reads; their hashes go into the archive."""
    read: Callable[[], Iterable[Recording | WorldTake]]
    """Reads this unit alone: all Recording, or all WorldTake. Raises DataError that names file, key and frame."""


@dataclass(frozen=True)
class RawDataset:
    """A raw data set that was recognised: nothing but what was needed to recognise it has been read."""

    name: str
    """Name of the domain, as in a table: h36m, 3dhp, cmu ..."""
    recognised: str
    """What was found, for the user: "MPI-INF-3DHP test set, HDF5 annotations (annot3, metric)"."""
    skeleton: Skeleton
    """Joint order of all recordings."""
    fps: float
    """Frames a second of the archive; a recording at a whole multiple of it is thinned to it."""
    licence: str
    """One line: the terms under which the data may be used, and where they are."""
    label_scale: LabelScale
    """metric or universal."""
    keypoints: str
    """gt, or the detector's name."""
    units: tuple[Unit, ...]
    """In the order in which they are prepared."""
    kind: Kind = "real"
    """real, or motion for motion capture that is seen through a rig."""
    notes: str = ""
    """What else a reader of a result must know: assumptions, approximations."""
    expected: Mapping[str, int] | None = None
    """Frames that must come out where that is known: {"test": 2929}; a difference is said aloud."""

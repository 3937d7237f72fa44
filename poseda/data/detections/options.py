"""What a user may say about 2D detections of his own video."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from poseda.errors import ConfigError, choose

LONGEST_GAP = 250
Construction = Literal["mmpose", "gast"]


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """How detections are read. Checked when made: ConfigError names the option."""

    width: int = 0
    """Image width in pixels; 0: as the file says."""
    height: int = 0
    """Image height in pixels; 0: as the file says."""
    fps: float = 0.0
    """Frames a second of the detections; 0: as the file says, else 30."""
    focal: tuple[float, ...] = ()
    """Focal length in pixels, (f,) or (fx, fy); empty: the length of the image's diagonal."""
    centre: tuple[float, ...] = ()
    """Principal point (cx, cy) in pixels; empty: the middle of the image."""
    layout: str = ""
    """Joint layout of the file, such as coco17 or h36m17, where the number of joints does not tell; empty: found."""
    construction: Construction = "mmpose"
    """How Human3.6M joints are made that a layout without a head top lacks: as MMPose or as GAST-Net does."""
    person: str = "all"
    """Whom to take: all, longest (the track with most frames), or the number of a track."""
    min_confidence: float = 0.2
    """Keypoints below this confidence count as missing."""
    max_gap: int = 4
    """Gaps in a track of up to this many frames are filled, longer ones cut it."""
    min_frames: int = 5
    """Sequences with fewer frames are left out."""

    def __post_init__(self) -> None:
        for name in ("width", "height", "fps", "max_gap"):
            _at_least(name, getattr(self, name), 0)
        _at_least("min_frames", self.min_frames, 1)
        if self.max_gap > LONGEST_GAP:
            raise ConfigError(f"max_gap={self.max_gap}: give a number of at most {LONGEST_GAP}.")
        if not 0.0 <= self.min_confidence < 1.0:
            raise ConfigError(f"min_confidence={self.min_confidence}: give a number from 0 to below 1.")
        if len(self.focal) > 2 or not all(0 < f < math.inf for f in self.focal):
            raise ConfigError(f"focal={list(self.focal)}: give one or two positive numbers, in pixels.")
        if len(self.centre) not in (0, 2) or not all(map(math.isfinite, self.centre)):
            raise ConfigError(f"centre={list(self.centre)}: give cx and cy, in pixels.")
        choose(self.construction, get_args(Construction), "construction")


def _at_least(name: str, value: float, least: int) -> None:
    if not least <= value < math.inf:
        raise ConfigError(f"{name}={value}: give a number of at least {least}.")

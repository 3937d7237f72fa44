"""BVH files, read: a hierarchy of joints with offsets, and channels that turn and move them in every frame.

Channels of a joint multiply in the order listed. An End Site is a joint without channels, named after its parent:
"Head_end". Position channels take the place of the offset, as exporters and readers do in general; of a joint whose
position channels stay nearer to zero than to the offset, they are added to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from poseda.data.mocap.kinematics import CHUNK, Array, euler_matrices, forward
from poseda.data.mocap.text import number, numbers, read_lines
from poseda.errors import DataError, MissingDataError

MOST_JOINTS = 2000
_SHORTEST_S, _LONGEST_S = 1e-4, 60.0
_HEADER_LINES = 20 * MOST_JOINTS


@dataclass(frozen=True, eq=False)
class Bvh:
    """A hierarchy and its motion, in the file's own units and axes."""

    path: Path
    names: tuple[str, ...]
    """Joints, each after its parent; End Sites are "<parent>_end"."""
    parents: tuple[int, ...]
    """Index of each joint's parent; -1 for the root."""
    offsets: Array
    """(J, 3) from the parent, units of the file."""
    channels: tuple[tuple[str, ...], ...]
    """Channels of each joint in their order, such as ("xp", "yp", "zp", "zr", "xr", "yr")."""
    fps: float
    """Frames a second."""
    values: Array
    """(T, C) of all channels, degrees and units of the file."""

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each joint by its name."""
        return {name: place for place, name in enumerate(self.names)}

    def positions(self) -> Array:
        """Joints in every frame: (T, J, 3), units and axes of the file."""
        translations = np.broadcast_to(self.offsets, (len(self), len(self.names), 3)).copy()
        for column, (joint, channel) in enumerate(self._columns()):
            if channel[1] == "p":
                axis = "xyz".index(channel[0])
                translations[:, joint, axis] = _moved(self.values[:, column], self.offsets[joint, axis])
        for start in range(0, len(self), CHUNK):
            part = slice(start, start + CHUNK)
            translations[part] = forward(self.parents, translations[part], self._rotations(self.values[part]))
        return translations

    def _columns(self) -> list[tuple[int, str]]:
        """Joint and channel of each column of the values."""
        return [(joint, channel) for joint, channels in enumerate(self.channels) for channel in channels]

    def _rotations(self, values: Array) -> Array:
        """Rotations against the parents: (T, J, 3, 3)."""
        rotations = np.broadcast_to(np.eye(3), (len(values), len(self.names), 3, 3)).copy()
        column = 0
        for joint, channels in enumerate(self.channels):
            turns = [(column + place, channel[0]) for place, channel in enumerate(channels) if channel[1] == "r"]
            angles = np.radians(values[:, [place for place, _ in turns]])
            rotations[:, joint] = euler_matrices([axis for _, axis in turns], angles)
            column += len(channels)
        return rotations

    def with_offsets(self, offsets: Mapping[str, Array]) -> Bvh:
        """The same motion with other offsets for some joints."""
        changed = self.offsets.copy()
        for name, offset in offsets.items():
            changed[self.index[name]] = offset
        return replace(self, offsets=changed)

    def from_frame(self, start: int) -> Bvh:
        """The same motion without its first `start` frames."""
        return replace(self, values=self.values[start:])


def _moved(values: Array, offset: float) -> Array:
    middle = float(np.median(values))
    return values if abs(middle - offset) <= abs(middle) else values + offset


@dataclass
class _Hierarchy:
    """Joints as they are found, and where the motion begins."""

    names: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    offsets: list[Sequence[float]] = field(default_factory=list)
    channels: list[tuple[str, ...]] = field(default_factory=list)
    motion_line: int = 0
    """Line (from 1) that says MOTION."""


def read_bvh(path: Path) -> Bvh:
    """Read a file. Raises MissingDataError, and DataError that names file and line."""
    lines = read_lines(path)
    tree = _read_hierarchy(lines, path)
    frames, seconds, start = _read_motion_head(lines, tree.motion_line, path)
    width = sum(map(len, tree.channels))
    values = _read_values(lines, start, frames, width, path)
    return Bvh(
        path=path,
        names=tuple(tree.names),
        parents=tuple(tree.parents),
        offsets=np.array(tree.offsets, dtype=np.float64),
        channels=tuple(tree.channels),
        fps=_frame_rate(seconds),
        values=values,
    )


def read_bvh_names(path: Path) -> tuple[str, ...]:
    """The joints' names alone: the motion is not read. Raises as read_bvh does."""
    if not path.is_file():
        raise MissingDataError(f"no file {path}.")
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        # a line of a hierarchy is short: a file without line ends is not read whole
        lines = (file.readline(10_000) for _ in range(_HEADER_LINES))
        return tuple(_read_hierarchy(itertools.takewhile(bool, lines), path).names)


def _read_hierarchy(lines: Iterable[str], path: Path) -> _Hierarchy:
    """The joints down to the line MOTION."""
    tree = _Hierarchy()
    open_joints: list[int] = []
    waiting = False  # a joint has been named and its { has not come
    for line, text in _pieces(lines):
        word, _, rest = text.partition(" ")
        key = word.upper()
        if key == "MOTION":
            if open_joints or not tree.names:
                raise DataError(f"{path}: line {line}: MOTION comes before the last '}}' of the hierarchy.")
            tree.motion_line = line
            return tree
        if key in ("ROOT", "JOINT", "END"):
            _add_joint(tree, key, rest.strip(), open_joints, path, line)
            waiting = True
        elif key == "{" and waiting:
            open_joints.append(len(tree.names) - 1)
            waiting = False
        elif key == "}" and open_joints:
            open_joints.pop()
        elif key == "OFFSET" and open_joints:
            tree.offsets[open_joints[-1]] = numbers(rest.split(), path, line, 3)
        elif key == "CHANNELS" and open_joints:
            tree.channels[open_joints[-1]] = _channels(rest.split(), path, line)
        elif key != "HIERARCHY":
            raise DataError(f"{path}: line {line}: '{text[:40]}' is not expected here; is this a BVH file?")
    raise DataError(f"{path}: ends without MOTION; cut off, or no BVH file?")


def _pieces(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """(line from 1, text) with braces on their own and single spaces."""
    for place, line in enumerate(lines, 1):
        for piece in line.replace("{", "\n{\n").replace("}", "\n}\n").split("\n"):
            words = " ".join(piece.split())
            if words:
                yield place, words


def _add_joint(tree: _Hierarchy, key: str, name: str, open_joints: Sequence[int], path: Path, line: int) -> None:
    if (key == "ROOT") != (not open_joints) or (key == "ROOT" and tree.names):
        raise DataError(f"{path}: line {line}: {key} {name} is not expected here; one ROOT holds all joints.")
    name = f"{tree.names[open_joints[-1]]}_end" if key == "END" else name
    if not name or name in tree.names:
        raise DataError(f"{path}: line {line}: joint '{name}' has no name of its own.")
    if len(tree.names) >= MOST_JOINTS:
        raise DataError(f"{path}: line {line}: more than {MOST_JOINTS} joints.")
    tree.names.append(name)
    tree.parents.append(open_joints[-1] if open_joints else -1)
    tree.offsets.append((0.0, 0.0, 0.0))
    tree.channels.append(())


def _channels(words: Sequence[str], path: Path, line: int) -> tuple[str, ...]:
    known = {f"{axis}{kind}": f"{axis}{kind[0]}" for axis in "xyz" for kind in ("position", "rotation")}
    names = tuple(known.get(word.lower(), "") for word in words[1:])
    if not words or words[0] != str(len(names)) or "" in names or len(set(names)) != len(names):
        raise DataError(f"{path}: line {line}: CHANNELS {' '.join(words)[:60]} cannot be read.")
    return names


def _read_motion_head(lines: Sequence[str], motion_line: int, path: Path) -> tuple[int, str, int]:
    """Number of frames, seconds a frame as written, and the index of the first line of numbers."""
    found: dict[str, tuple[str, int]] = {}
    for place in range(motion_line, len(lines)):
        key, colon, value = lines[place].partition(":")
        if colon:
            found[" ".join(key.lower().split())] = (value.strip(), place)
        elif lines[place].strip():
            break
    if not {"frames", "frame time"} <= set(found):
        raise DataError(f"{path}: line {motion_line}: MOTION needs 'Frames:' and 'Frame Time:'.")
    (frames, line), (seconds, time_line) = found["frames"], found["frame time"]
    if not (frames.isascii() and frames.isdigit() and len(frames) < 16 and int(frames)):
        raise DataError(f"{path}: line {line + 1}: Frames is '{frames[:30]}'; expected a whole number of at least 1.")
    if not _SHORTEST_S <= number(seconds, path, time_line + 1) <= _LONGEST_S:
        expected = f"expected {_SHORTEST_S} to {_LONGEST_S} seconds"
        raise DataError(f"{path}: line {time_line + 1}: Frame Time is {seconds[:30]}; {expected}.")
    return int(frames), seconds, max(line, time_line) + 1


def _read_values(lines: Sequence[str], start: int, frames: int, width: int, path: Path) -> Array:
    """(T, C) numbers of the frames, one line each."""
    rows = [line for line in lines[start:] if line and not line.isspace()]
    if len(rows) != frames:
        raise DataError(
            f"{path}: declares {frames} frames but holds {len(rows)} (it ends at line {len(lines)}); cut off?"
        )
    if width == 0:
        raise DataError(f"{path}: no joint has channels, so nothing moves.")
    try:
        values = np.loadtxt(rows, dtype=np.float64, comments=None, ndmin=2)
    except ValueError:
        values = np.empty((0, 0))
    if values.shape != (frames, width) or not np.isfinite(values).all():
        for place in range(start, len(lines)):
            if lines[place].strip():
                numbers(lines[place].split(), path, place + 1, width)
    return values


def _frame_rate(seconds: str) -> float:
    """Frames a second of a written frame time: ".0083333" is 120, as 1/120 is written with as many digits."""
    digits = len(seconds.lower().partition("e")[0].partition(".")[2])
    whole = round(1 / float(seconds))
    near = whole > 0 and abs(1 / whole - float(seconds)) < 10.0**-digits
    return float(whole) if near and digits >= 3 else 1 / float(seconds)

"""Acclaim files: ASF skeletons and their AMC motion, as the CMU motion capture database gives them.

Format as at http://mocap.cs.cmu.edu. `axis a b c XYZ` is the bone's frame C, turned about the fixed x, then y, then z
axis; the angles of a frame make M in the same way, and the bone's rotation against its parent is C M C^-1. Directions
are those of the rest pose in world axes. One unit of length is 1 inch divided by `length` (0.45 at CMU).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from poseda.data.mocap.kinematics import CHUNK, Array, euler_matrices
from poseda.data.mocap.text import number, number_rows, numbers, read_lines
from poseda.errors import DataError

MOST_BONES = 500
_TURNS = ("rx", "ry", "rz")
_ROOT_CHANNELS = ("tx", "ty", "tz", "rx", "ry", "rz")
_ROOT = "root"


@dataclass(frozen=True, eq=False)
class Asf:
    """A skeleton. Bones in an order in which each comes after its parent; the root is bone 0, without length."""

    path: Path
    names: tuple[str, ...]
    """Names of the bones; "root" first."""
    parents: tuple[int, ...]
    """Index of each bone's parent; -1 for the root."""
    vectors: Array
    """(B, 3) mm, from a bone's start to its end, in the rest pose."""
    frames: Array
    """(B, 3, 3) C, the bone's own axes."""
    channels: tuple[tuple[str, ...], ...]
    """What a frame gives of each bone: some of tx ty tz rx ry rz."""
    orders: tuple[str, ...]
    """Axes in the order in which a bone turns about them, such as "xyz"."""
    start: Array
    """(3,) mm, the root's place before its translation."""
    unit_mm: float
    """Millimetres of one unit of length."""
    degrees: bool
    """True if angles are degrees unless a motion file says otherwise."""

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each bone by its name."""
        return {name: place for place, name in enumerate(self.names)}

    def ends(self, motion: Amc) -> Array:
        """Where each bone ends, the root's own place for the root: (T, B, 3) mm, world axes of the file."""
        parts = [motion.part(start, start + CHUNK) for start in range(0, len(motion), CHUNK)]
        return np.concatenate([self._ends(part) for part in parts])

    def _ends(self, motion: Amc) -> Array:
        count = len(motion)
        turned = np.empty((len(self.names), count, 3, 3))
        ends = np.empty((count, len(self.names), 3))
        for bone, parent in enumerate(self.parents):
            turned[bone] = self._rotation(bone, motion)
            if parent < 0:
                ends[:, bone] = self.start + motion.translation * self.unit_mm
                continue
            turned[bone] = turned[parent] @ turned[bone]
            ends[:, bone] = ends[:, parent] + turned[bone] @ self.vectors[bone]
        return ends

    def _rotation(self, bone: int, motion: Amc) -> Array:
        """C M C^-1 of one bone in every frame: (T, 3, 3)."""
        angles = motion.angles.get(self.names[bone])
        if angles is None:
            return np.broadcast_to(np.eye(3), (len(motion), 3, 3))
        frame = self.frames[bone]
        return np.asarray(frame @ _fixed_axes(self.orders[bone], angles) @ frame.T)


@dataclass(frozen=True, eq=False)
class Amc:
    """Motion of a skeleton."""

    translation: Array
    """(T, 3) of the root, in the skeleton's units of length."""
    angles: dict[str, Array]
    """Bone -> (T, 3) radians about x, y and z; bones that never turn are absent."""

    def __len__(self) -> int:
        return len(self.translation)

    def part(self, start: int, stop: int) -> Amc:
        """Frames start to stop."""
        return Amc(self.translation[start:stop], {bone: turns[start:stop] for bone, turns in self.angles.items()})


def _fixed_axes(order: str, angles: Array) -> Array:
    """Turns about fixed axes, the first of `order` first: (..., 3) radians about x, y, z -> (..., 3, 3)."""
    backwards = order[::-1]
    return euler_matrices(backwards, angles[..., ["xyz".index(axis) for axis in backwards]])


@dataclass
class _Bone:
    """What the text says of one bone, as far as it has been read."""

    line: int
    name: str = ""
    direction: Sequence[float] = ()
    length: float | None = None
    axis: Sequence[float] = (0.0, 0.0, 0.0)
    order: str = "xyz"
    dof: tuple[str, ...] = ()


@dataclass
class _Text:
    """What the text of a skeleton says, before it is put together."""

    length: float = 1.0
    degrees: bool = True
    bones: list[_Bone] = field(default_factory=list)
    parent: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Bone -> its parent and the line that says so."""
    position: Sequence[float] = (0.0, 0.0, 0.0)
    root: _Bone = field(default_factory=lambda: _Bone(0, _ROOT, (0.0, 0.0, 0.0), 0.0, dof=_ROOT_CHANNELS))


def read_asf(path: Path) -> Asf:
    """Read a skeleton, in mm. Raises MissingDataError, and DataError that names file and line."""
    text = _Text()
    section = ""
    for line, words in _words(read_lines(path)):
        if words[0].startswith(":"):
            section = words[0].lower()
            words = words[1:]
        if words and section in _SECTIONS:
            _SECTIONS[section](text, words, path, line)
    return _assemble(text, path)


def _words(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(line from 1, its words) of lines that say something."""
    for place, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].split()
        if words:
            yield place, words


def _units(text: _Text, words: list[str], path: Path, line: int) -> None:
    if words[0] == "length":
        text.length = numbers(words[1:], path, line, 1)[0]
        if text.length <= 0:
            raise DataError(f"{path}: line {line}: a unit of length of {text.length:g} cannot be.")
    elif words[0] == "angle":
        text.degrees = not words[1:] or not words[1].lower().startswith("rad")


def _root(text: _Text, words: list[str], path: Path, line: int) -> None:
    key = words[0].lower()
    if key == "order":
        text.root.dof = _channels(words[1:], _ROOT_CHANNELS, path, line)
    elif key == "axis":
        text.root.order = _order(words[1:], path, line)
    elif key == "position":
        text.position = numbers(words[1:], path, line, 3)
    elif key == "orientation":
        text.root.axis = numbers(words[1:], path, line, 3)


def _bonedata(text: _Text, words: list[str], path: Path, line: int) -> None:
    key = words[0].lower()
    if key == "begin":
        text.bones.append(_Bone(line))
        if len(text.bones) > MOST_BONES:
            raise DataError(f"{path}: line {line}: more than {MOST_BONES} bones.")
        return
    if key not in ("name", "direction", "length", "axis", "dof"):
        return
    if not text.bones:
        raise DataError(f"{path}: line {line}: '{key}' before the first 'begin' of :bonedata.")
    bone = text.bones[-1]
    if key == "name":
        bone.name = " ".join(words[1:])
    elif key == "direction":
        bone.direction = numbers(words[1:], path, line, 3)
    elif key == "length":
        bone.length = numbers(words[1:], path, line, 1)[0]
    elif key == "axis":
        bone.axis = numbers(words[1:4], path, line, 3)
        bone.order = _order(words[4:], path, line)
    else:
        bone.dof = _channels(words[1:], _TURNS, path, line)


def _hierarchy(text: _Text, words: list[str], path: Path, line: int) -> None:
    if words[0] in ("begin", "end"):
        return
    for child in words[1:]:
        if child in text.parent or child == _ROOT:
            raise DataError(f"{path}: line {line}: bone '{child}' has a parent already.")
        text.parent[child] = (words[0], line)


_SECTIONS = {":units": _units, ":root": _root, ":bonedata": _bonedata, ":hierarchy": _hierarchy}


def _channels(words: Sequence[str], known: Sequence[str], path: Path, line: int) -> tuple[str, ...]:
    names = tuple(word.lower() for word in words)
    if not set(names) <= set(known) or len(set(names)) != len(names):
        raise DataError(f"{path}: line {line}: channels '{' '.join(words)}'; expected some of {' '.join(known)}.")
    return names


def _order(words: Sequence[str], path: Path, line: int) -> str:
    order = "".join(words).lower()
    if sorted(order) != ["x", "y", "z"]:
        raise DataError(f"{path}: line {line}: axis order '{order}'; expected XYZ or another order of the three.")
    return order


def _assemble(text: _Text, path: Path) -> Asf:
    """The skeleton that a text describes, every bone after its parent."""
    if not text.bones:
        raise DataError(f"{path}: no bone found under :bonedata; is this an ASF skeleton?")
    bones = {_ROOT: text.root}
    for bone in text.bones:
        if not bone.name or bone.name in bones or len(bone.direction) != 3 or bone.length is None:
            raise DataError(f"{path}: line {bone.line}: a bone needs a name of its own, a direction and a length.")
        bones[bone.name] = bone
    names = _sorted_names(text, bones, path)
    unit = 25.4 / text.length
    directions = np.array([bones[name].direction for name in names])
    lengths = np.array([[bones[name].length] for name in names], dtype=np.float64)
    norms = np.linalg.norm(directions, axis=-1, keepdims=True)
    scale = np.pi / 180 if text.degrees else 1.0
    return Asf(
        path=path,
        names=names,
        parents=(-1, *(names.index(text.parent[name][0]) for name in names[1:])),
        vectors=directions / np.where(norms > 0, norms, 1.0) * lengths * unit,
        frames=np.stack([_fixed_axes(bones[name].order, np.array(bones[name].axis) * scale) for name in names]),
        channels=tuple(bones[name].dof for name in names),
        orders=tuple(bones[name].order for name in names),
        start=np.array(text.position) * unit,
        unit_mm=unit,
        degrees=text.degrees,
    )


def _sorted_names(text: _Text, bones: dict[str, _Bone], path: Path) -> tuple[str, ...]:
    """The root, its children, their children ...; DataError where the hierarchy does not reach every bone."""
    for child, (parent, line) in text.parent.items():
        for name in (child, parent):
            if name not in bones:
                raise DataError(f"{path}: line {line}: the hierarchy names '{name}', which is no bone.")
    names = [_ROOT]
    for name in names:  # grows while it is read
        names += [child for child, (parent, _) in text.parent.items() if parent == name]
    lost = [name for name in bones if name not in set(names)]
    if lost:
        raise DataError(f"{path}: line {bones[lost[0]].line}: the hierarchy does not lead to bone '{lost[0]}'.")
    return tuple(names)


def read_amc(path: Path, skeleton: Asf) -> Amc:
    """Read the motion of a skeleton. Raises MissingDataError, and DataError that names file and line."""
    lines = read_lines(path)
    found = list(_words(lines))
    header = next((place for place, (_, words) in enumerate(found) if words[0].isdigit()), len(found))
    flags = {words[0].lower() for _, words in found[:header]}
    degrees = ":degrees" in flags or (skeleton.degrees and ":radians" not in flags)
    body = found[header:]
    if not body:
        raise DataError(f"{path}: holds no frame; is this an AMC motion?")
    names = _frame_layout(body, skeleton, path)
    _check_frames(body, names, skeleton, path)
    rows = [words[1:] for _, words in body]
    values = number_rows(rows, [line for line, _ in body], path).reshape(len(body) // (len(names) + 1), -1)
    return _motion(values, names, skeleton, np.pi / 180 if degrees else 1.0)


def _frame_layout(body: Sequence[tuple[int, list[str]]], skeleton: Asf, path: Path) -> list[str]:
    """Names of the bones in the order of the first frame."""
    names: list[str] = []
    for line, words in body[1:]:
        if words[0].isdigit():
            break
        if words[0] not in skeleton.index or words[0] in names:
            raise DataError(f"{path}: line {line}: '{words[0][:30]}' is not in {skeleton.path.name}, or comes twice.")
        names.append(words[0])
    turning = [name for name, dof in zip(skeleton.names, skeleton.channels, strict=True) if dof]
    lacking = [name for name in turning if name not in names]
    if lacking:
        raise DataError(f"{path}: line {body[0][0]}: the first frame has no '{lacking[0]}', which can move.")
    return names


def _check_frames(body: Sequence[tuple[int, list[str]]], names: list[str], skeleton: Asf, path: Path) -> None:
    """Every frame has its number and, for the same bones in the same order, as many numbers as they have channels."""
    period = len(names) + 1
    counts = [1, *(len(skeleton.channels[skeleton.index[name]]) + 1 for name in names)]
    first = int(number(body[0][1][0], path, body[0][0]))
    for place, (line, words) in enumerate(body):
        step = place % period
        expected = names[step - 1] if step else str(first + place // period)
        if words[0] != expected:
            raise DataError(f"{path}: line {line} begins with '{words[0][:30]}', expected '{expected}'.")
        if len(words) != counts[step]:
            raise DataError(f"{path}: line {line} has {len(words) - 1} numbers, expected {counts[step] - 1}.")
    if len(body) % period:
        raise DataError(f"{path}: ends inside frame {first + len(body) // period}, after line {body[-1][0]}; cut off?")


def _motion(values: Array, names: Sequence[str], skeleton: Asf, scale: float) -> Amc:
    """Numbers of all frames (T, C) sorted by bone and axis."""
    moved = np.zeros((len(values), 3))
    angles: dict[str, Array] = {}
    column = 0
    for name in names:
        dof = skeleton.channels[skeleton.index[name]]
        for channel in dof:
            target = moved if channel[0] == "t" else angles.setdefault(name, np.zeros((len(values), 3)))
            target[:, "xyz".index(channel[1])] = values[:, column] * (1.0 if channel[0] == "t" else scale)
            column += 1
    return Amc(moved, angles)

"""What a converter is, and what it sees of a checkpoint: names and shapes, never the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from poseda.errors import CheckpointError

SKELETONS = {17: "h36m17", 16: "h36m16", 15: "humaneva15"}
"""Joint sets of the published weights by their number of joints."""

METRES = "metres relative to the root, given in mm"
IMAGE = "2.5D image units, brought to mm by a body size that is assumed"

HEADS = "The number of attention heads, 8, is the published one: the file does not tell."
OTHER_17 = (
    "The 17 joints are taken in Human3.6M's order; weights trained on MPI-INF-3DHP's 17 joints have the same shapes "
    "and would give wrong poses."
)
TIES = (
    "Of equally dense frames HoT keeps the first here (ties=first), where the original draws a random one in each "
    "pass: outputs differ where the draw does."
)
SCALE = (
    "The network gives 2.5D image coordinates, whose scale in mm its authors take from each frame's labels. Without "
    "labels it is unknown: every pose is scaled until its bones sum to 4150 mm, those of Human3.6M's subject 1 "
    "(lifter option bones_mm), after its perspective is undone for the focal length of Human3.6M's cameras (option "
    "focal). People of another size get this one; errors after alignment of scale are free of that assumption, plain "
    "MPJPE is not, and is not the authors' number, which is computed on 2.5D labels."
)
UNTRAINED = (
    "HoT's repository has no training script and no weights for this network: that its output is 2.5D, as that of the "
    "network it prunes, is assumed."
)
CONFIDENCE = "The third input, the detector's confidence, is 1 for all joints."


@dataclass(frozen=True)
class Layout:
    """Names and shapes of a checkpoint's weights, without `module.`, and what lies beside them."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    beside: frozenset[str] = frozenset()
    """Other keys of the dictionary that holds the weights' dictionary, such as epoch or lr."""

    def size(self, key: str, axis: int) -> int:
        """Length of a weight along an axis. Raises CheckpointError where there is none."""
        shape = self.shapes.get(key)
        if shape is None or not -len(shape) <= axis < len(shape):
            raise CheckpointError(f"{self.path}: lacks {key}, or it has too few axes; its size cannot be told.")
        return shape[axis]

    def count(self, prefix: str) -> int:
        """How many numbers follow a prefix: the layers of a list."""
        rest = (key.removeprefix(prefix).partition(".")[0] for key in self.shapes if key.startswith(prefix))
        return len({number for number in rest if number.isdecimal()})

    def ratio(self, hidden: str, width: str) -> float:
        """Width of a hidden layer over that of its input, of one weight's first axis and another's last."""
        return self.size(hidden, 0) / max(self.size(width, -1), 1)

    def skeleton(self, joints: int) -> str:
        """The joint set that published weights of so many joints are for. Raises CheckpointError for others."""
        if joints not in SKELETONS:
            known = ", ".join(map(str, SKELETONS))
            raise CheckpointError(f"{self.path}: its network has {joints} joints; known are networks of {known}.")
        return SKELETONS[joints]

    def refuse(self, why: str) -> CheckpointError:
        """The error to raise for weights that are recognised and cannot be used."""
        return CheckpointError(f"{self.path}: {why}")


@dataclass(frozen=True)
class Reading:
    """What a converter makes of a layout: a lifter of poseda, its options, and how the weights become its own."""

    lifter: str
    options: Mapping[str, object]
    remarks: tuple[str, ...] = ()
    """Sentences on what was assumed."""
    units: str = METRES
    repository: str = ""
    """Where it is another one than the converter's."""
    rename: Callable[[str], str] = field(default=lambda key: key)
    """The lifter's name of an original weight."""
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    """The lifter's weights of the original ones, after renaming, where their numbers or shapes are not the lifter's."""


@dataclass(frozen=True)
class Converter:
    """One layout of one repository. A file of this package that sets OFFICIAL to one adds it."""

    repository: str
    keys: tuple[str, ...]
    """How some of its weights' names begin; all must occur."""
    read: Callable[[Layout], Reading]
    without: tuple[str, ...] = ()
    """Beginnings that tell other layouts with the same `keys`; none may occur."""

    def recognises(self, layout: Layout) -> bool:
        """Whether the names are those of this layout."""
        return self.share(layout) == 1.0 and not any(_occurs(key, layout) for key in self.without)

    def share(self, layout: Layout) -> float:
        """Which part of `keys` occurs."""
        return sum(_occurs(key, layout) for key in self.keys) / len(self.keys)


def _occurs(beginning: str, layout: Layout) -> bool:
    return any(key.startswith(beginning) for key in layout.shapes)

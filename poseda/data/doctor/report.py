"""What the doctor says: findings, and the numbers and sentences of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "hint"]
_RANK = {"error": 0, "warning": 1, "hint": 2}


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong."""

    severity: Severity
    code: str
    """Which fault, in one word such as "joint-order"; each is reported once."""
    what: str
    """What is wrong."""
    evidence: str
    """The number that says so."""
    cause: str
    """What most likely happened."""
    remedy: str
    """What to do."""

    def text(self) -> str:
        """Four lines."""
        return f"{self.severity}: {self.what}\n  seen:  {self.evidence}\n  cause: {self.cause}\n  do:    {self.remedy}"


@dataclass(frozen=True)
class Bones:
    """Bones of one group, left and right together."""

    length: float
    """Median, mm (in the data's own unit)."""
    ratio: float
    """Left over right; NaN for bones in the middle."""
    spread: float
    """Standard deviation over the length, within a person; the worst bone of the group."""


@dataclass(frozen=True)
class Reprojection:
    """Distance of the projected 3D from the 2D, visible joints."""

    median: float
    """px."""
    high: float
    """px, 95 %."""
    median_400: float
    """px at a person's box of 400 px."""
    high_400: float
    """px at a person's box of 400 px, 95 %."""
    cameras: tuple[float, ...]
    """Median px of each camera; NaN where nobody is seen by it."""


@dataclass(frozen=True)
class Numbers:
    """Facts about the data, in the data's own units; None where there is no 3D."""

    frames: int
    looked_at: int
    """Frames that the other numbers are from."""
    sequences: int
    subjects: dict[str, int]
    """Frames of each person."""
    fps: float
    skeleton: str
    source: str
    """Of the 2D."""
    label_scale: str
    image_sizes: tuple[tuple[int, int], ...]
    """Width and height of the cameras, each pair once."""
    cameras: int
    focal: tuple[float, float]
    """Least and largest, px."""
    view: tuple[float, float]
    """Least and largest field of view over the image's width, degrees."""
    low: tuple[float, float]
    """Least x and y of the 2D (0.5 %), px."""
    high: tuple[float, float]
    """Largest x and y of the 2D (99.5 %), px."""
    outside: float
    """Share of visible joints that lie outside the image."""
    box: tuple[float, float, float]
    """Longer side of a person's box: 5 %, median, 95 %, px."""
    missing: dict[str, float]
    """Share of frames in which each joint is missing."""
    upright: float
    """Share of frames whose trunk points up in the image, within 60 degrees."""
    distance: tuple[float, float, float] | None = None
    """Root from the camera: 5 %, median, 95 %."""
    up: tuple[float, float, float] | None = None
    """Median direction of the trunk, from the hips to the shoulders, in the frame of the poses."""
    speed: float | None = None
    """95 % of the speeds of hands, feet and head, in units of the poses a second."""
    scale: dict[str, float] | None = None
    """3D size of each person over the size that the 2D show."""
    bones: dict[str, Bones] | None = None
    reprojection: Reprojection | None = None


@dataclass(frozen=True)
class Report:
    """Numbers of a data set and what looks wrong in it, the worst first."""

    name: str
    numbers: Numbers
    findings: tuple[Finding, ...]

    def text(self) -> str:
        """The page to print."""
        if not self.findings:
            return "\n".join([*_page(self.name, self.numbers), "nothing looks wrong"])
        count = f"{len(self.findings)} {'thing looks' if len(self.findings) == 1 else 'things look'} wrong"
        return "\n".join([*_page(self.name, self.numbers), count, *(finding.text() for finding in self.findings)])


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """The worst first, one of each code: the first found of the worst severity."""
    first: dict[str, Finding] = {}
    for finding in sorted(findings, key=_rank):
        first.setdefault(finding.code, finding)
    return tuple(first.values())


def _rank(finding: Finding) -> int:
    return _RANK[finding.severity]


def _page(name: str, numbers: Numbers) -> list[str]:
    rows = {**_facts_2d(numbers), **_facts_3d(numbers)}
    return [f"{name}: {_headline(numbers)}", *(f"  {key:<13} {value}" for key, value in rows.items())]


def _headline(n: Numbers) -> str:
    kind = "2D only" if n.bones is None else "2D and 3D"
    looked = "" if n.looked_at == n.frames else f" ({n.looked_at} looked at)"
    return f"{kind}, {n.frames} frames{looked} at {n.fps:g} fps, {n.sequences} sequences, {n.skeleton}"


def _facts_2d(n: Numbers) -> dict[str, str]:
    people = sorted(n.subjects.items())
    shown = ", ".join(f"{name} {frames}" for name, frames in people[:8]) + (", ..." if len(people) > 8 else "")
    sizes = ", ".join(f"{w}x{h}" for w, h in n.image_sizes[:4]) + (", ..." if len(n.image_sizes) > 4 else "")
    worst = sorted(n.missing.items(), key=lambda item: -item[1])[:3]
    worst_joints = ", ".join(f"{joint} {share:.1%}" for joint, share in worst if share > 0)
    absent = sum(n.missing.values()) / len(n.missing)
    low, high = n.low, n.high
    return {
        "subjects": f"{len(people)}: {shown}",
        "cameras": f"{n.cameras}: {sizes} px; focal {_range(n.focal, '.0f')} px, view {_range(n.view, '.0f')} degrees",
        "2D": f"{n.source}; x {low[0]:.4g} to {high[0]:.4g}, y {low[1]:.4g} to {high[1]:.4g} px; "
        f"{n.outside:.1%} outside the image",
        "person's box": f"{n.box[1]:.4g} px (5 % {n.box[0]:.4g}, 95 % {n.box[2]:.4g})",
        "missing": f"{absent:.1%} of all joints" + (f"; worst {worst_joints}" if worst_joints else ""),
        "upright": f"{n.upright:.0%} of frames in the image" + (f"; up in 3D is {_vector(n.up)}" if n.up else ""),
    }


def _facts_3d(n: Numbers) -> dict[str, str]:
    rows = {}
    if n.distance is not None:
        rows["distance"] = f"{n.distance[1]:.4g} mm (5 % {n.distance[0]:.4g}, 95 % {n.distance[2]:.4g})"
    if n.reprojection is not None:
        r = n.reprojection
        known = {camera: value for camera, value in enumerate(r.cameras) if value == value}
        worst = max(known, key=lambda camera: known[camera])
        rows["reprojection"] = (
            f"median {r.median:.2f} px, 95 % {r.high:.2f} px; at a 400 px box {r.median_400:.2f}, {r.high_400:.2f}; "
            f"worst camera {worst}: {known[worst]:.2f} px"
        )
    if n.scale is not None:
        values = [value for value in n.scale.values() if value == value]
        span = f"3D is {_range((min(values), max(values)), '.3f')} of the 2D's size" if values else "size not known"
        rows["label scale"] = f"{n.label_scale}; {span}"
    if n.speed is not None:
        rows["speed"] = f"95 % of hands, feet and head below {n.speed / 1000:.3g} m/s"
    if n.bones is not None:
        rows["bones"] = "length mm, left/right, spread within a person"
        rows |= {f"  {group}": _bone(bone) for group, bone in n.bones.items()}
    return rows


def _bone(bone: Bones) -> str:
    ratio = "    " if bone.ratio != bone.ratio else f"{bone.ratio:4.2f}"
    return f"{bone.length:6.4g}  {ratio}  {bone.spread:.1%}"


def _range(ends: tuple[float, float], form: str) -> str:
    low, high = (format(end, form) for end in ends)
    return low if low == high else f"{low} to {high}"


def _vector(vector: tuple[float, float, float]) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in vector) + ")"

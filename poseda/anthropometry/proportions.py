"""Proportions of the target's people beside those of the source, from 2D of the target as a whole.

What data sets differ in most is where they place joints: hips and shoulders farther apart, the thorax higher. So the
trunk is measured from the middle of the hips to that of the shoulders, girdles by their width, and the joints of the
trunk (pelvis, spine, thorax) by how far along it they lie; limbs, neck and head by their bones.

A segment that is nearly parallel to the image is seen at full length. In each frame the scale (ray units per mm) is
that of the segments that are least foreshortened if lengths are as assumed; of each kind of segment, an upper quantile
over all frames of seen length / scale says its length; and so on to a fixed point. The same measurement on the source's
own 2D, of poses whose lengths are known, takes away what perspective and typical postures add. One view cannot tell
size from depth, so that ratios are relative: their geometric mean is 1. Our own; nothing is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from poseda.anthropometry.people import people_of
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.skeleton import Skeleton

QUANTILE = 0.9
"""Of seen lengths over frames: near the longest, and not the noise beyond it."""
SCALE_QUANTILE = 0.8
"""Of a frame's segments, for its scale."""
MOST_FRAMES = 20_000
"""Frames measured on each side."""
FEWEST_FRAMES = 500
"""A person who is seen in fewer, or a kind of segment that fewer show, is not measured alone. Stretches of 500
frames of real motion gave proportions worse than none once in 27 (experiments/bodies)."""
FIXED_POINT_STEPS = 20
LARGEST = 2.0
"""A ratio beyond 1 / LARGEST and LARGEST is no measurement: the 2D lacks a joint, or has made it up from others."""
LARGEST_SHIFT = 0.25
"""A joint of the trunk moves by this share of the trunk at most."""


@dataclass(frozen=True)
class Anatomy:
    """What a skeleton is measured by. Point J is the middle of the hips, J + 1 that of the shoulders."""

    skeleton: Skeleton

    @staticmethod
    def fits(skeleton: Skeleton) -> bool:
        """Whether a skeleton has the hips and shoulders that all is measured from."""
        return {"lhip", "rhip", "lshoulder", "rshoulder"} <= set(skeleton.joints)

    @cached_property
    def girdles(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Left and right hip, left and right shoulder."""
        place = self.skeleton.index
        return (place("lhip"), place("rhip")), (place("lshoulder"), place("rshoulder"))

    @cached_property
    def trunk(self) -> tuple[int, ...]:
        """Joints of the trunk: those on the way from hips and shoulders to the root, and the root."""
        found = {self.skeleton.root}
        for joint in (joint for girdle in self.girdles for joint in girdle):
            while (joint := self.skeleton.parents[joint]) != -1:
                found.add(joint)
        return tuple(sorted(found))

    @cached_property
    def segments(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Pairs of points by kind: hips, shoulders, trunk, and all bones that belong to none of them."""
        count = self.skeleton.num_joints
        hips, shoulders = self.girdles
        kinds: dict[str, tuple[tuple[int, int], ...]] = {
            "hips": (hips,), "shoulders": (shoulders,), "trunk": ((count, count + 1),),
        }  # fmt: skip
        inner = {*hips, *shoulders, *self.trunk}
        for name, members in self.skeleton.bone_groups.items():
            bones = tuple(self.skeleton.bones[bone] for bone in members if self.skeleton.bones[bone][1] not in inner)
            if bones:
                kinds[name] = bones
        return kinds

    def points(self, joints: Tensor) -> Tensor:
        """Joints (..., J, C) and both middles -> (..., J + 2, C)."""
        middles = [joints[..., list(girdle), :].mean(-2, keepdim=True) for girdle in self.girdles]
        return torch.cat([joints, *middles], -2)

    def seen(self, visible: Tensor) -> Tensor:
        """Which of the points (..., J + 2) are visible, of joints (..., J) bool."""
        return torch.cat([visible, *(visible[..., list(girdle)].all(-1, keepdim=True) for girdle in self.girdles)], -1)


@dataclass(frozen=True, eq=False)
class Proportions:
    """The target's people over the source's."""

    ratios: dict[str, float]
    """Length of each kind of segment of the anatomy; geometric mean 1."""
    shifts: dict[int, float]
    """How much farther up the trunk each of its joints lies, as a share of the trunk."""

    def matrix(self, anatomy: Anatomy) -> Tensor:
        """(J, J): joints to joints with these proportions, relative to the root; rows sum to 0.

        Linear in the joints: the trunk, the girdles and each limb bone change their length and keep their direction.
        """
        skeleton = anatomy.skeleton
        one = torch.eye(skeleton.num_joints, dtype=torch.float64)
        middle, top = (one[list(girdle)].mean(0) for girdle in anatomy.girdles)
        trunk = self.ratios["trunk"] * (top - middle)
        rows: dict[int, Tensor] = {
            joint: self.ratios["trunk"] * (one[joint] - middle) + self.shifts[joint] * trunk for joint in anatomy.trunk
        }
        for name, girdle, centre, start in zip(
            ("hips", "shoulders"), anatomy.girdles, (middle, top), (0 * trunk, trunk), strict=True
        ):
            rows |= {joint: start + self.ratios[name] * (one[joint] - centre) for joint in girdle}
        kind = {child: name for name, pairs in anatomy.segments.items() for _, child in pairs if child not in rows}
        while len(rows) < skeleton.num_joints:  # parents may come after their children
            for joint, parent in enumerate(skeleton.parents):
                if joint not in rows and parent in rows:
                    rows[joint] = rows[parent] + self.ratios[kind[joint]] * (one[joint] - one[parent])
        return torch.stack([rows[joint] - rows[skeleton.root] for joint in range(skeleton.num_joints)])


def of_people(
    clips: LabelledClips | UnlabelledClips, rays: Tensor, anatomy: Anatomy, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Log lengths (K,) and places along the trunk, the means over people, each measured alone from rays (F, J, 2).

    Measured together, the longest segments of a few would pass for everybody's; only those who are seen in too few
    frames for themselves are. NaN for what nobody shows often enough.
    """
    person = people_of(clips)
    often = torch.bincount(person, minlength=len(clips.subjects)) >= FEWEST_FRAMES
    person = torch.where(often[person], person, -1)
    masks = [person == number for number in sorted(set(person.tolist()))]
    each = [measured(rays[who], clips.visible[who], anatomy, start) for who in masks]
    return torch.stack([one[0].log() for one in each]).nanmean(0), torch.stack([one[1] for one in each]).nanmean(0)


def rebuilt(poses: Tensor, matrix: Tensor, skeleton: Skeleton) -> Tensor:
    """Poses (F, J, 3) mm whose joints relative to the root are `matrix` (J, J) times what they were; roots stay."""
    root = poses[:, skeleton.root : skeleton.root + 1]
    # not a matmul, which TF32 would round
    return root + (matrix.to(poses)[:, :, None] * (poses - root).unsqueeze(1)).sum(2)


def mean_lengths(poses: Tensor, anatomy: Anatomy) -> Tensor:
    """(K,) mean length mm of each kind of segment of poses (F, J, 3) mm."""
    points = anatomy.points(poses)
    lengths = [points[:, list(ends)].diff(dim=1).norm(dim=-1) for ends in _all(anatomy)]
    kinds = _kinds(anatomy)
    return torch.stack([torch.cat(lengths, 1)[:, kinds == kind].mean() for kind in range(len(anatomy.segments))])


def measured(rays: Tensor, visible: Tensor, anatomy: Anatomy, start: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (K,) of the median of `start` (K,), and places along the trunk, from rays (F, J, 2), visible
    (F, J) bool: (joints of the trunk,), 0 at the hips and 1 at the shoulders.

    NaN for what fewer than FEWEST_FRAMES frames show.
    """
    points, shown = anatomy.points(rays), anatomy.seen(visible)
    pairs = torch.tensor(_all(anatomy), device=rays.device)
    kinds = _kinds(anatomy).to(rays.device)
    seen = (points[:, pairs[:, 0]] - points[:, pairs[:, 1]]).norm(dim=-1)
    hidden = ~shown[:, pairs].all(-1)
    seen = seen.masked_fill(hidden, torch.nan)  # (F, segments)
    lengths = start.clone()
    for _ in range(FIXED_POINT_STEPS):
        scale = (seen / lengths[kinds]).nanquantile(SCALE_QUANTILE, 1, keepdim=True)
        share = seen / scale.where(scale > 0, torch.nan)
        members = [share[:, kinds == kind].flatten() for kind in range(len(start))]
        longest = torch.stack([some.nanquantile(QUANTILE) for some in members])
        lengths = lengths + 0.5 * (longest.where(longest.isfinite(), lengths) - lengths)
        lengths = lengths * (start / lengths).log().nan_to_num(0.0).median().exp()
    frames = torch.stack([(~hidden[:, kinds == kind]).double().mean(1).sum() for kind in range(len(start))])
    trunk = share[:, list(anatomy.segments).index("trunk")]
    return lengths.where(frames >= FEWEST_FRAMES, torch.nan), _places(points, shown, anatomy, trunk)


def _places(points: Tensor, shown: Tensor, anatomy: Anatomy, trunk: Tensor) -> Tensor:
    """Median place of the trunk's joints along it, over the half of frames in which it (F,) is least foreshortened."""
    count = anatomy.skeleton.num_joints
    upright = trunk >= trunk.nanmedian()
    axis = points[:, count + 1] - points[:, count]
    places = []
    for joint in anatomy.trunk:
        use = upright & shown[:, joint]
        along = ((points[:, joint] - points[:, count]) * axis).sum(-1) / axis.square().sum(-1).clamp_min(1e-12)
        enough = bool(use.sum() >= FEWEST_FRAMES / 2)
        places.append(along[use].median() if enough else along.new_tensor(torch.nan))
    return torch.stack(places)


def _all(anatomy: Anatomy) -> list[tuple[int, int]]:
    return [pair for pairs in anatomy.segments.values() for pair in pairs]


def _kinds(anatomy: Anatomy) -> Tensor:
    """(segments,) the number of each one's kind."""
    return torch.tensor([kind for kind, pairs in enumerate(anatomy.segments.values()) for _ in pairs])

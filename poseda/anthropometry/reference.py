"""What people are measured beside: the source's, whose bodies are known. The same measurement on both takes away what
it adds by itself.

A few hundred numbers say all of it, so that a lifter's card can: where the source's clips are not at hand, its people
are measured beside all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poseda.anthropometry.height import FloorReference, standing_share
from poseda.anthropometry.people import alike
from poseda.anthropometry.proportions import (
    FEWEST_FRAMES,
    LARGEST,
    LARGEST_SHIFT,
    MOST_FRAMES,
    Anatomy,
    Proportions,
    mean_lengths,
    of_people,
)
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.errors import CheckpointError
from poseda.geometry.bones import bone_lengths
from poseda.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Reference:
    """People of known bodies, all alike however long they were filmed. Tensors are float64, on the CPU."""

    anatomy: Anatomy
    lengths: Tensor
    """(K,) mean lengths mm of the anatomy's segments in 3D."""
    seen: Tensor
    """(K,) the same as 2D shows them, mm; NaN where hardly any frame does."""
    places: Tensor
    """(joints of the trunk,) how far along it they lie, as 2D shows it."""
    products: Tensor
    """(J, J) mm²: mean inner products of joints relative to the root. Of any linear change of the joints it tells the
    root mean square of each bone."""
    steady: Tensor
    """(E,) mean length of each bone over its root mean square; below 1 where people differ, or their spines bend."""
    floor: FloorReference | None
    """Their height as the floor tells it; None where it does not."""

    @classmethod
    def of(cls, source: LabelledClips) -> Reference | None:
        """None for a skeleton without hips and shoulders, or bodies of which a segment has no length."""
        skeleton = source.skeleton
        if not Anatomy.fits(skeleton):
            return None
        some, anatomy = alike(source, MOST_FRAMES, FEWEST_FRAMES), Anatomy(skeleton)
        start = mean_lengths(some.poses, anatomy)
        if not bool((start > 0).all()):
            return None
        seen, places = of_people(some, some.poses[..., :2] / some.poses[..., 2:], anatomy, start)
        relative = (some.poses - some.poses[:, skeleton.root, None]).cpu().double().transpose(0, 1).flatten(1)
        products = relative @ relative.mT / some.num_frames
        bones = bone_lengths(some.poses, skeleton).cpu().double()
        steady = (bones.mean(0) / bones.square().mean(0).sqrt()).nan_to_num(1.0)  # a bone of joints in one place
        lengths, seen, places = (value.cpu().double() for value in (start, seen, places))
        return cls(anatomy, lengths, seen.exp(), places, products, steady, FloorReference.of(source))

    def proportions(self, target: UnlabelledClips) -> Proportions | None:
        """Proportions of the target's people over those of the source's; None where hardly any segment is seen.

        People count alike, however long they are seen.
        """
        target = alike(target, MOST_FRAMES, FEWEST_FRAMES)
        cameras = target.cameras_at(torch.arange(target.num_frames, device=target.keypoints.device))
        rays = cameras.unproject(target.keypoints)
        log, places = (value.cpu().double() for value in of_people(target, rays, self.anatomy, self.lengths.to(rays)))
        log, shift = log - self.seen.log(), places - self.places
        log = log - log[log.isfinite()].median() if bool(log.isfinite().any()) else log
        known = log.abs() < math.log(LARGEST)  # a NaN is not
        if not bool(known.any()):
            return None
        ratios = torch.where(known, log - log[known].mean(), 0.0).exp().tolist()
        shifts = shift.nan_to_num(0.0).clamp(-LARGEST_SHIFT, LARGEST_SHIFT).tolist()
        return Proportions(
            dict(zip(self.anatomy.segments, ratios, strict=True)), dict(zip(self.anatomy.trunk, shifts, strict=True))
        )

    def bones(self, proportions: Proportions | None = None) -> Tensor:
        """(E,) mm: mean lengths of these people's bones, with other proportions if given."""
        spans = self.anatomy.skeleton.bone_matrix(self.products)
        spans = spans @ proportions.matrix(self.anatomy) if proportions else spans
        return self.steady * (spans @ self.products * spans).sum(-1).clamp_min(0.0).sqrt()

    def standing(self, bones: Tensor) -> float:
        """Height mm from ankles to head of somebody with these bones (E,) mm, along them."""
        return float((standing_share(self.anatomy.skeleton).double() * bones.cpu().double()).sum())

    def to_card(self) -> dict[str, Any]:
        """Plain numbers for a card, null for what nobody shows."""
        rows, columns = torch.tril_indices(*self.products.shape).tolist()
        floor = {"ankle_mm": self.floor.ankle, "height_mm": self.floor.height} if self.floor else None
        return {
            "segments": list(self.anatomy.segments),
            "length_mm": _plain(self.lengths),
            "seen_mm": _plain(self.seen),
            "place": _plain(self.places, 5),
            "products_mm2": _plain(self.products[rows, columns], 1),
            "steady": _plain(self.steady, 5),
            "floor": {key: round(value, 2) for key, value in floor.items()} if floor else None,
        }

    @classmethod
    def from_card(cls, given: object, skeleton: Skeleton) -> Reference:
        """What `to_card` wrote, of people with this skeleton; CheckpointError for anything else."""
        if not isinstance(given, Mapping) or not Anatomy.fits(skeleton):
            raise CheckpointError("the card's people are no object, or its joints lack hips and shoulders.")
        anatomy, joints = Anatomy(skeleton), skeleton.num_joints
        if given.get("segments") != list(anatomy.segments):
            raise CheckpointError(f"the card's people are not measured by {', '.join(anatomy.segments)}.")
        kinds = len(anatomy.segments)
        products = torch.zeros(joints, joints, dtype=torch.float64)
        rows, columns = torch.tril_indices(joints, joints).tolist()
        products[rows, columns] = _numbers(given, "products_mm2", len(rows))
        products[columns, rows] = products[rows, columns]
        return cls(
            anatomy,
            _numbers(given, "length_mm", kinds, above=0.0),
            _numbers(given, "seen_mm", kinds, above=0.0, missing=True),
            _numbers(given, "place", len(anatomy.trunk), missing=True),
            products,
            _numbers(given, "steady", len(skeleton.bones), above=0.0),
            _floor(given.get("floor")),
        )


def _floor(given: object) -> FloorReference | None:
    if given is None:
        return None
    keys = ("ankle_mm", "height_mm")
    if not isinstance(given, Mapping) or not all(_is_number(given.get(key)) and given[key] > 0 for key in keys):
        raise CheckpointError("the card's floor must say ankle_mm and height_mm, in mm above 0.")
    return FloorReference(*(float(given[key]) for key in keys))


def _plain(values: Tensor, digits: int = 3) -> list[float | None]:
    return [round(x, digits) if math.isfinite(x) else None for x in values.tolist()]


def _numbers(
    given: Mapping[str, Any], key: str, count: int, *, above: float = -math.inf, missing: bool = False
) -> Tensor:
    """(count,) float64, NaN for null where numbers may be `missing`."""
    values = given.get(key)
    fine = isinstance(values, list) and len(values) == count
    if not fine or not all((x is None and missing) or (_is_number(x) and x > above) for x in values):  # type: ignore[union-attr]
        raise CheckpointError(f"the card's {key} of people must be {count} numbers{' above 0' if above == 0 else ''}.")
    return torch.tensor([math.nan if x is None else x for x in values], dtype=torch.float64)  # type: ignore[union-attr]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

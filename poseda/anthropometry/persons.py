"""The bones of each person, in mm, from all 2D of that person."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from poseda.anthropometry.people import people_of
from poseda.anthropometry.reference import Reference
from poseda.data.clips import UnlabelledClips
from poseda.geometry.bones import bone_lengths


class Measured(NamedTuple):
    """Bones of people, and how many could be measured."""

    bones: Tensor
    """(F, E) mm, NaN in the frames of people who could not."""
    people: int
    measured: int
    by_floor: int
    """Those whose height the floor tells; the others are as large as their lifted poses are on average."""

    def sentence(self) -> str:
        """What was measured of whom."""
        return (
            f"bones of {self.measured} of {self.people} people measured on their 2D, the height of {self.by_floor} "
            "from the floor"
        )


def person_bones(reference: Reference, clips: UnlabelledClips, poses: Tensor, *, floor: bool = True) -> Measured:
    """Bones of each person of `clips`, beside the people of `reference`; poses (F, J, 3) mm are the lifted ones.

    With `floor`, people whose height the floor tells are as tall as that.
    """
    skeleton, person = clips.skeleton, people_of(clips)
    lifted = bone_lengths(poses, skeleton).sum(-1)
    on_floor = reference.floor if floor else None
    bones = poses.new_full((clips.num_frames, len(skeleton.bones)), torch.nan)
    measured = by_floor = 0
    for number, name in enumerate(clips.subjects):
        one = clips.select(lambda sequence, name=name: sequence.subject == name)  # type: ignore[misc]
        found = reference.proportions(one)
        if found is None:
            continue
        who = person == number
        lengths = reference.bones(found)
        height = on_floor.size_of(one) if on_floor else None
        if height is None:
            scale = float(lifted[who].mean() / lengths.sum())
        else:
            scale = height[0] * reference.standing(reference.bones()) / reference.standing(lengths)
        bones[who] = (scale * lengths).to(bones)
        measured, by_floor = measured + 1, by_floor + (height is not None)
    return Measured(bones, len(clips.subjects), measured, by_floor)

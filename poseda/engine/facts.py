"""What a lifter's card says of its source, for stages that adapt where the source's data are not at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poseda.anthropometry.reference import Reference
from poseda.data.clips import LabelledClips
from poseda.engine.evaluate import scored_runs
from poseda.errors import CheckpointError
from poseda.geometry.bones import bone_lengths
from poseda.lifters.base import Lifter
from poseda.lifters.inference import lift_clips
from poseda.skeleton import Skeleton

FACTS = "facts"
"""Key of a card under which they lie."""


@dataclass(frozen=True, eq=False)
class SourceFacts:
    """Errors and bones of people whom the lifter has not seen, where there are such; None for what a card does not
    say."""

    joint_error_mm: Tensor | None = None
    """(J,) mm: mean error of each joint, relative to the root."""
    bone_mm: Tensor | None = None
    """(J - 1,) mm: mean length of each bone, in the order of the skeleton's bones."""
    people: Reference | None = None
    """The people that the lifter was trained on, for measuring others beside them."""

    def to_card(self) -> dict[str, Any]:
        """Plain numbers for a card."""
        known = {"joint_error_mm": self.joint_error_mm, "bone_mm": self.bone_mm}
        card: dict[str, Any] = {
            key: [round(x, 3) for x in value.tolist()] for key, value in known.items() if value is not None
        }
        return card | ({"people": self.people.to_card()} if self.people else {})


def measure_facts(lifter: Lifter, clips: LabelledClips, trained_on: LabelledClips) -> SourceFacts:
    """Facts of a finished lifter on labelled clips that it has not seen, where frames that are not scored are left out;
    and of the people that it was trained on."""
    rows, _, _ = scored_runs(clips)
    relative = clips.poses - clips.poses[:, clips.skeleton.root, None]
    errors = (lift_clips(lifter, clips).poses - relative)[rows].norm(dim=-1).mean(0)
    bones = bone_lengths(clips.poses[rows], clips.skeleton).mean(0)
    return SourceFacts(errors, bones, Reference.of(trained_on))


def facts_of(card: Mapping[str, Any], skeleton: Skeleton) -> SourceFacts:
    """What the card of a lifter with these joints says of its source; all of it unknown where it says nothing.

    Raises CheckpointError for facts that are not positive numbers, one a joint.
    """
    given = card.get(FACTS, {})
    lengths = {"joint_error_mm": skeleton.num_joints, "bone_mm": len(skeleton.bones)}
    if not isinstance(given, Mapping):
        raise CheckpointError("the card's facts are no object of lists.")
    people = Reference.from_card(given["people"], skeleton) if "people" in given else None
    numbers = {key: _numbers(given[key], key, n) for key, n in lengths.items() if key in given}
    return SourceFacts(**numbers, people=people)


def _numbers(value: object, key: str, count: int) -> Tensor:
    numbers = value if isinstance(value, list) else []
    fine = all(isinstance(x, int | float) and math.isfinite(x) and x >= 0 for x in numbers)
    if len(numbers) != count or not fine:
        raise CheckpointError(f"the card's {key} must be {count} numbers in mm, none below 0.")
    return torch.tensor(numbers, dtype=torch.float32)

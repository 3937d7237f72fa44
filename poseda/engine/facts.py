"""What a lifter's card says of its source, for stages that adapt where the source's data are not at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips
from poseda.engine.evaluate import scored_runs
from poseda.errors import CheckpointError, ConfigError
from poseda.geometry.bones import bone_lengths
from poseda.lifters.base import Lifter
from poseda.lifters.inference import lift_clips

FACTS = "facts"
"""Key of a card under which they lie."""


@dataclass(frozen=True, eq=False)
class SourceFacts:
    """Measured on people whom the lifter has not seen, where there are such; None for what a card does not say."""

    joint_error_mm: Tensor | None = None
    """(J,) mm: mean error of each joint, relative to the root."""
    bone_mm: Tensor | None = None
    """(J - 1,) mm: mean length of each bone, in the order of the skeleton's bones."""

    def joint_errors(self, stage: str) -> Tensor:
        """(J,) mm; ConfigError, said of `stage`, where the card has none."""
        if self.joint_error_mm is None:
            raise ConfigError(
                f"{stage} needs each joint's error on the source, and this lifter has neither a sigma head nor a card "
                "that says it: give source=NAME, or a lifter that python -m poseda.train has written."
            )
        return self.joint_error_mm

    def to_card(self) -> dict[str, list[float]]:
        """Plain numbers for a card."""
        known = {"joint_error_mm": self.joint_error_mm, "bone_mm": self.bone_mm}
        return {key: [round(x, 3) for x in value.tolist()] for key, value in known.items() if value is not None}


def measure_facts(lifter: Lifter, clips: LabelledClips) -> SourceFacts:
    """Facts of a finished lifter on labelled clips; frames that are not scored are left out."""
    rows, _, _ = scored_runs(clips)
    relative = clips.poses - clips.poses[:, clips.skeleton.root, None]
    errors = (lift_clips(lifter, clips).poses - relative)[rows].norm(dim=-1).mean(0)
    return SourceFacts(errors, bone_lengths(clips.poses[rows], clips.skeleton).mean(0))


def facts_of(card: Mapping[str, Any], joints: int) -> SourceFacts:
    """What a card says of its source; all of it unknown where it says nothing.

    Raises CheckpointError for facts that are not positive numbers, one a joint.
    """
    given = card.get(FACTS, {})
    lengths = {"joint_error_mm": joints, "bone_mm": joints - 1}
    if not isinstance(given, Mapping):
        raise CheckpointError("the card's facts are no object of lists.")
    return SourceFacts(**{key: _numbers(given[key], key, n) for key, n in lengths.items() if key in given})


def _numbers(value: object, key: str, count: int) -> Tensor:
    numbers = value if isinstance(value, list) else []
    fine = all(isinstance(x, int | float) and math.isfinite(x) and x >= 0 for x in numbers)
    if len(numbers) != count or not fine:
        raise CheckpointError(f"the card's {key} must be {count} numbers in mm, none below 0.")
    return torch.tensor(numbers, dtype=torch.float32)

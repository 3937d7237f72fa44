"""What an estimator of uncertainty is: from a frozen lifter and its poses to the expected error of each joint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftConfig, LiftedClips, lift_clips
from poseda.skeleton import Skeleton

LEAST_SIGMA = 0.1
"""mm: no estimator claims less, whatever it has seen."""
AnyClips = LabelledClips | UnlabelledClips


@dataclass(frozen=True, eq=False)
class Lifting:
    """Clips as a lifter sees them, for those who look at them again: the poses, and how to get others alike."""

    lifter: Lifter
    clips: AnyClips
    lifted: LiftedClips
    """Of all frames of the clips, in the order of the clips, lifted with `flip` and `config`."""
    flip: bool = False
    config: LiftConfig | None = None

    @classmethod
    def of(cls, lifter: Lifter, clips: AnyClips, flip: bool = False, config: LiftConfig | None = None) -> Lifting:
        """Lift clips in the plain way."""
        return cls(lifter, clips, lift_clips(lifter, clips, flip=flip, config=config), flip, config)

    def again(self, *, clips: AnyClips | None = None, lifter: Lifter | None = None, flip: bool | None = None) -> Tensor:
        """Poses (F, J, 3) mm of another look: other 2D, another lifter, or with and without the mirrored pass."""
        chosen = self.flip if flip is None else flip
        return lift_clips(lifter or self.lifter, clips or self.clips, flip=chosen, config=self.config).poses

    def error(self) -> Tensor:
        """True errors (F, J - 1, 3) mm of labelled clips, without the root, whose error is 0 by definition."""
        assert isinstance(self.clips, LabelledClips)
        truth = self.clips.poses
        root = self.lifter.skeleton.root
        others = moving_joints(self.lifter.skeleton, truth.device)
        return self.lifted.poses[:, others] - (truth - truth[:, root, None])[:, others]


def moving_joints(skeleton: Skeleton, device: torch.device | str = "cpu") -> Tensor:
    """Numbers (J - 1,) of all joints but the root."""
    numbers = [joint for joint in range(skeleton.num_joints) if joint != skeleton.root]
    return torch.tensor(numbers, device=device)


class Estimator(nn.Module):
    """Base of all estimators. A subclass has a frozen dataclass `Config`, and tensors of its own as buffers.

    Its state dict is all that it has learnt: an estimator that is built for the same lifter and config, and given that
    state, says the same.
    """

    Config: ClassVar[type[Any]]
    name: ClassVar[str]
    frame_by_frame: ClassVar[bool] = False
    """Whether it reads no more of a clip than each frame's own 2D, pose and sigma, so that it can follow a stream."""

    def __init__(self, config: Any, lifter: Lifter) -> None:
        super().__init__()
        self.config = config
        self.skeleton = lifter.skeleton

    @property
    def density(self) -> str:
        """The density that it is trained for, "" where it has none of its own and the caller chooses."""
        return ""

    @property
    def learns_from_training_clips(self) -> bool:
        """Whether `fit` reads the clips that the lifter was trained on beside those that it never saw."""
        return False

    def fit(self, held_out: Lifting, trained_on: Lifting | None = None) -> None:
        """Learn from labelled clips: of people that the lifter never saw, and of those that it was trained on."""

    def forward(self, seen: Lifting) -> tuple[Tensor, Tensor | None]:
        """Expected errors (F, J - 1) mm of all joints but the root, and covariances (F, J - 1, 3, 3) mm² or None."""
        raise NotImplementedError

"""Model selection without target labels: which step of an adaptation to keep, judged by what can be seen of the target.

Selecting on the target's test labels, as most published code does, hides how unstable a method is. Here the criterion
is the mean of four numbers, each divided by its own value before the first step (so that it starts at 1; lower is
better):

    reprojection  px, fixed target frames: predictions against their 2D, the root solved for in closed form
    symmetry      mm, the same predictions: difference of left and right bones
    constancy     mm, the same predictions: deviation of a bone's length inside a sequence
    source        mm, MPJPE on fixed source windows, aligned with the target as in a step but not augmented

The lifter in training is judged; where a stage keeps an average of it, the average of the chosen step is what is used.
The first three alone reward a lifter that gives one flat, stiff body; the last holds it to poses that have labels. A
number that is not defined for the data (no two sides, sequences of one frame) is left out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch
from poseda.data.clips import UnlabelledClips
from poseda.engine.supervised import training_targets, windows_in_view
from poseda.errors import ConfigError
from poseda.lifters.base import Lifter, evaluation_mode
from poseda.lifters.inference import lift_clips
from poseda.metrics.label_free import evaluate_without_labels
from poseda.stages.base import Stage

TERMS = ("reprojection", "symmetry", "constancy", "source")
TARGET_FRAMES = 2048
ALIGNED_WINDOWS = 1024


@dataclass(frozen=True, eq=False)
class Selection:
    """The step that the criterion chose, and what the lifter and the stages were then."""

    step: int
    """Steps done; 0 is the lifter before adaptation."""
    curve: tuple[Mapping[str, float], ...]
    """One entry a look: "step", "criterion", and the numbers behind it that are defined."""
    weights: Mapping[str, Tensor] = field(repr=False)
    """The lifter's state."""
    stages: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """State of those stages that have a say in which weights to use."""

    @contextmanager
    def recalled(self, stages: Sequence[Stage]) -> Iterator[None]:
        """Inside, the stages are as they were at the chosen step; afterwards as before."""
        held = [stage for stage in stages if stage.name in self.stages]
        now = [copy.deepcopy(stage.state_dict()) for stage in held]
        for stage in held:
            stage.load_state_dict(self.stages[stage.name])
        try:
            yield
        finally:
            for stage, state in zip(held, now, strict=True):
                stage.load_state_dict(state)


class Selector:
    """Looks at a lifter in training from time to time and keeps the best of what it saw. Draws no random number."""

    def __init__(
        self, lifter: Lifter, aligned: SourceBatch, target: UnlabelledClips, stages: Sequence[Stage] = ()
    ) -> None:
        """`aligned` are labelled source windows. Raises ConfigError for a target that is not UnlabelledClips."""
        if not isinstance(target, UnlabelledClips):
            raise ConfigError("Model selection takes no labelled target: give target.unlabelled().")
        self.lifter = lifter
        self.finishing = [stage for stage in stages if stage.overrides("finish")]
        self.target = target.spread(TARGET_FRAMES, lifter.frames)
        self.keypoints, poses = windows_in_view(lifter, aligned.poses, aligned.cameras)
        self.poses = training_targets(poses, lifter)
        self.weight = aligned.weight
        self.curve: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}

    def look(self, done: int) -> dict[str, Tensor]:
        """Judge the lifter after `done` steps; returns what is finite of the numbers, for the log."""
        values = self._values()
        first = self.curve[0] if self.curve else values
        values["criterion"] = criterion(values, first)
        if not self.curve or values["criterion"] < min(seen["criterion"] for seen in self.curve):
            self._keep(done)
        self.curve.append({"step": done, **values})
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        return {f"select_{name}": self.weight.new_tensor(value) for name, value in finite.items()}

    @torch.no_grad()
    def _values(self) -> dict[str, float]:
        clips = self.target
        lifted = lift_clips(self.lifter, clips)
        cameras = clips.cameras[clips.camera_index]
        seen = evaluate_without_labels(
            lifted.poses, clips.keypoints, clips.confidence, cameras, clips.bounds, clips.skeleton
        )
        with evaluation_mode(self.lifter):
            pose = self.lifter(self.keypoints).pose
        error = (pose - self.poses).norm(dim=-1).mean((1, 2))
        source = float((self.weight * error).sum() / self.weight.sum())
        values = {**seen.values, "source": source}
        return {name: values[name] for name in TERMS if math.isfinite(values.get(name, math.nan))}

    def _keep(self, done: int) -> None:
        weights = {name: value.detach().clone() for name, value in self.lifter.state_dict().items()}
        states = {stage.name: copy.deepcopy(stage.state_dict()) for stage in self.finishing}
        self.best = {"step": done, "weights": weights, "stages": states}

    @property
    def selection(self) -> Selection:
        """The best so far; there has been a look."""
        best = self.best
        return Selection(best["step"], tuple(self.curve), best["weights"], best["stages"])

    def state_dict(self) -> dict[str, Any]:
        """The curve and the best so far."""
        return {"curve": self.curve, "best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.curve, self.best = [dict(look) for look in state["curve"]], dict(state["best"])


def criterion(values: Mapping[str, float], first: Mapping[str, float]) -> float:
    """Mean of values / first over the terms that `first` has and that are not 0 there; inf where one has gone since."""
    known = [name for name in TERMS if first.get(name, 0.0) > 0.0]
    if any(name not in values for name in known) or not known:
        return math.inf
    return sum(values[name] / first[name] for name in known) / len(known)

"""Several poses for each frame, and one of them or between them by how well they fit the frame's 2D.

Multi-hypothesis lifters (D3DP, PoSynDA, FMPose3D) choose among their samples by reprojection, with the true root
trajectory; here each hypothesis gets the root at which it fits best. Any lifter can be asked for hypotheses:

    its own         where it has `hypothesise`, as a lifter that samples would
    an ensemble     checkpoints of other lifters of the same joints, trained with other seeds or data
    2D draws        the same lifter on keypoints moved by noise as large as a detector's
    a flow          its poses less errors as it makes them on the source, drawn for each frame (flow.py)

What came in is always the first hypothesis. All others, flips aside, are single passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.engine.facts import SourceFacts
from poseda.engine.official import open_lifter
from poseda.errors import ConfigError, MissingDataError, check_choices
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.stages.base import Setting, Stage
from poseda.stages.hypotheses.aggregation import aggregate
from poseda.stages.hypotheses.flow import ErrorFlow, FlowConfig
from poseda.uncertainty.base import Lifting

CHUNK = 4096
"""Frames that are aggregated at once."""
FLOW_FRAMES = 200_000
"""At most about so many frames of the source a flow learns from."""


@runtime_checkable
class Hypothesises(Protocol):
    """A lifter that has several poses to offer."""

    def hypothesise(self, clips: UnlabelledClips, generator: torch.Generator) -> Tensor:
        """Poses (F, H, J, 3) mm, root-relative in camera axes, of all frames of clips."""


@dataclass(frozen=True)
class HypothesesConfig:
    """Options of hypotheses."""

    checkpoints: tuple[str, ...] = ()
    """Lifters of the same joints; each adds a hypothesis."""
    draws: int = 0
    """Hypotheses from 2D moved by noise."""
    jitter: float = 5.0
    """Standard deviation of that noise in each direction, px."""
    flow: int = 0
    """Hypotheses from a flow that is fitted to the lifter's errors on the source."""
    flow_hidden: int = 512
    """Width of the flow's three hidden layers."""
    flow_steps: int = 3000
    """Steps of Adam with which it is fitted."""
    flow_spread: float = 1.0
    """Factor of the errors that it draws: above 1 where the target's are larger than the source's."""
    how: Literal["mean", "best", "softmax"] = "softmax"
    """mean (of all), best (the one that fits the 2D best), softmax (a mean where those count more that fit better)."""
    per: Literal["joint", "pose"] = "joint"
    """best and softmax: joint (each joint by its own error, D3DP's JPMA), pose (all by the pose's mean error)."""
    top: int = 0
    """softmax: how many of the best have a weight; 0: all."""
    temperature: float = 5.0
    """softmax: px by which a hypothesis must be worse to weigh 1/e of another."""

    def __post_init__(self) -> None:
        check_choices(self, "hypotheses")
        for name in ("draws", "flow", "top"):
            if getattr(self, name) < 0:
                raise ConfigError(f"hypotheses.{name}={getattr(self, name)}: must be 0 or more.")
        for name in ("jitter", "temperature", "flow_hidden", "flow_steps", "flow_spread"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"hypotheses.{name}={getattr(self, name)}: must be above 0.")


class Hypotheses(Stage):
    """One pose of many at test time; no target label and no true root is read."""

    Config = HypothesesConfig
    name = "hypotheses"
    label = "hypotheses"
    needs_source = False

    def __init__(self, config: HypothesesConfig | None = None, *, seed: int = 0) -> None:
        """`seed` draws the noise; in a pipeline it is the run's."""
        self.config, self.seed = config or HypothesesConfig(), seed
        self.others: list[Lifter] | None = None
        self.flow: ErrorFlow | None = None

    def prepare(self, setting: Setting) -> str:
        """Open the ensemble before anything is trained, and take the run's seed. Raises ConfigError for a flow where
        there is no source."""
        self.seed = setting.seed
        if setting.clips is None:
            self._refuse_flow()
        self._open(setting.lifter)
        count = len(self.config.checkpoints) + self.config.draws + self.config.flow
        return f"{1 + count} hypotheses, and what the lifter itself may offer, by {self.config.how}"

    def calibrate(self, lifter: Lifter, source: LabelledClips) -> None:
        """Fit the flow to the finished lifter's errors."""
        if self.config.flow:
            config = self.config
            wanted = FlowConfig(hidden=config.flow_hidden, steps=config.flow_steps, spread=config.flow_spread)
            self.flow = ErrorFlow(wanted, lifter, self.seed)
            self.flow.fit(Lifting.of(lifter, source.spread(FLOW_FRAMES, lifter.frames)))

    def calibrate_without_source(self, lifter: Lifter, facts: SourceFacts) -> None:
        """Everything but a flow does without. Raises ConfigError."""
        self._refuse_flow()

    def _refuse_flow(self) -> None:
        if self.config.flow:
            raise ConfigError("hypotheses.flow learns the lifter's errors from source clips: give source=NAME.")

    def refine(self, lifter: Lifter, clips: UnlabelledClips, lifted: LiftedClips) -> LiftedClips:
        """One pose of the hypotheses; sigma stays that of the first. Raises ConfigError where there is only one."""
        made = [part for some in self._hypotheses(lifter, clips, lifted) for part in some.to(lifted.poses).unbind(1)]
        if not made:
            raise ConfigError(
                f"hypotheses: {lifter.name} gives one pose; say hypotheses.draws=8, hypotheses.flow=8 or "
                "hypotheses.checkpoints=[FILE]."
            )
        poses = lifted.poses.clone()
        config = self.config
        for rows in torch.split(torch.arange(clips.num_frames, device=poses.device), CHUNK):
            several = torch.stack([lifted.poses[rows], *(one[rows] for one in made)], 1)
            poses[rows] = aggregate(
                several, clips.keypoints[rows], clips.confidence[rows], clips.cameras_at(rows),
                how=config.how, per=config.per, top=config.top, temperature=config.temperature,
            )  # fmt: skip
        return replace(lifted, poses=poses)

    def _hypotheses(self, lifter: Lifter, clips: UnlabelledClips, lifted: LiftedClips) -> Iterator[Tensor]:
        """Poses (F, h, J, 3) mm."""
        generator = torch.Generator(device=clips.keypoints.device).manual_seed(self.seed)
        if isinstance(lifter, Hypothesises):
            yield lifter.hypothesise(clips, generator)
        for other in self._open(lifter):
            yield lift_clips(other, clips).poses.unsqueeze(1)
        for _ in range(self.config.draws):
            noise = torch.randn(clips.keypoints.shape, generator=generator, device=generator.device)
            moved = clips.keypoints + self.config.jitter * noise.to(clips.keypoints)
            yield lift_clips(lifter, replace(clips, keypoints=moved)).poses.unsqueeze(1)

        if self.config.flow:
            if self.flow is None:
                raise ConfigError("hypotheses.flow is not fitted yet: Hypotheses.calibrate(lifter, source).")
            yield self.flow.to(lifted.poses).draw(Lifting(lifter, clips, lifted), self.config.flow, generator)

    def _open(self, lifter: Lifter) -> list[Lifter]:
        """The ensemble, on the lifter's device. Raises MissingDataError, ConfigError for other joints."""
        if self.others is None:
            for path in self.config.checkpoints:
                if not Path(path).is_file():
                    raise MissingDataError(f"hypotheses.checkpoints: {path}: there is no such file.")
            self.others = [open_lifter(path, say=_silent)[0] for path in self.config.checkpoints]
        for path, other in zip(self.config.checkpoints, self.others, strict=True):
            if other.skeleton != lifter.skeleton:
                raise ConfigError(
                    f"hypotheses.checkpoints: {path} lifts {other.skeleton.name}, not {lifter.skeleton.name}."
                )
        like = next(lifter.parameters())
        return [other.to(like) for other in self.others]


def _silent(_: str) -> None:
    """What an official checkpoint assumes is said where it is the job's own."""

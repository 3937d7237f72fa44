"""The pipeline: composes stages in the order given, and trains the lifter on what they make of the source.

One step: draw source and target windows -> a share of the source is augmented (LPA, ...) -> all is aligned with the
target (GPA, ...) -> projected with the target's cameras -> the stages learn -> the lifter learns -> the stages look
(EMA). Everything is on the device as whole tensors; nothing in a step waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch, SourceSampler, TargetBatch, TargetSampler
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.engine.loop import LoopConfig, run_loop
from poseda.engine.progress import Progress
from poseda.engine.supervised import Fitting, check_schedule, check_skeletons, screen_keypoints
from poseda.errors import ConfigError, DataError
from poseda.geometry.camera import Camera, normalise_screen
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.stages.base import Setting, Stage, Step


@dataclass(frozen=True)
class AdaptConfig:
    """Options of the adaptation loop."""

    steps: int = 600
    """Optimiser steps."""
    batch_size: int = 512
    """Windows in a step, augmented and plain ones together."""
    lr: float = 1e-3
    """Learning rate of the lifter at the start; it falls to 0 along a cosine."""
    augmented_share: float = 0.5
    """Share of the windows in a step that the augmenting stages change; the others stay as they were recorded."""
    flip: bool = True
    """Mirror a random half of the windows, so that left and right are learned alike."""
    grad_clip: float = 1.0
    """Largest norm of the lifter's gradient."""
    log_every: int = 50
    """Steps between two log lines."""

    def __post_init__(self) -> None:
        check_schedule("adapt", self.steps, self.batch_size, self.lr)
        if not 0 < self.augmented_share <= 1:
            raise ConfigError(f"adapt.augmented_share={self.augmented_share}: must be above 0 and at most 1.")


class AdaptTask:
    """One adaptation run, as the training loop sees it."""

    def __init__(
        self,
        lifter: Lifter,
        source: LabelledClips,
        target: UnlabelledClips,
        stages: Sequence[Stage],
        config: AdaptConfig,
        *,
        seed: int,
        report: Callable[[str], None] = lambda remark: None,
    ) -> None:
        self.lifter, self.stages, self.config = lifter, list(stages), config
        self.generator = torch.Generator(device=source.poses.device).manual_seed(seed)
        self.sources = SourceSampler(source, lifter.frames)
        self.targets = TargetSampler(target, lifter.frames, _usable(stages, target))
        self.fitting = Fitting(lifter, lr=config.lr, steps=config.steps, grad_clip=config.grad_clip, flip=config.flip)
        augments = any(stage.overrides("augment") for stage in stages)
        share = round(config.augmented_share * config.batch_size) if augments else 0
        self.augmented = min(max(share, 2), config.batch_size) if augments else 0  # BatchNorm needs two
        setting = Setting(lifter, source, target, config.steps, seed, self.generator)
        for stage in self.stages:
            remark = stage.prepare(setting)
            if remark:
                report(f"{stage.name}: {remark}")

    def step(self, index: int) -> Mapping[str, Tensor]:
        """One step of the stages and of the lifter."""
        original = self.sources.draw(self.config.batch_size, self.generator)
        target = self.targets.draw(self.config.batch_size, self.generator)
        batch = self._align(self._augment(original), target)
        keypoints = screen_keypoints(batch)
        scalars = self._update(index, original, batch, keypoints, target)
        losses = self.fitting.fit(index, keypoints.detach(), batch.poses.detach(), batch.weight, self.generator)
        for stage in self.stages:
            stage.after_step(self.lifter)
        return {**losses, "dropped": 1 - batch.weight.mean(), **scalars}

    def _augment(self, batch: SourceBatch) -> SourceBatch:
        """The batch with its last windows changed by the augmenting stages, in their order."""
        if not self.augmented:
            return batch
        plain, changed = split_batch(batch, self.augmented)
        for stage in self.stages:
            changed = stage.augment(changed, self.generator)
        return join_batches(plain, changed)

    def _align(self, batch: SourceBatch, target: TargetBatch) -> SourceBatch:
        for stage in self.stages:
            batch = stage.align(batch, target, self.generator)
        return batch

    def _update(
        self, index: int, original: SourceBatch, batch: SourceBatch, keypoints: Tensor, target: TargetBatch
    ) -> dict[str, Tensor]:
        """Let the stages learn from the augmented windows."""
        learners = [stage for stage in self.stages if stage.overrides("update")]
        if not learners or not self.augmented:
            return {}
        cameras = target.cameras
        step = Step(
            index=index,
            steps=self.config.steps,
            original=split_batch(original, self.augmented)[1],
            produced=split_batch(batch, self.augmented)[1],
            keypoints=keypoints[-self.augmented :],
            target=target,
            target_keypoints=normalise_screen(target.keypoints, cameras.width, cameras.height),
            lifter=self.lifter,
            generator=self.generator,
        )
        scalars: dict[str, Tensor] = {}
        for stage in learners:
            scalars |= {f"{stage.name}_{key}": value for key, value in stage.update(step).items()}
        return scalars

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            **self.fitting.state_dict(),
            "generator": self.generator.get_state(),
            "stages": {stage.name: stage.state_dict() for stage in self.stages},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.fitting.load_state_dict(state)
        self.generator.set_state(state["generator"])
        for stage in self.stages:
            stage.load_state_dict(state["stages"][stage.name])


def adapt_lifter(
    lifter: Lifter,
    source: LabelledClips,
    target: UnlabelledClips,
    stages: Sequence[Stage],
    config: AdaptConfig | None = None,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    resume: bool = True,
    report: Callable[[str], None] = lambda remark: None,
) -> Lifter:
    """Adapt `lifter`, in place, to unlabelled target clips with stages in the order given; returns the one to use.

    The lifter, the source and the target are on one device. With a `folder`, metrics and checkpoints go there and a
    killed run goes on where it stopped. Stages that act at test time alone do nothing here: see `lift_with_stages`.
    Raises ConfigError for a labelled target, other joints than the lifter's, or a stage that is given twice.
    """
    check_adaptation(lifter, source, target, stages)
    run_stages(
        lifter, source, target, stages, config or AdaptConfig(), seed=seed, folder=folder, progress=progress,
        resume=resume, report=report,
    )  # fmt: skip
    return finish_stages(lifter, source, stages)


def run_stages(
    lifter: Lifter,
    source: LabelledClips,
    target: UnlabelledClips,
    stages: Sequence[Stage],
    config: AdaptConfig,
    *,
    seed: int,
    folder: Path | None = None,
    progress: Progress | None = None,
    resume: bool = True,
    report: Callable[[str], None] = lambda remark: None,
) -> None:
    """Train `lifter` in place on what the stages make of the source; nothing happens where no stage shapes training."""
    if any(stage.shapes_training() for stage in stages):
        task = AdaptTask(lifter.train(), source, target, stages, config, seed=seed, report=report)
        loop = LoopConfig(steps=config.steps, log_every=config.log_every)
        run_loop(task, loop, seed=seed, folder=folder, progress=progress, resume=resume)
    lifter.eval()


def finish_stages(lifter: Lifter, source: LabelledClips, stages: Sequence[Stage]) -> Lifter:
    """The lifter to use after `run_stages`; test-time stages then know what they need of it."""
    for stage in stages:
        lifter = stage.finish(lifter)
    for stage in stages:
        stage.calibrate(lifter, source)
    return lifter.eval()


def lift_with_stages(
    lifter: Lifter, clips: UnlabelledClips, stages: Sequence[Stage], *, flip: bool = False
) -> LiftedClips:
    """Poses of all frames of `clips`, refined by the test-time stages in the order given."""
    lifted = lift_clips(lifter, clips, flip=flip)
    for stage in stages:
        lifted = stage.refine(lifter, clips, lifted)
    return lifted


@torch.no_grad()
def aligned_sample(
    source: LabelledClips, target: UnlabelledClips, stages: Sequence[Stage], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What alignment makes of `count` random source frames: poses (n, J, 3) mm and screen keypoints (n, J, 2)."""
    batch = SourceSampler(source, 1).draw(count, generator)
    drawn = TargetSampler(target, 1, _usable(stages, target)).draw(count, generator)
    for stage in stages:
        batch = stage.align(batch, drawn, generator)
    kept = batch.weight > 0
    return batch.poses[kept, 0], screen_keypoints(batch)[kept, 0]


def check_adaptation(lifter: Lifter, source: LabelledClips, target: UnlabelledClips, stages: Sequence[Stage]) -> None:
    """Raise ConfigError for what cannot be adapted."""
    if isinstance(target, LabelledClips):
        raise ConfigError("The target of an adaptation has no labels: give target.unlabelled().")
    check_skeletons(lifter, source.skeleton.name, source.provenance.name)
    check_skeletons(lifter, target.skeleton.name, target.provenance.name)
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"The stage {name} is given twice.")


def _usable(stages: Sequence[Stage], target: UnlabelledClips) -> Tensor | None:
    """(F,) bool: frames that all stages can work with."""
    masks = [mask for mask in (stage.usable(target) for stage in stages) if mask is not None]
    if not masks:
        return None
    usable = torch.stack(masks).all(0)
    if not bool(usable.any()):
        raise DataError(
            f"{target.provenance.name}: no frame can be adapted to; all have fewer than two visible joints."
        )
    return usable


def split_batch(batch: SourceBatch, last: int) -> tuple[SourceBatch, SourceBatch]:
    """All windows but the `last` ones, and these."""
    cut = len(batch.weight) - last
    first, second = slice(0, cut), slice(cut, None)
    return (
        SourceBatch(batch.poses[first], batch.cameras[first], batch.weight[first]),
        SourceBatch(batch.poses[second], batch.cameras[second], batch.weight[second]),
    )


def join_batches(first: SourceBatch, second: SourceBatch) -> SourceBatch:
    """The windows of both."""
    return SourceBatch(
        torch.cat([first.poses, second.poses]),
        Camera.cat([first.cameras, second.cameras]),
        torch.cat([first.weight, second.weight]),
    )

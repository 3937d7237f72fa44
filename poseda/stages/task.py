"""One adaptation run as the training loop sees it: what happens in a step, and all that a resumed run needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch, SourceSampler, TargetBatch, TargetSampler
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.engine.facts import SourceFacts
from poseda.engine.runtime import restore_generator
from poseda.engine.supervised import Addition, Fitting, check_schedule, screen_keypoints, windows_in_view
from poseda.errors import ConfigError, check_choices
from poseda.geometry.camera import Camera, normalise_screen
from poseda.lifters.base import Lifter
from poseda.lifters.norms import batch_norms
from poseda.stages.base import Lesson, Setting, Stage, Step
from poseda.stages.selection import ALIGNED_WINDOWS, Selector


@dataclass(frozen=True)
class AdaptConfig:
    """Options of the adaptation loop."""

    steps: int = 400
    """Optimiser steps; few, as the stand-ins need: on real motion 1200 were measured."""
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
    norms: Literal["auto", "batch", "source"] = "auto"
    """What BatchNorm layers normalise by: batch (each batch, whose average stays, as in training), source (the source
    model's statistics, which stay as they are), or auto (source where the lifter learns from target windows, as with
    mean_teacher and without source clips, else batch)."""
    log_every: int = 50
    """Steps between two log lines."""
    select_every: int = 0
    """Steps between two looks at how well the lifter does without any target label; the step that does best is kept
    beside the last one. 0 for none."""

    def __post_init__(self) -> None:
        check_schedule("adapt", self.steps, self.batch_size, self.lr)
        check_choices(self, "adapt")
        if not 0 < self.augmented_share <= 1:
            raise ConfigError(f"adapt.augmented_share={self.augmented_share}: must be above 0 and at most 1.")
        if self.select_every < 0:
            raise ConfigError(f"adapt.select_every={self.select_every}: must be 0 (no selection) or more.")


class AdaptTask:
    """One adaptation run, as the training loop sees it."""

    def __init__(
        self,
        lifter: Lifter,
        source: LabelledClips | None,
        target: UnlabelledClips,
        stages: Sequence[Stage],
        config: AdaptConfig,
        *,
        seed: int,
        report: Callable[[str], None] = lambda remark: None,
        facts: SourceFacts | None = None,
    ) -> None:
        self.lifter, self.stages, self.config = lifter, list(stages), config
        keep = source is None or any(stage.keeps_norms for stage in stages)
        if config.norms == "source" or (config.norms == "auto" and keep):
            norms = batch_norms(lifter)
            if config.norms == "source" and not norms:
                report(f"adapt.norms=source: {lifter.name} has no BatchNorm")
            for norm in norms:
                norm.eval()
        self.generator = torch.Generator(device=target.keypoints.device).manual_seed(seed)
        self.sources = None if source is None else SourceSampler(source, lifter.frames)
        self.targets = TargetSampler(target, lifter.frames)
        if self.targets.degenerate:
            report(f"{self.targets.degenerate} of {target.num_frames} target frames are degenerate and are not used")
        self.fitting = Fitting(lifter, lr=config.lr, steps=config.steps, grad_clip=config.grad_clip, flip=config.flip)
        augments = any(stage.overrides("augment") for stage in stages)
        share = round(config.augmented_share * config.batch_size) if augments else 0
        self.augmented = min(max(share, 2), config.batch_size) if augments else 0  # BatchNorm needs two
        setting = Setting(lifter, source, target, config.steps, seed, self.generator, facts)
        prepare_stages(stages, setting, report)
        self.teachers = [stage for stage in self.stages if stage.overrides("lifter_loss")]
        self.selector: Selector | None = None
        if config.select_every:
            if self.sources is None:
                raise ConfigError("adapt.select_every judges by source error too: give source=NAME, or leave it out.")
            aligned = aligned_windows(self.sources, self.targets, stages, ALIGNED_WINDOWS, seed)
            self.selector = Selector(lifter, aligned, target, stages)

    def step(self, index: int) -> Mapping[str, Tensor]:
        """One step of the stages and of the lifter, and a look at the lifter where one is due."""
        looks = self._look(0) if index == 0 else {}
        scalars = self._step(index)
        return {**scalars, **looks, **self._look(index + 1)}

    def _look(self, done: int) -> Mapping[str, Tensor]:
        """What the selection sees of the lifter after `done` steps; {} where no look is due."""
        due = done == self.config.steps or (self.selector is not None and done % self.config.select_every == 0)
        return self.selector.look(done) if self.selector is not None and due else {}

    def _step(self, index: int) -> Mapping[str, Tensor]:
        if self.sources is None:
            return self._step_on_target(index)
        original = self.sources.draw(self.config.batch_size, self.generator)
        target = self.targets.draw(self.config.batch_size, self.generator)
        batch = self._align(self._augment(original), target)
        keypoints = screen_keypoints(batch)
        scalars = self._update(index, original, batch, keypoints, target)
        with torch.no_grad():
            seen = windows_in_view(self.lifter, batch.poses.detach(), batch.cameras, keypoints.detach())
        fitted = (*seen, batch.weight)
        if self.teachers:
            addition = self._addition(index, *fitted, target)
            losses = self.fitting.fit(index, *fitted, self.generator, addition)
        else:
            losses = self.fitting.fit(index, *fitted, self.generator)
        return {**losses, "dropped": 1 - batch.weight.mean(), **scalars, **self._after_step()}

    def _step_on_target(self, index: int) -> Mapping[str, Tensor]:
        """A step without source clips: the lifter learns what the stages ask of it on the target, and nothing else."""
        target = self.targets.draw(self.config.batch_size, self.generator)
        nothing = self.lifter.see(target.keypoints, target.visible, target.cameras).keypoints[:0]
        poses = nothing.new_zeros(*nothing.shape[:-1], 3)
        addition = self._addition(index, nothing, poses, nothing.new_zeros(0), target)
        losses = self.fitting.fit_addition(index, addition)
        return {**losses, **self._after_step()}

    def _after_step(self) -> dict[str, Tensor]:
        """Let the stages look at the lifter, and what they say of it."""
        said = {stage.name: stage.after_step(self.lifter) or {} for stage in self.stages}
        return {f"{name}_{key}": value for name, values in said.items() for key, value in values.items()}

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

    def _addition(self, index: int, keypoints: Tensor, poses: Tensor, weight: Tensor, target: TargetBatch) -> Addition:
        """What the stages add to the lifter's loss."""
        seen = self.lifter.see(target.keypoints, target.visible, target.cameras)
        lesson = Lesson(
            index, self.config.steps, keypoints, poses, weight, target, *(seen.keypoints, seen.rotation),
            self.lifter, self.generator,
        )  # fmt: skip

        def losses(source: Tensor | None, beside: Tensor | None) -> dict[str, Tensor]:
            whole = replace(lesson, source_features=source, target_features=beside)
            given = {stage.name: stage.lifter_loss(whole) for stage in self.teachers}
            return {name: loss for name, loss in given.items() if loss is not None}

        return Addition(losses, seen.keypoints if any(stage.wants_features for stage in self.teachers) else None)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            **self.fitting.state_dict(),
            "generator": self.generator.get_state(),
            "stages": {stage.name: stage.state_dict() for stage in self.stages},
            **({"selection": self.selector.state_dict()} if self.selector else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        restore_generator(self.generator, state["generator"])
        self.fitting.load_state_dict(state)
        for stage in self.stages:
            stage.load_state_dict(state["stages"][stage.name])
        if self.selector:
            self.selector.load_state_dict(state["selection"])


def prepare_stages(stages: Sequence[Stage], setting: Setting, report: Callable[[str], None]) -> None:
    """Let the stages get ready, and pass on what they remark."""
    for stage in stages:
        remark = stage.prepare(setting)
        if remark:
            report(f"{stage.name}: {remark}")


@torch.no_grad()
def aligned_windows(
    sources: SourceSampler, targets: TargetSampler, stages: Sequence[Stage], count: int, seed: int
) -> SourceBatch:
    """(count,) random source windows, aligned as in a step but not augmented; the draws are of this call alone."""
    generator = torch.Generator(device=sources.clips.poses.device).manual_seed(seed)
    batch, target = sources.draw(count, generator), targets.draw(count, generator)
    for stage in stages:
        batch = stage.align(batch, target, generator)
    return batch


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

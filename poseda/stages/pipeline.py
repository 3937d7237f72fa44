"""The pipeline: composes stages in the order given, and trains the lifter on what they make of the source.

One step: draw source and target windows -> a share of the source is augmented (LPA, ...) -> all is aligned with the
target (GPA, ...) -> projected with the target's cameras -> the stages learn -> the lifter learns, and what the stages
add to its loss (mean teacher, CORAL, ...) -> the stages look (EMA). Everything is on the device as whole tensors;
nothing in a step waits for it. With `select_every`, numbers that need no target label choose a step (selection.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from poseda.data.batches import SourceSampler, TargetSampler
from poseda.data.clips import Clips, LabelledClips, UnlabelledClips
from poseda.engine.facts import SourceFacts
from poseda.engine.loop import LoopConfig, run_loop
from poseda.engine.progress import Progress
from poseda.engine.supervised import check_skeletons, screen_keypoints
from poseda.errors import ConfigError
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.stages.base import Setting, Stage
from poseda.stages.selection import Selection
from poseda.stages.task import AdaptConfig as AdaptConfig
from poseda.stages.task import AdaptTask as AdaptTask
from poseda.stages.task import prepare_stages


@dataclass(frozen=True, eq=False)
class Adapted:
    """What an adaptation ends with."""

    last: Lifter
    """The lifter after the last step."""
    selected: Lifter | None
    """The lifter of the step that the label-free criterion chose; None without `select_every`."""
    selection: Selection | None
    """How it was chosen."""


def adapt_lifter(
    lifter: Lifter,
    source: LabelledClips | None,
    target: UnlabelledClips,
    stages: Sequence[Stage],
    config: AdaptConfig | None = None,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    resume: bool = True,
    report: Callable[[str], None] = lambda remark: None,
    facts: SourceFacts | None = None,
) -> Lifter:
    """Adapt `lifter`, in place, to unlabelled target clips with stages in the order given; returns the one to use.

    The lifter, the source and the target are on one device. Without a source (None), stages that work on the target
    alone can be used, and `facts` (of the lifter's card) stand for what they would measure on it. With a `folder`,
    metrics and checkpoints go there and a killed run goes on where it stopped. Stages that act at test time alone do
    nothing here: see `lift_with_stages`.
    Raises ConfigError for a labelled target, other joints than the lifter's, or a stage that is given twice.
    """
    check_adaptation(lifter, source, target, stages)
    source = recast_source(source, target, stages, report)
    run_stages(
        lifter, source, target, stages, config or AdaptConfig(), seed=seed, folder=folder, progress=progress,
        resume=resume, report=report, facts=facts,
    )  # fmt: skip
    return finish_stages(lifter, source, stages, facts)


def adapt_and_select(
    lifter: Lifter,
    source: LabelledClips | None,
    target: UnlabelledClips,
    stages: Sequence[Stage],
    config: AdaptConfig,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    resume: bool = True,
    report: Callable[[str], None] = lambda remark: None,
    facts: SourceFacts | None = None,
) -> Adapted:
    """As `adapt_lifter`, and beside the last lifter the one that the label-free criterion chose.

    Test-time stages are left calibrated for the last one; `finish_selected` calibrates them for the selected.
    """
    check_adaptation(lifter, source, target, stages)
    source = recast_source(source, target, stages, report)
    selection = run_stages(
        lifter, source, target, stages, config, seed=seed, folder=folder, progress=progress, resume=resume,
        report=report, facts=facts,
    )  # fmt: skip
    selected = finish_selected(lifter, source, stages, selection, facts) if selection else None
    return Adapted(finish_stages(lifter, source, stages, facts), selected, selection)


def recast_source(
    source: LabelledClips | None,
    target: UnlabelledClips,
    stages: Sequence[Stage],
    report: Callable[[str], None] = lambda remark: None,
) -> LabelledClips | None:
    """The source as the stages want it recorded, for `run_stages` and `finish_stages`; None stays None."""
    for stage in stages:
        if source is not None and stage.overrides("recast"):
            source, remark = stage.recast(source, target)
            if remark:
                report(f"{stage.name}: {remark}")
    return source


def run_stages(
    lifter: Lifter,
    source: LabelledClips | None,
    target: UnlabelledClips,
    stages: Sequence[Stage],
    config: AdaptConfig,
    *,
    seed: int,
    folder: Path | None = None,
    progress: Progress | None = None,
    resume: bool = True,
    report: Callable[[str], None] = lambda remark: None,
    facts: SourceFacts | None = None,
) -> Selection | None:
    """Train `lifter` in place on what the stages make of the source; returns the selection where one is asked for.

    The source is one that `recast_source` has given.

    Where no stage shapes training nothing is trained and nothing selected: the stages are prepared alone.
    """
    selection = None
    if any(stage.shapes_training() for stage in stages):
        task = AdaptTask(lifter.train(), source, target, stages, config, seed=seed, report=report, facts=facts)
        loop = LoopConfig(steps=config.steps, log_every=config.log_every)
        settings = {
            "lifter": {"name": lifter.name},
            "adapt": asdict(config),
            "stages": [stage.name for stage in stages],
            **{stage.name: stage.options() for stage in stages},
        }
        run_loop(task, loop, seed=seed, folder=folder, progress=progress, resume=resume, settings=settings)
        selection = task.selector.selection if task.selector else None
    else:
        generator = torch.Generator(device=target.keypoints.device).manual_seed(seed)
        setting = Setting(lifter, source, target, config.steps, seed, generator, facts)
        prepare_stages(stages, setting, report)
    lifter.eval()
    return selection


def finish_stages(
    lifter: Lifter, source: LabelledClips | None, stages: Sequence[Stage], facts: SourceFacts | None = None
) -> Lifter:
    """The lifter to use after `run_stages`; test-time stages then know what they need of it, from source or `facts`."""
    for stage in sorted(stages, key=lambda stage: stage.finishes_last):
        lifter = stage.finish(lifter)
    for stage in stages:
        if source is None:
            stage.calibrate_without_source(lifter, facts or SourceFacts())
        else:
            stage.calibrate(lifter, source)
    return lifter.eval()


def finish_selected(
    lifter: Lifter,
    source: LabelledClips | None,
    stages: Sequence[Stage],
    selection: Selection,
    facts: SourceFacts | None = None,
) -> Lifter:
    """As `finish_stages`, of the step that `selection` chose; `lifter` and the stages' training state stay as they are.

    `stages` are those of the run, or the first of them.
    """
    chosen = copy.deepcopy(lifter)
    chosen.load_state_dict(selection.weights)
    with selection.recalled(stages):
        return finish_stages(chosen, source, stages, facts)


def lift_with_stages(
    lifter: Lifter,
    clips: UnlabelledClips,
    stages: Sequence[Stage],
    *,
    flip: bool = False,
    report: Callable[[str], None] = lambda remark: None,
) -> LiftedClips:
    """Poses of all frames of `clips`, refined by the test-time stages in the order given; remarks go to `report`."""
    lifted = lift_clips(lifter, clips, flip=flip)
    for stage in stages:
        lifted = stage.refine(lifter, clips, lifted)
        if remark := stage.remark():
            report(remark)
    return lifted


@torch.no_grad()
def aligned_sample(
    source: LabelledClips, target: UnlabelledClips, stages: Sequence[Stage], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What the stages, already prepared, make of `count` random source frames that are not augmented: poses (n, J, 3)
    mm and screen keypoints (n, J, 2)."""
    source = recast_source(source, target, stages) or source
    batch = SourceSampler(source, 1).draw(count, generator)
    drawn = TargetSampler(target, 1).draw(count, generator)
    for stage in stages:
        batch = stage.align(batch, drawn, generator)
    kept = batch.weight > 0
    return batch.poses[kept, 0], screen_keypoints(batch)[kept, 0]


def check_adaptation(
    lifter: Lifter, source: LabelledClips | None, target: UnlabelledClips, stages: Sequence[Stage]
) -> None:
    """Raise ConfigError for what cannot be adapted."""
    _check_kinds(lifter, source, target, stages)
    if isinstance(target, LabelledClips):
        raise ConfigError("The target of an adaptation has no labels: give target.unlabelled().")
    if source is None:
        check_source_free([type(stage) for stage in stages])
    else:
        check_skeletons(lifter, source.skeleton.name, source.provenance.name)
    check_skeletons(lifter, target.skeleton.name, target.provenance.name)
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"The stage {name} is given twice.")
    learner = next((stage.name for stage in stages if stage.overrides("update")), "")
    if learner and not any(stage.overrides("augment") for stage in stages):
        raise ConfigError(f"{learner} learns from augmented windows, and no stage in stages= augments.")


def _check_kinds(lifter: object, source: object, target: object, stages: object) -> None:
    """Raise ConfigError, with what to write instead, for arguments of another kind: notebooks have no type checker."""
    if not isinstance(lifter, Lifter):
        raise ConfigError(f"The lifter is {_kind(lifter)}: give poseda.wrap(module) of a network of your own.")
    for name, clips, kinds in (("source", source, (LabelledClips, type(None))), ("target", target, Clips)):
        if not isinstance(clips, kinds):
            wanted = "LabelledClips, or None," if name == "source" else "UnlabelledClips"
            raise ConfigError(f"{name} is {_kind(clips)}: give {wanted} as docs/archive.md makes them of arrays.")
    if isinstance(stages, str) or not isinstance(stages, Sequence):
        raise ConfigError(f"stages= is {_kind(stages)}: give a list of stages, such as [poseda.GPA()].")
    for stage in stages:
        if not isinstance(stage, Stage):
            raise ConfigError(f"stages= holds {_kind(stage)}: it takes stages, such as poseda.GPA().")


def _kind(value: object) -> str:
    """What a value is, as its user wrote it."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"the text {value!r:.60}" if isinstance(value, str) else f"of type {type(value).__name__}"


def check_source_free(stages: Sequence[type[Stage]]) -> None:
    """Raise ConfigError, naming them, for stages that work on source clips where there are none."""
    names = [stage.name for stage in stages if stage.needs_source]
    if names:
        raise ConfigError(
            f"{', '.join(names)} {'works' if len(names) == 1 else 'work'} on source clips, and there are none: give "
            f"source=NAME with its data, or leave {', '.join(names)} out of stages=."
        )

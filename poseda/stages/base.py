"""What a stage is: one step on the way from a source-trained lifter to one that works on the target.

A stage writes only the hooks that it needs; the pipeline calls them in the order in which the stages are given, and no
stage knows another:

    before      recast (source clips -> source clips that all stages take as recorded) · prepare (statistics, networks)
    each step   augment (source -> source, local pose) · align (source -> source, placed in the target's cameras)
                update (the stage's own learning, from what was augmented) · lifter_loss (what the lifter learns
                beside its poses) · after_step (once the lifter has moved)
    afterwards  finish (which weights to keep) · calibrate (what test time needs to know of the lifter), from the source
                or, where its data are not at hand, from the source model's card
    test time   refine (lifter + target 2D -> better poses) · remark (what a reader of them must know)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from poseda.anthropometry.reference import Reference
from poseda.data.batches import SourceBatch, TargetBatch
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.engine.facts import SourceFacts
from poseda.errors import ConfigError
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips


@dataclass(frozen=True, eq=False)
class Setting:
    """What a stage may see before the first step. The target has no 3D: its type has no such attribute."""

    lifter: Lifter
    clips: LabelledClips | None
    """The source; None where its data are not at hand, which only stages with `needs_source = False` can meet."""
    target: UnlabelledClips
    steps: int
    seed: int
    generator: torch.Generator
    facts: SourceFacts | None = None
    """What the lifter's card says of its source."""

    @property
    def source(self) -> LabelledClips:
        """The source's clips; ConfigError where they are not at hand."""
        if self.clips is None:
            raise ConfigError("This adaptation has no source clips, and a stage asks for them: give source=NAME.")
        return self.clips

    def people(self) -> Reference | None:
        """The source's people, to measure others beside them: of its clips, or of the card where there are none."""
        if self.clips is not None:
            return Reference.of(self.clips)
        return None if self.facts is None else self.facts.people


@dataclass(frozen=True, eq=False)
class Step:
    """One step as `update` sees it: the augmented windows before and after, and the target windows beside them."""

    index: int
    steps: int
    original: SourceBatch
    """(A,) windows as drawn from the source."""
    produced: SourceBatch
    """(A,) the same windows after augment and align; gradients reach the stage that made them."""
    keypoints: Tensor
    """(A, T, J, 2) screen-normalised projection of `produced`."""
    target: TargetBatch
    """(B,) windows of target 2D, those that `align` used."""
    target_keypoints: Tensor
    """(B, T, J, 2) the target's 2D, screen-normalised."""
    lifter: Lifter
    generator: torch.Generator


@dataclass(frozen=True, eq=False)
class Lesson:
    """The lifter's own step as `lifter_loss` sees it: source windows as they are fitted, target windows beside them.

    Nothing in it has a gradient but the features, and they have one to the lifter alone.
    """

    index: int
    steps: int
    keypoints: Tensor
    """(B, T, J, inputs) what the lifter sees of the source windows, augmented, aligned; B = 0 without source clips."""
    poses: Tensor
    """(B, T, J, 3) mm, in the axes of the lifter's view: the poses behind them."""
    weight: Tensor
    """(B,) 0 = a source window that is left out."""
    target: TargetBatch
    """(B,) windows of target 2D."""
    target_keypoints: Tensor
    """(B, T, J, inputs) what the lifter sees of the target windows, missing joints filled as at test time."""
    target_rotation: Tensor | None
    """(B, 3, 3) camera axes to those of the lifter's view of the target windows; None where they are the same."""
    lifter: Lifter
    """In training mode."""
    generator: torch.Generator
    source_features: Tensor | None = None
    """(B, ...) latents of the source windows, where a stage `wants_features`."""
    target_features: Tensor | None = None
    """(B, ...) latents of the target windows, of the same pass; both domains mirrored alike."""


class Stage:
    """Base of all stages. A subclass has a frozen dataclass `Config` of its options and overrides some hooks."""

    Config: ClassVar[type[Any]]
    name: ClassVar[str]
    label: ClassVar[str]
    """How tables call the stage."""
    wants_features: ClassVar[bool] = False
    """Whether `lifter_loss` reads the features: both domains then go through the lifter's encoder in one pass."""
    needs_source: ClassVar[bool] = True
    """False for a stage that works on the target alone, so that a source model can be adapted without the source."""

    finishes_last: ClassVar[bool] = False
    """Whether `finish` measures the weights that the others have settled, and so comes after theirs."""
    keeps_norms: ClassVar[bool] = False
    """Whether the lifter learns from batches of both domains because of this stage: adapt.norms=auto then keeps the
    source model's BatchNorm statistics, by which both can be normalised alike while it learns and afterwards."""
    wants_oracle_root: ClassVar[bool] = False
    """Whether `refine` reads the true root: an evaluation then hands it over, and `label` must say so."""

    def recast(self, source: LabelledClips, target: UnlabelledClips) -> tuple[LabelledClips, str]:
        """Other source clips in place of those recorded, before any stage gets ready, and a remark for the log.

        `prepare`, the steps, the selection and `calibrate` of all stages then work on these. It keeps nothing in the
        stage: runs with the same stages share what one of them has made.
        """
        return source, ""

    def prepare(self, setting: Setting) -> str:
        """Get ready before the first step; returns a remark for the log ("" for none)."""
        return ""

    def augment(self, source: SourceBatch, generator: torch.Generator) -> SourceBatch:
        """Other source windows in place of the drawn ones."""
        return source

    def align(self, source: SourceBatch, target: TargetBatch, generator: torch.Generator) -> SourceBatch:
        """Source windows placed where the target's people are; `target` has as many windows as `source`."""
        return source

    def update(self, step: Step) -> Mapping[str, Tensor]:
        """The stage's own learning from windows that some stage augments; returns detached scalars for the log."""
        return {}

    def lifter_loss(self, lesson: Lesson) -> Tensor | None:
        """A scalar to add to the lifter's loss, its gradient meant for the lifter; None for nothing in this step.

        Parameters of the stage's own get their gradient from the same backward pass, and move in `after_step`.
        """
        return None

    def after_step(self, lifter: Lifter) -> Mapping[str, Tensor] | None:
        """Look at the lifter after it has moved; may return detached scalars for the log."""
        return None

    def finish(self, lifter: Lifter) -> Lifter:
        """The lifter to use from here on."""
        return lifter

    def calibrate(self, lifter: Lifter, source: LabelledClips) -> None:
        """Measure on the source what `refine` needs to know about the finished lifter."""

    def calibrate_without_source(self, lifter: Lifter, facts: SourceFacts) -> None:
        """Take what `calibrate` would measure from what the source model's card says; ConfigError for what it lacks."""

    def refine(self, lifter: Lifter, clips: UnlabelledClips, lifted: LiftedClips) -> LiftedClips:
        """Better poses for `clips` than `lifted`, from their 2D alone."""
        return lifted

    def remark(self) -> str:
        """What a reader of the last `refine`'s poses must know, such as frames left as they were ("" for nothing)."""
        return ""

    def take_oracle_root(self, root: Tensor) -> None:
        """The true roots (F, 3) mm of the clips that `refine` will be given, for a stage that `wants_oracle_root`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""

    def options(self) -> dict[str, Any]:
        """The values of its Config, where it keeps one as `config`: a run is resumed with the same ones alone."""
        config = getattr(self, "config", None)
        return asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}

    @classmethod
    def overrides(cls, hook: str) -> bool:
        """Whether this stage has its own version of a hook."""
        return getattr(cls, hook) is not getattr(Stage, hook)

    @classmethod
    def shapes_training(cls) -> bool:
        """Whether the lifter's training changes because of this stage (EMA only watches, TTO comes after)."""
        return any(cls.overrides(hook) for hook in ("recast", "augment", "align", "update", "lifter_loss"))

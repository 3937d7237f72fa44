"""Mean teacher: the lifter agrees with an average of itself on target 2D that was changed, where the change is known.

Mean teacher (Tarvainen & Valpola, NeurIPS 2017) with changes that have an exact meaning for a lifter. The teacher, an
exponential moving average of the lifter, lifts the target's 2D as it is (and mirrored); the lifter then sees

    noise      the same 2D with Gaussian noise, in a share of the person's box;
    mirror     the mirrored image, and is to give the mirrored pose;
    rotation   another 2D altogether: the teacher's pose is placed where it fits its 2D (closed-form root), turned
               about the vertical through its root, and projected with the target's camera; the lifter is to give the
               turned pose. Turning 2D alone has no meaning. Where the lifter gives one pose for a whole window, the
               poses of its other frames are those that the teacher gave when it last lifted the target's clips.

The loss is the squared error to the teacher's pose in m², weighted for each window by exp(-(r / residual)²), r being
how far the teacher's pose is from its own 2D, in boxes, and ramped up as exp(-5 (1 - t)²). Departures: the paper's
consistency of class scores; the confidence, which it does not have; without source clips an anchor to the source model
takes the place of the loss on the source; `lengths=person` gives the teacher's poses measured bones, since a lifter
that learns from itself makes bones longer and longer. The vertical is the world's z where the camera knows its pose in
the world, else the image's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from poseda.engine.supervised import mirror_batch
from poseda.errors import ConfigError, check_choices
from poseda.geometry.boxes import box_scale
from poseda.geometry.rotations import rotate
from poseda.lifters.base import MM_PER_METRE, Lifter
from poseda.lifters.inference import mirror_keypoints, mirror_poses
from poseda.stages.averaging import follow, warm_decay
from poseda.stages.base import Lesson, Setting, Stage
from poseda.stages.mean_teacher.bones import hold_bones, measure_bones
from poseda.stages.mean_teacher.recall import Recall
from poseda.stages.mean_teacher.turning import frames_of, place_poses, turn_poses


@dataclass(frozen=True)
class MeanTeacherConfig:
    """Options of the mean teacher."""

    weight: float = 3.0
    """Weight of the agreement beside the loss on the source, both in m²."""
    decay: float = 0.99
    """Share of the old teacher that each step keeps; early steps keep less."""
    ramp: float = 0.3
    """Share of the steps over which the weight rises."""
    residual: float = 0.05
    """Reprojection residual of a teacher's pose, as a share of the person's box, at which its weight is 1/e."""
    noise: float = 0.01
    """Spread of the noise on the lifter's 2D, as a share of the person's box."""
    rotate: float = 1.0
    """Share of the windows in which the teacher's pose is turned about the vertical and projected anew."""
    angle: float = 3.1416
    """Largest turn, rad."""
    refresh: int = 300
    """For a lifter that gives one pose for several frames: steps after which the teacher lifts the target's clips anew,
    whose windows are then turned. 0 leaves the source model's poses. Other lifters turn what they have just lifted."""
    frames: int = 20_000
    """Most target frames that are lifted for it, the first part of each sequence."""
    flip: bool = True
    """Whether the teacher averages over the mirrored image, and half of the lifter's windows are mirrored."""
    anchor: float = 1.0
    """Without source clips: weight of the agreement with the source model itself on the target's 2D, in m². Nothing
    else would then hold the lifter, which drifts with its own teacher to poses that mean nothing."""
    lengths: Literal["lifted", "person"] = "person"
    """Bones of the teacher's poses: lifted (as it says), person (as long as all 2D of the person measures them beside
    the source's people)."""
    keep: Literal["teacher", "student"] = "teacher"
    """Which one to use in the end: teacher, or student."""

    def __post_init__(self) -> None:
        check_choices(self, "mean_teacher")
        if not 0 <= self.decay < 1:
            raise ConfigError(f"mean_teacher.decay={self.decay}: must be at least 0 and below 1.")
        for name in ("ramp", "rotate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"mean_teacher.{name}={getattr(self, name)}: is a share, from 0 to 1.")
        for name in ("weight", "residual"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"mean_teacher.{name}={getattr(self, name)}: must be above 0.")
        for name in ("noise", "angle", "anchor", "refresh"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"mean_teacher.{name}={getattr(self, name)}: must not be negative.")
        if self.frames < 1:
            raise ConfigError(f"mean_teacher.frames={self.frames}: must be 1 or more.")


class MeanTeacher(Stage):
    """Agreement with the moving average on changed target 2D."""

    Config = MeanTeacherConfig
    name = "mean_teacher"
    label = "mean teacher"
    needs_source = False
    keeps_norms = True
    teacher: Lifter
    origin: Lifter | None
    """The source model as it came, where there is no source to hold the lifter."""

    def __init__(self, config: MeanTeacherConfig | None = None) -> None:
        self.config = config or MeanTeacherConfig()
        self.steps = 0
        self.rotates = False
        self.bones: Tensor | None = None
        self.recall: Recall | None = None

    def prepare(self, setting: Setting) -> str:
        """The teacher starts as the lifter, and people are measured."""
        lifter = setting.lifter
        self.teacher = copy.deepcopy(lifter).eval().requires_grad_(False)
        self.origin = None if setting.clips is not None else copy.deepcopy(self.teacher)
        self.steps = 0
        self.rotates = self.config.rotate > 0 and self.config.angle > 0
        self.bones, remark, self.recall = None, "", None
        if self.config.lengths == "person":
            self.bones, remark = measure_bones(setting)
        if self.rotates and lifter.output != "seq2seq" and lifter.frames > 1:
            self.recall = Recall(setting.target, lifter.frames, self.config.frames, self.config.flip, self.bones)
            self.recall.renew(self.teacher)
        return remark

    def lifter_loss(self, lesson: Lesson) -> Tensor:
        """The weighted disagreement of lifter and teacher."""
        with torch.no_grad():
            keypoints, pose, weight = self._pairs(lesson)
        error = (lesson.lifter(keypoints).pose - pose).square().sum(-1).mean((1, 2)) / MM_PER_METRE**2
        loss: Tensor = (weight * error).mean()
        agreement = self.config.weight * ramp_up(lesson.index, self.config.ramp * lesson.steps) * loss
        return agreement if self.origin is None else agreement + self._anchor(lesson, self.origin)

    def _anchor(self, lesson: Lesson, origin: Lifter) -> Tensor:
        """How far the lifter is from the source model on the target's own 2D."""
        with torch.no_grad():
            pose = origin(lesson.target_keypoints).pose
        moved: Tensor = (lesson.lifter(lesson.target_keypoints).pose - pose).square().sum(-1).mean() / MM_PER_METRE**2
        return self.config.anchor * moved

    def _pairs(self, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
        """What the lifter sees (B, T, J, inputs), what it is to say (B, T', J, 3) mm in the axes of its view, and how
        much that counts (B,)."""
        config, skeleton, draws = self.config, lesson.lifter.skeleton, lesson.generator
        keypoints, target = lesson.target_keypoints, lesson.target
        pose = self.teacher(keypoints).pose
        if config.flip:
            mirrored = self.teacher(mirror_keypoints(keypoints, skeleton, lesson.lifter.mirror_signs)).pose
            pose = (pose + mirror_poses(mirrored, skeleton)) / 2
        if self.bones is not None and target.frames is not None:
            pose = hold_bones(pose, self.bones[target.frames], skeleton)
        view = lesson.target_rotation
        in_camera = pose if view is None else rotate(view.mT, pose)
        root, weight = place_poses(in_camera, target, config.residual)
        if self.rotates:
            chosen = _uniform(draws, pose, 1) < config.rotate
            angle = (2 * _uniform(draws, pose, 1) - 1) * config.angle
            fits = weight
            if self.recall is not None:
                target, in_camera = self.recall.draw(len(pose), draws)
                root, fits = place_poses(in_camera, target, config.residual)
            seen, turned, in_front = turn_poses(lesson.lifter, target, in_camera, root, angle)
            pick = chosen.view(-1) & (fits > 0) & in_front  # the others stay as they were
            keypoints = torch.where(pick[:, None, None, None], seen, keypoints)
            pose = torch.where(pick[:, None, None, None], frames_of(turned, pose), pose)
            weight = torch.where(pick, fits, weight)
        if config.noise > 0:
            place, tokens = keypoints[..., :2], keypoints[..., 2:]
            box = box_scale(place, torch.ones_like(place[..., 0], dtype=torch.bool))[..., None, None]
            normal = torch.randn(place.shape, generator=draws, device=draws.device)
            keypoints = torch.cat([place + config.noise * box * normal.to(place), tokens], -1)
        if config.flip:
            half = _uniform(draws, pose, 1).view(-1) < 0.5
            keypoints, pose = mirror_batch(keypoints, pose, half, lesson.lifter)
        return keypoints, pose, weight

    def after_step(self, lifter: Lifter) -> None:
        """The teacher follows the lifter."""
        self.steps += 1
        follow(self.teacher.state_dict(), lifter.state_dict(), warm_decay(self.config.decay, self.steps))
        if self.recall is not None and self.config.refresh and self.steps % self.config.refresh == 0:
            self.recall.renew(self.teacher)

    def finish(self, lifter: Lifter) -> Lifter:
        """A copy of the teacher, or the lifter itself."""
        if self.config.keep == "student" or not self.steps:
            return lifter
        return copy.deepcopy(self.teacher).requires_grad_(True)

    def state_dict(self) -> dict[str, Any]:
        """The teacher, the number of steps behind it, and the poses that it recalls."""
        poses = {} if self.recall is None else {"poses": self.recall.poses}
        return {"teacher": self.teacher.state_dict(), "steps": self.steps, **poses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.teacher.load_state_dict(state["teacher"])
        self.steps = int(state["steps"])
        if self.recall is not None:
            self.recall.poses = state["poses"].to(self.recall.poses)


def ramp_up(index: int, length: float) -> float:
    """exp(-5 (1 - t)²) with t = index / length up to 1 (Tarvainen & Valpola)."""
    return math.exp(-5 * (1 - min(index / length, 1.0)) ** 2) if length > 0 else 1.0


def _uniform(generator: torch.Generator, like: Tensor, extra: int) -> Tensor:
    """(B, 1, ...) draws from [0, 1), one a window."""
    draw = torch.rand(len(like), *[1] * extra, generator=generator, device=generator.device)
    return draw.to(like)

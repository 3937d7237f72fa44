"""Global transforms from pseudo-labels: source poses take over orientation and place of lifted target people.

After Pseudo-Label-Guided Global Transforms (arXiv 2504.12699, TCSVT 2025), whose method section could not be read: the
target's 2D is lifted by the source model, each pose is placed by its reprojection, and a body frame R = [e1 e2 e3]
(e1 along the hips, e2 along the spine without its part along e1, e3 = e1 x e2) says how a person is turned. A source
pose X, relative to its root, is placed like a random pseudo-label t:

    X' = R_t R_s^T X + T_t

Departures: the root is the closed-form robust least squares on the 2D, not an iteration from mean bone lengths; the
transform can be held to the vertical; labels are refused by quantiles of their reprojection residual and of the
difference between left and right bones. The pose augmentor of the paper is another stage (LPA).

With GPA: `stages=[gpa,pseudo_labels]` gives `share` of the windows the labels' orientation and place and leaves the
rest where GPA put them; `stages=[pseudo_labels,gpa]` keeps the labels' orientation but GPA then places every window.
Without GPA the rest stays before the source's cameras. orientation=vertical takes the source's vertical from the
window's camera, and so belongs before GPA, which puts the target's camera in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch, TargetBatch
from poseda.data.clips import UnlabelledClips
from poseda.errors import ConfigError, DataError, check_choices
from poseda.geometry.bones import bone_lengths
from poseda.geometry.boxes import box_scale
from poseda.geometry.camera import Camera, world_axes
from poseda.geometry.root import root_from_keypoints
from poseda.geometry.rotations import rotate, yaw_matrix
from poseda.lifters.base import Lifter
from poseda.lifters.inference import lift_clips
from poseda.skeleton import Skeleton
from poseda.stages.base import Setting, Stage

SMALLEST_AXIS_MM = 10.0
"""Shorter hips, or a spine that is nearer to the line of the hips, give no body frame."""
MINIMUM_SEEN = 6
"""A frame with fewer visible joints is not lifted: the others would be guesses."""


@dataclass(frozen=True)
class PseudoLabelsConfig:
    """Options of the global transforms."""

    share: float = 0.5
    """Share of the windows that are placed like pseudo-labels; the others stay as the stages before left them."""
    orientation: Literal["full", "vertical", "none"] = "full"
    """What is taken over of a label's orientation: full, vertical (only the turn about the vertical), none."""
    keep_reprojection: float = 0.8
    """Share of the labels that is kept by reprojection residual."""
    keep_symmetry: float = 0.8
    """Share of the labels that is kept by the difference of left and right bones."""
    refresh: int = 300
    """Steps after which the labels are made again by the lifter as it is then; 0 keeps the source model's. Each time
    costs two passes, plain and mirrored, over `frames` frames."""
    frames: int = 20_000
    """Most target frames that are lifted, spread over all sequences."""
    nearest_joint_mm: float = 300.0
    """Poses that come closer to the camera than this are left out of the step."""

    def __post_init__(self) -> None:
        check_choices(self, "pseudo_labels")
        for name in ("share", "keep_reprojection", "keep_symmetry"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"pseudo_labels.{name}={getattr(self, name)}: must be above 0 and at most 1.")
        for name, least in (("refresh", 0), ("frames", 1), ("nearest_joint_mm", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"pseudo_labels.{name}={getattr(self, name)}: must be {least} or more.")


@dataclass(frozen=True, eq=False)
class Labels:
    """The pseudo-labels that were kept."""

    frames: Tensor
    """(N, 3, 3) body frames in camera axes, one axis a column."""
    roots: Tensor
    """(N, 3) mm, camera frame."""
    cameras: Tensor
    """(N,) int64 numbers of the target's cameras."""


def trunk(skeleton: Skeleton) -> tuple[int, int, int, int]:
    """Left hip, right hip, root, and spine (or thorax, where a joint set has no spine); ConfigError without them."""
    upper = next((name for name in ("spine", "thorax") if name in skeleton.joints), "")
    if not upper or not {"lhip", "rhip"} <= set(skeleton.joints):
        raise ConfigError(f"pseudo_labels needs hips and a spine or thorax; {skeleton.name} lacks one of them.")
    return skeleton.index("lhip"), skeleton.index("rhip"), skeleton.root, skeleton.index(upper)


def body_frame(poses: Tensor, joints: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Body frames (..., 3, 3) of poses (..., J, 3) mm, columns e1 e2 e3, and which exist (...) bool; else the identity.

    joints: left hip, right hip, root, spine. A rotation of the pose rotates its frame: R(A X) = A R(X).
    """
    left, right, root, spine = (poses[..., joint, :] for joint in joints)
    first, width = _unit(left - right)
    up = spine - root
    second, height = _unit(up - (up * first).sum(-1, keepdim=True) * first)
    frame = torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], -1)
    exists = (width > SMALLEST_AXIS_MM) & (height > SMALLEST_AXIS_MM)
    eye = torch.eye(3, dtype=poses.dtype, device=poses.device)
    return torch.where(exists[..., None, None], frame, eye), exists


def _unit(vector: Tensor) -> tuple[Tensor, Tensor]:
    length: Tensor = vector.square().sum(-1).clamp_min(1e-12).sqrt()
    return vector / length.unsqueeze(-1), length


def heading(frames: Tensor) -> Tensor:
    """Angle (...) rad about the world's z of body frames (..., 3, 3) in world axes: where their hips point."""
    return torch.atan2(frames[..., 1, 0], frames[..., 0, 0])


@torch.no_grad()
def make_labels(
    lifter: Lifter, clips: UnlabelledClips, keep_reprojection: float, keep_symmetry: float, nearest_joint_mm: float
) -> tuple[Labels, dict[str, float]]:
    """Pseudo-labels of the frames of clips, and what was left out: shares `unusable`, and the two limits.

    Unusable are frames with too few visible joints, without a root, with a joint near or behind the camera, or without
    a body frame. The limits are those quantiles of the usable frames: residual, the mean distance of projected and
    given joints in units of the box, and asymmetry, the mean difference of left and right bones over their mean.
    Raises DataError where no frame can be used.
    """
    poses = lift_clips(lifter, clips, flip=True).poses
    cameras = clips.cameras_at(torch.arange(clips.num_frames, device=poses.device))
    visible = clips.visible
    rays = cameras.unproject(clips.keypoints)
    roots, usable = root_from_keypoints(poses, rays, visible.to(poses.dtype))
    frames, exist = body_frame(poses, trunk(clips.skeleton))
    placed = poses + roots.unsqueeze(-2)
    usable = usable & exist & (visible.sum(-1) >= MINIMUM_SEEN) & (placed[..., 2] > nearest_joint_mm).all(-1)
    off = (cameras.project(placed) - clips.keypoints).norm(dim=-1).masked_fill(~visible, 0)
    residual = off.sum(-1) / visible.sum(-1).clamp_min(1) / box_scale(clips.keypoints, visible).clamp_min(1e-3)
    unequal = asymmetry(poses, clips.skeleton)
    usable = usable & residual.isfinite() & unequal.isfinite()
    if not bool(usable.any()):
        raise DataError(
            f"{clips.provenance.name}: no frame gives a pseudo-label. Its people are cut off or hardly visible, or the "
            "lifter was not trained on a source."
        )
    limits = [torch.quantile(x[usable], q) for x, q in ((residual, keep_reprojection), (unequal, keep_symmetry))]
    kept = usable & (residual <= limits[0])
    both = kept & (unequal <= limits[1])
    kept = both if bool(both.any()) else kept
    labels = Labels(frames[kept], roots[kept], clips.camera_index[kept])
    about = {"unusable": 1 - float(usable.float().mean()), "residual": float(limits[0]), "asymmetry": float(limits[1])}
    return labels, about


def asymmetry(poses: Tensor, skeleton: Skeleton) -> Tensor:
    """Mean difference of left and right bones over the mean length of both: (..., J, 3) mm -> (...)."""
    lengths = bone_lengths(poses, skeleton)
    left, right = (lengths[..., list(side)] for side in zip(*skeleton.bone_pairs, strict=True))
    return ((left - right).abs() / (left + right).clamp_min(1e-3)).mean(-1) * 2


class PseudoLabels(Stage):
    """Turn and place a share of the source windows like lifted target people."""

    Config = PseudoLabelsConfig
    name = "pseudo_labels"
    label = "Pseudo-labels"

    def __init__(self, config: PseudoLabelsConfig | None = None) -> None:
        self.config = config or PseudoLabelsConfig()
        self.labels: Labels | None = None
        self.target: UnlabelledClips | None = None
        self.steps = 0

    def prepare(self, setting: Setting) -> str:
        """Label the target with the source model."""
        self.joints, self.root = trunk(setting.target.skeleton), setting.target.skeleton.root
        self.target = thinned(setting.target, self.config.frames, setting.lifter.frames)
        self.steps = 0
        about = self._label(setting.lifter)
        assert self.labels is not None
        return (
            f"{len(self.labels.roots)} of {self.target.num_frames} lifted target frames are pseudo-labels; "
            f"{100 * about['unusable']:.1f} % have no place or body frame, the others were refused above a residual of "
            f"{about['residual']:.3f} boxes or an asymmetry of {100 * about['asymmetry']:.1f} %"
        )

    def _label(self, lifter: Lifter) -> dict[str, float]:
        config, target = self.config, self.target
        assert target is not None
        limits = config.keep_reprojection, config.keep_symmetry, config.nearest_joint_mm
        self.labels, about = make_labels(lifter, target, *limits)
        return about

    def align(self, source: SourceBatch, target: TargetBatch, generator: torch.Generator) -> SourceBatch:
        """A random `share` of the windows turned about the middle frame's root and placed like random pseudo-labels."""
        if self.labels is None:
            raise ConfigError("pseudo_labels has no labels yet: call prepare first.")
        assert self.target is not None
        count, device = len(source.weight), source.poses.device
        drawn = torch.randint(len(self.labels.roots), (count,), generator=generator, device=generator.device)
        drawn = drawn.to(device, non_blocking=True)
        chosen = torch.rand(count, generator=generator, device=generator.device) < self.config.share
        chosen = chosen.to(device, non_blocking=True)
        theirs = self.target.cameras[self.labels.cameras[drawn]]
        middle = source.poses.shape[1] // 2
        centre = source.poses[:, middle, self.root]
        turn, exists = self._turn(source, drawn, theirs)
        poses = rotate(turn, source.poses - centre[:, None, None]) + self.labels.roots[drawn][:, None, None]
        usable = exists & (poses[..., 2] > self.config.nearest_joint_mm).flatten(1).all(-1)
        taken = chosen & usable  # where a window cannot be placed like its label it stays as it was, with weight 0
        weight = source.weight * (taken | ~chosen).to(source.weight.dtype)
        numbers = torch.arange(count, device=device)
        cameras = Camera.cat([source.cameras, theirs])[torch.where(taken, numbers + count, numbers)]
        return replace(
            source, poses=torch.where(taken[:, None, None, None], poses, source.poses), cameras=cameras, weight=weight
        )

    def _turn(self, source: SourceBatch, drawn: Tensor, cameras: Camera) -> tuple[Tensor, Tensor]:
        """(B, 3, 3) rotations of the windows towards their labels, whose cameras these are; (B,) bool: they exist."""
        assert self.labels is not None
        theirs = self.labels.frames[drawn]
        mine, exists = body_frame(source.poses[:, source.poses.shape[1] // 2], self.joints)
        if self.config.orientation == "none":
            return torch.eye(3, dtype=theirs.dtype, device=theirs.device).expand_as(theirs), torch.ones_like(exists)
        if self.config.orientation == "full":
            return product(theirs, mine.mT), exists
        here, there = world_axes(source.cameras), world_axes(cameras)
        angle = heading(product(there.mT, theirs)) - heading(product(here.mT, mine))
        return product(product(there, yaw_matrix(angle)), here.mT), exists

    @torch.no_grad()
    def after_step(self, lifter: Lifter) -> Mapping[str, Tensor] | None:
        """Label the target again every `refresh` steps and say how many labels there are; a lifter that gives none (0)
        leaves the old ones."""
        self.steps += 1
        if not self.config.refresh or self.steps % self.config.refresh:
            return None
        assert self.labels is not None
        made = 0
        with suppress(DataError):
            self._label(lifter)
            made = len(self.labels.roots)
        return {"made": self.labels.roots.new_tensor(float(made))}  # on the device, as all scalars of a step

    def state_dict(self) -> dict[str, Any]:
        """The labels and the number of steps behind them."""
        if self.labels is None:
            return {}
        labels = self.labels
        return {"frames": labels.frames, "roots": labels.roots, "cameras": labels.cameras, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with saved labels; `prepare` has said on which device."""
        assert self.labels is not None
        device = self.labels.roots.device
        self.labels = Labels(*(state[name].to(device) for name in ("frames", "roots", "cameras")))
        self.steps = int(state["steps"])


def product(first: Tensor, second: Tensor) -> Tensor:
    """(..., 3, 3) times (..., 3, 3); not a matmul, which TF32 would round."""
    return (first.unsqueeze(-1) * second.unsqueeze(-3)).sum(-2)


def thinned(clips: UnlabelledClips, most: int, frames: int) -> UnlabelledClips:
    """At most about `most` frames: every n-th for a lifter of single frames, else the first part of each sequence."""
    if frames > 1:
        return clips.limit(most)
    return clips.subsample(max(-(-clips.num_frames // most), 1))


STAGE = PseudoLabels

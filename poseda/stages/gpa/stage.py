"""GPA, global position alignment: source poses are re-placed so that they project where and as large as target poses.

PoseDA (Chai et al., ICCV 2023), the authors' published function, with two of its defects mended: each sample has the
intrinsics of its own target camera, and fixed-point steps remove the bias of the closed form, which measures the box
as if all joints were equally deep. Nothing is learned; the root-relative pose does not change (but for `turn`).

Departures that are options: partners by aspect or by optimal transport instead of by chance, other measures of size, a
root path that follows the target's, and poses that turn as they are moved (turning.py). `divide_by_focal=false` with
`refine_iters=0` is what PoseDA's published figure of the distributions shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch, TargetBatch, TargetSampler
from poseda.data.clips import UnlabelledClips
from poseda.errors import ConfigError, check_choices
from poseda.skeleton import constant_tensor
from poseda.stages.base import Setting, Stage
from poseda.stages.gpa.pairing import nearest_aspect, take_targets, transport_pairing
from poseda.stages.gpa.placing import Placing, aligned_roots, hips_of, root_pixel
from poseda.stages.gpa.turning import turned


@dataclass(frozen=True)
class GPAConfig:
    """Options of global position alignment."""

    pairing: Literal["random", "aspect", "transport"] = "random"
    """Whose place a source person takes: random, aspect (of some random target people the one whose box is most nearly
    as wide for its height), transport (one to one, at the least total change of size, aspect and place)."""
    neighbours: int = 8
    """Target people among whom pairing=aspect chooses."""
    pool: Literal["batch", "target"] = "batch"
    """Where partners come from: batch (the step's target windows), target (drawn afresh from the whole target)."""
    scale: Literal["box", "diagonal", "spread"] = "box"
    """How size in the image is measured: box (mean side), diagonal (of the box), spread (standard deviation of the
    joints, which one stray joint moves least)."""
    refine_iters: int = 2
    """Fixed-point steps after the closed form; 0 is PoseDA as published, 2 matches the box within 0.1 % on average."""
    nearest_joint_mm: float = 300.0
    """Poses that come closer to the camera than this are left out of the step."""
    path: Literal["source", "target"] = "source"
    """How the root moves within a window: source (as it did; the middle frame is placed), target (along the target's
    smoothed root path, at one depth)."""
    path_smoothing: float = 2.0
    """Width of the Gaussian that smooths the path of path=target, frames."""
    turn: Literal["none", "ray", "gravity"] = "none"
    """How a pose turns as it is moved: none (PoseDA: it keeps its orientation in the camera), ray (with the ray, so
    that a camera turned to the person sees it as before), gravity (what was upright in the source's world is upright in
    the target's; needs cameras with extrinsics on both sides, and is ray where one has none)."""
    divide_by_focal: bool = True
    """false: spread roots as PoseDA's published figure does, without dividing their rays by the focal length."""

    def __post_init__(self) -> None:
        check_choices(self, "gpa")
        for name, least in (("refine_iters", 0), ("nearest_joint_mm", 0), ("neighbours", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"gpa.{name}={getattr(self, name)}: must be {least} or more.")
        if not self.path_smoothing > 0:
            raise ConfigError(f"gpa.path_smoothing={self.path_smoothing}: must be above 0.")


class GPA(Stage):
    """Place each drawn source window as a target window's person stands."""

    Config = GPAConfig
    name = "gpa"
    label = "GPA"

    def __init__(self, config: GPAConfig | None = None) -> None:
        self.config = config = config or GPAConfig()
        self.placing = Placing(
            scale=config.scale,
            refine_iters=config.refine_iters,
            nearest_joint_mm=config.nearest_joint_mm,
            smooth=config.path_smoothing,
            divide_by_focal=config.divide_by_focal,
        )
        self.complete = False
        self.target: UnlabelledClips | None = None
        self.samplers: dict[int, TargetSampler] = {}

    def prepare(self, setting: Setting) -> str:
        """Look up the joints, and keep the target to draw from."""
        target, skeleton = setting.target, setting.target.skeleton
        self.placing = replace(self.placing, root=skeleton.root, hips=hips_of(skeleton))
        self.complete = bool(target.visible.all())
        self.target, self.samplers = target, {}
        return ""

    def align(self, source: SourceBatch, target: TargetBatch, generator: torch.Generator) -> SourceBatch:
        """Windows in the paired target cameras; those that stay too close to the camera get weight 0."""
        target = self._partners(source, target, generator)
        source = self._turned(source, target)
        middle = source.poses.shape[1] // 2
        only = slice(None) if self.config.path == "target" else slice(middle, middle + 1)
        roots, found = aligned_roots(
            source.poses[:, only], target.keypoints[:, only], target.visible[:, only], target.cameras, self.placing
        )
        shift = roots - source.poses[:, only, self.placing.root]  # (B, T, 3), or (B, 1, 3) for all frames of a window
        poses = source.poses + shift.unsqueeze(2)
        in_front = (poses[..., 2] > self.config.nearest_joint_mm).flatten(1).all(-1)
        # a window behind the camera has weight 0, and is put before it so that its projection stays finite
        poses = torch.where(in_front[:, None, None, None], poses, _far(source.poses, self.placing.root))
        weight = source.weight * (found & in_front).to(source.weight.dtype)
        return replace(source, poses=poses, cameras=target.cameras, weight=weight)

    def _turned(self, source: SourceBatch, target: TargetBatch) -> SourceBatch:
        """Windows turned as they are on their partner's ray; source.cameras are still those that they came with."""
        if self.config.turn == "none":
            return source
        middle = source.poses.shape[1] // 2
        pixel, _ = root_pixel(target.keypoints[:, middle], target.visible[:, middle], self.placing)
        rays = target.cameras.unproject(pixel.unsqueeze(1)).squeeze(1)
        poses = turned(source.poses, self.placing.root, source.cameras, rays, target.cameras, self.config.turn)
        return replace(source, poses=poses)

    def _partners(self, source: SourceBatch, target: TargetBatch, generator: torch.Generator) -> TargetBatch:
        """The target window that each source window is placed by."""
        count, frames = source.poses.shape[:2]
        wanted = count * self.config.neighbours if self.config.pairing == "aspect" else count
        if self.config.pool == "target":
            target = self._draw(wanted, frames, generator)
        if self.config.pairing == "transport":
            return take_targets(target, transport_pairing(source, target, self.placing, self.complete))
        if self.config.pairing == "random":
            return target
        if self.config.pool == "target":
            candidates = torch.arange(wanted, device=source.poses.device)
        else:
            drawn = torch.randint(count, (wanted,), generator=generator, device=generator.device)
            candidates = drawn.to(source.poses.device, non_blocking=True)
        index = nearest_aspect(source, target, candidates.view(count, -1), self.placing.root)
        return take_targets(target, index)

    def _draw(self, count: int, frames: int, generator: torch.Generator) -> TargetBatch:
        if self.target is None:
            raise ConfigError("gpa.pool=target draws from the target that prepare has seen: call prepare first.")
        if frames not in self.samplers:
            self.samplers[frames] = TargetSampler(self.target, frames)
        return self.samplers[frames].draw(count, generator)


def _far(poses: Tensor, root: int) -> Tensor:
    """The same clips with the middle root 10 m before the camera, on its axis."""
    middle = poses.shape[1] // 2
    away = constant_tensor((0.0, 0.0, 10_000.0), poses.dtype, poses.device)
    return poses - poses[:, middle : middle + 1, root : root + 1] + away

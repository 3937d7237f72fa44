"""DAF-DG: a weak and a strong augmentor, and a lifter that learns from source and weak so that it does well on strong.

Peng et al., CVPR 2024. Both augmentors are PoseAug's chain with its own discriminators. The weak one stays near the
source (+0.5 times the distance of poses two links apart), the strong one goes away from it (-0.35) and has the weak
one's poses as real. The lifter takes two meta steps: an inner step on the source and an outer loss on the weak windows,
then inner on weak and outer on strong, each time with the mean of both losses. The target is not looked at. Use it
without GPA, which would undo its translation.

This stage updates the lifter itself, with its own Adam; its windows have weight 0 in the ordinary step, which sees the
recorded ones alone. `adapt.augmented_share=1` (experiment=daf_dg) leaves nothing to the ordinary step: then the meta
steps are all that the lifter learns from, as published, and its log says that all windows were dropped.

Departures: the released code cannot run and never applies its fast weights; here the outer gradient goes through the
inner step (`daf_dg.first_order=true` leaves that out). The distance is of root-relative poses; augmentors and lifter
learn in each step; the rate of the meta steps falls to 0 along a cosine, as the ordinary one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from poseda.data.batches import SourceBatch
from poseda.engine.descent import adam
from poseda.engine.supervised import mirror_batch, training_targets, windows_in_view
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.lifters.base import MM_PER_METRE
from poseda.skeleton import Skeleton
from poseda.stages.augmentation.augmentor import Augmentor, Rates, chain_scalars, middle_pose
from poseda.stages.augmentation.chain import Chain, inside_image, project_screen
from poseda.stages.augmentation.watch import CollapseWatch
from poseda.stages.base import Setting, Stage, Step
from poseda.stages.daf_dg.meta import Windows, meta_gradients

TWO_APART = (("original", "grown"), ("bent", "placed"))
"""Links of the chain that are two changes apart."""


@dataclass(frozen=True)
class DAFDGConfig:
    """Options of DAF-DG; the defaults are those of its code."""

    lr: float = 5e-4
    """Learning rate of the lifter in the meta steps at the start; it falls to 0 along a cosine."""
    inner_lr: float = 1e-4
    """Length of the inner step, in plain gradient descent."""
    first_order: bool = False
    """true: leave out second derivatives, for speed or memory."""
    weak_distance: float = 0.5
    """Weight of the distance from the source that keeps the weak augmentor near."""
    strong_distance: float = 0.35
    """Weight of the distance that drives the strong augmentor away."""
    generator_lr: float = 1e-4
    """Learning rate of the generators at the start; it falls to 0 along a line."""
    discriminator_lr: float = 1e-4
    """Learning rate of the discriminators at the start."""
    discriminator_every: int = 2
    """Steps between two updates of the discriminators."""
    pool: int = 4096
    """Generated samples kept for the discriminators; 0 for none."""
    watch_every: int = 50
    """Steps between two looks for a collapse, which ends the run with a sentence; 0 never looks."""

    def __post_init__(self) -> None:
        if self.discriminator_every < 1:
            raise ConfigError(f"daf_dg.discriminator_every={self.discriminator_every}: must be 1 or more.")
        for name in (
            "lr", "inner_lr", "weak_distance", "strong_distance", "generator_lr", "discriminator_lr", "pool",
            "watch_every",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ConfigError(f"daf_dg.{name}={getattr(self, name)}: must not be negative.")


class SkeletonDistance(nn.Module):
    """Mean squared difference of poses, and of their joints against their neighbours' (normalised Laplacian)."""

    laplacian: Tensor

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.root = skeleton.root
        self.register_buffer("laplacian", skeleton_laplacian(skeleton), persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Windows (B, T, J, 3) mm, twice -> scalar in m², from middle frames relative to their roots."""
        apart = (middle_pose(first, self.root) - middle_pose(second, self.root)) / MM_PER_METRE
        return apart.square().mean() + (self.laplacian @ apart).square().mean()


def skeleton_laplacian(skeleton: Skeleton) -> Tensor:
    """(J, J): I - D^-1/2 A D^-1/2, with A the joints that a bone connects and D how many each joint has."""
    adjacency = torch.zeros(skeleton.num_joints, skeleton.num_joints)
    for parent, child in skeleton.bones:
        adjacency[parent, child] = adjacency[child, parent] = 1.0
    scale = adjacency.sum(1).rsqrt()
    return torch.eye(skeleton.num_joints) - scale[:, None] * adjacency * scale


class DAFDG(Stage):
    """Two augmentors, and meta steps of the lifter on what they make."""

    Config = DAFDGConfig
    name = "daf_dg"
    label = "DAF-DG"

    def __init__(self, config: DAFDGConfig | None = None) -> None:
        self.config = config or DAFDGConfig()
        self.chains: dict[str, Chain] = {}
        self.watch = CollapseWatch("daf_dg", self.config.watch_every, "Lower daf_dg.generator_lr.")

    def prepare(self, setting: Setting) -> str:
        """Build both augmentors, with weights that depend on the run's seed alone, and the lifter's own optimiser."""
        config, source = self.config, setting.source
        self.skeleton = source.skeleton
        self.distance = SkeletonDistance(self.skeleton).to(source.poses.device)
        rates = Rates(config.generator_lr, config.discriminator_lr, config.discriminator_every, config.pool)
        self.weak, self.strong = (
            Augmentor(source, rates, form="additive", clip="constant", seed=2 * setting.seed + second)
            for second in (0, 1)
        )
        self.optimizer = adam(setting.lifter.parameters(), config.lr)
        return ""

    def augment(self, source: SourceBatch, generator: torch.Generator) -> SourceBatch:
        """Both augmentors' windows are kept for the meta steps; the ordinary step gets weak ones, with weight 0."""
        self.chains = {
            "weak": self.weak.propose(source.poses, generator),
            "strong": self.strong.propose(source.poses, generator),
        }
        weak = self.chains["weak"].placed
        seen = inside_image(weak, project_screen(weak, source.cameras))
        made = torch.where(seen.view(-1, 1, 1, 1), weak, source.poses)
        return replace(source, poses=made, weight=torch.zeros_like(source.weight))

    def update(self, step: Step) -> Mapping[str, Tensor]:
        """Weak augmentor, strong augmentor, then the lifter's two meta steps."""
        source, cameras = step.original.poses, step.original.cameras
        weak, strong = self.chains["weak"], self.chains["strong"]
        distance = {name: chain.distance(TWO_APART, self.distance) for name, chain in self.chains.items()}
        losses = {
            "weak": self.config.weak_distance * distance["weak"],
            "strong": -self.config.strong_distance * distance["strong"],
        }
        scalars: dict[str, Tensor] = {}
        real = {"weak": source, "strong": weak.bent}
        plain = project_screen(source, cameras)
        for name, augmentor in (("weak", self.weak), ("strong", self.strong)):
            logged = self._train(augmentor, self.chains[name], losses[name], real[name], plain, step)
            logged["distance"] = distance[name].detach()
            scalars |= {f"{name}_{key}": value for key, value in logged.items()}
        scalars |= self._meta_steps(step, {"source": source, "weak": weak.placed, "strong": strong.placed}, cameras)
        # one look for both: what is worse of the two counts
        worst = {
            "at_limit": torch.maximum(scalars["weak_at_limit"], scalars["strong_at_limit"]),
            "seen": torch.minimum(scalars["weak_seen"], scalars["strong_seen"]),
        }
        self.watch.look(step.index, scalars | worst, len(source))
        return scalars

    def _train(
        self, augmentor: Augmentor, chain: Chain, loss: Tensor, real: Tensor, plain: Tensor, step: Step
    ) -> dict[str, Tensor]:
        """One step of an augmentor: against poses `real` in 3D and the source's projections `plain` in 2D."""
        cameras, middle, root = step.original.cameras, plain.shape[1] // 2, self.skeleton.root
        keypoints = project_screen(chain.placed, cameras)
        visible = torch.ones_like(plain[:, middle, :, 0], dtype=torch.bool)
        augmentor.anneal(1 - step.index / step.steps)
        verdict, scalars = augmentor.compare(
            step.index,
            (middle_pose(real.detach(), root), middle_pose(chain.bent, root)),
            (plain[:, middle], keypoints[:, middle]),
            (visible, visible),
            step.generator,
        )
        augmentor.descend(loss + verdict)
        seen = inside_image(chain.placed, keypoints).detach().float().mean()
        return {**scalars, "generator_loss": (loss + verdict).detach(), "seen": seen, **chain_scalars(chain)}

    def _meta_steps(self, step: Step, poses: dict[str, Tensor], cameras: Camera) -> dict[str, Tensor]:
        """Inner on source and outer on weak, then inner on weak and outer on strong."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * 0.5 * (1 + math.cos(math.pi * step.index / step.steps))
        windows = {name: self._windows(step, made.detach(), poses["source"], cameras) for name, made in poses.items()}
        scalars: dict[str, Tensor] = {}
        for inner, outer in (("source", "weak"), ("weak", "strong")):
            gradients, first, second = meta_gradients(
                step.lifter, windows[inner], windows[outer], self.config.inner_lr, first_order=self.config.first_order
            )
            for name, parameter in step.lifter.named_parameters():
                parameter.grad = gradients.get(name)
            nn.utils.clip_grad_norm_(step.lifter.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            scalars |= {f"loss_{inner}": first, f"loss_{outer}": second}
        return scalars

    def _windows(self, step: Step, poses: Tensor, recorded: Tensor, cameras: Camera) -> Windows:
        """Windows (B, T, J, 3) mm as the lifter learns from them, a random half mirrored.

        Unseen ones weigh 0 and are as recorded: BatchNorm normalises by them all the same.
        """
        seen = inside_image(poses, project_screen(poses, cameras))
        poses = torch.where(seen.view(-1, 1, 1, 1), poses, recorded)
        keypoints, poses = windows_in_view(step.lifter, poses, cameras, project_screen(poses, cameras))
        draw = torch.rand(len(poses), generator=step.generator, device=step.generator.device)
        mirrored = mirror_batch(
            keypoints, training_targets(poses, step.lifter), (draw < 0.5).to(poses.device), step.lifter
        )
        return Windows(*mirrored, seen.to(poses.dtype))

    def state_dict(self) -> dict[str, Any]:
        """Both augmentors and the lifter's own optimiser."""
        return {name: getattr(self, name).state_dict() for name in ("weak", "strong", "optimizer")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for name in ("weak", "strong", "optimizer"):
            getattr(self, name).load_state_dict(state[name])

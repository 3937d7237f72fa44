"""Supervised learning of a lifter: the optimiser step that source training, the oracle and adaptation share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from poseda.data.batches import SourceBatch, SourceSampler
from poseda.data.clips import LabelledClips
from poseda.data.noise import noise_level
from poseda.engine.augmentation import Augmentation
from poseda.engine.descent import adam
from poseda.engine.loop import LoopConfig, run_loop
from poseda.engine.progress import Progress
from poseda.engine.runtime import restore_generator
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera, normalise_screen
from poseda.geometry.rotations import rotate
from poseda.lifters.base import MM_PER_METRE, Lifter, LifterOutput
from poseda.lifters.inference import mirror_keypoints
from poseda.lifters.views import Seen
from poseda.skeleton import constant_tensor

SigmaLoss = Literal["uao", "gaussian"]
SIGMA_WEIGHT = 1e-3
"""Weight of the scale head's loss. Adam gives the head itself the same steps whatever the weight; a small one leaves
the poses as good as without a head, where weight 1 lets its gradient steer the layers that both share."""


@dataclass(frozen=True)
class TrainConfig:
    """Options of supervised training; the defaults are PoseAug's baselines where it states one."""

    steps: int = 4000
    """Optimiser steps."""
    batch_size: int = 1024
    """Windows in a step (PoseAug: 1024)."""
    lr: float = 1e-3
    """Learning rate of Adam at the start (PoseAug: 1e-3); it falls to 0 along a cosine."""
    flip: bool = True
    """Mirror a random half of the windows, so that left and right are learned alike."""
    rotate: bool = False
    """Turn the person in each window about the world's vertical by a random angle, and project anew; for exact 2D seen
    by cameras with known poses."""
    noise: str = "none"
    """Detector noise drawn anew in each step, for exact 2D: none, cpn, hrnet, wild, or px at a 400 px box."""
    grad_clip: float = 1.0
    """Largest norm of the gradient (PoseAug: 1)."""
    log_every: int = 50
    """Steps between two log lines."""
    sigma_loss: Literal["uao", "gaussian"] = "uao"
    """How a lifter's own head learns the expected error: uao (its mean, ||e||/sigma + log sigma; the likelihood of the
    Laplace-type density exp(-r/s)/(8 pi s^3) is three times that) or gaussian (its root mean square, by the likelihood
    of an isotropic normal law, which large errors widen more)."""

    def __post_init__(self) -> None:
        check_schedule("train", self.steps, self.batch_size, self.lr)
        if self.noise != "none":
            noise_level(self.noise)


def check_schedule(section: str, steps: int, batch_size: int, lr: float) -> None:
    """Raise ConfigError for a schedule that cannot be run."""
    if steps < 1 or batch_size < 2:
        raise ConfigError(f"{section}.steps={steps}, {section}.batch_size={batch_size}: need 1 and 2 at least.")
    if not lr > 0:
        raise ConfigError(f"{section}.lr={lr}: must be above 0.")


def lifter_loss(
    output: LifterOutput, target: Tensor, weight: Tensor, sigma_loss: SigmaLoss = "uao"
) -> dict[str, Tensor]:
    """Losses of one batch: "pose" and, where the lifter has a scale head, "sigma". target (B, T', J, 3) mm.

    pose: mean squared error in m², as the published baselines train. sigma: ||error|| exp(-s) + s (UAO), whose least
    value has exp(s) = E||error||; or, for gaussian, the negative log likelihood of a normal law with that expected
    error, exp(s) = g sqrt(8 / pi) for g an axis. The error is detached: the head learns without moving the poses.
    """
    error = (output.pose - target) / MM_PER_METRE
    share = weight / weight.sum().clamp_min(1)  # (B,)
    losses = {"pose": (share * error.square().sum(-1).mean((1, 2))).sum()}
    if output.log_sigma is not None:
        log_metres = output.log_sigma - math.log(MM_PER_METRE)
        distance = error.detach().norm(dim=-1)
        losses["sigma"] = (share * sigma_nll(distance, log_metres, sigma_loss).mean((1, 2))).sum()
    return losses


def sigma_nll(distance: Tensor, log_sigma: Tensor, sigma_loss: SigmaLoss) -> Tensor:
    """Loss (...) of log expected errors for errors of size `distance` (...), both in one unit; without constants."""
    if sigma_loss == "gaussian":
        return 3 * log_sigma + 4 / math.pi * distance.square() * torch.exp(-2 * log_sigma)
    return distance * torch.exp(-log_sigma) + log_sigma


def training_targets(poses: Tensor, lifter: Lifter) -> Tensor:
    """Root-relative targets (B, T', J, 3) mm for windows (B, T, J, 3): all frames, or the middle one for seq2frame."""
    root = lifter.skeleton.root
    relative = poses - poses[:, :, root : root + 1]
    middle = poses.shape[1] // 2
    return relative if lifter.output == "seq2seq" else relative[:, middle : middle + 1]


def screen_keypoints(batch: SourceBatch) -> Tensor:
    """Screen-normalised projection (B, T, J, 2) of windows in their own cameras."""
    cameras = batch.cameras
    return normalise_screen(cameras.project(batch.poses), cameras.width, cameras.height)


def windows_in_view(
    lifter: Lifter, poses: Tensor, cameras: Camera, screen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A lifter's input (B, T, J, inputs) of the exact projections of windows (B, T, J, 3) mm, camera frame, and the
    same windows in the axes of its view. `screen` (B, T, J, 2) is the screen-normalised projection, where it is known.
    """
    if screen is not None and lifter.inputs == 2 and lifter.sees_screen:
        return screen, poses
    seen = lifter.see_poses(poses, cameras)
    return seen.keypoints, poses if seen.rotation is None else rotate(seen.rotation, poses)


def mirror_batch(keypoints: Tensor, target: Tensor, chosen: Tensor, lifter: Lifter) -> tuple[Tensor, Tensor]:
    """Inputs (B, T, J, inputs) and targets (B, T', J, 3) with the windows chosen (B,) bool mirrored."""
    order = lifter.skeleton.mirror_index(keypoints)
    flip = constant_tensor((-1.0, 1.0, 1.0), target.dtype, target.device)
    pick = chosen.view(-1, 1, 1, 1)
    mirrored = mirror_keypoints(keypoints, lifter.skeleton, lifter.mirror_signs)
    return torch.where(pick, mirrored, keypoints), torch.where(pick, target.index_select(-2, order) * flip, target)


@dataclass(frozen=True, eq=False)
class Addition:
    """Losses to add to those of the poses in one step of a lifter."""

    losses: Callable[[Tensor | None, Tensor | None], Mapping[str, Tensor]]
    """From the latents of the fitted windows and of `beside`, None where they are not wanted, to scalars by name."""
    beside: Tensor | None = None
    """(M, T, J, inputs) what the lifter sees of windows that pass the encoder together with the fitted ones, so that
    both have the same batch statistics; None where no latent is wanted."""


class Fitting:
    """A lifter with its optimiser and learning-rate schedule: Adam, cosine to 0, clipped gradients."""

    def __init__(
        self, lifter: Lifter, *, lr: float, steps: int, grad_clip: float, flip: bool, sigma_loss: SigmaLoss = "uao"
    ) -> None:
        self.lifter = lifter
        self.optimizer = adam(lifter.parameters(), lr)
        self.lr, self.steps, self.grad_clip, self.flip = lr, steps, grad_clip, flip
        self.sigma_loss: SigmaLoss = sigma_loss

    def fit(
        self,
        index: int,
        keypoints: Tensor,
        poses: Tensor,
        weight: Tensor,
        generator: torch.Generator,
        addition: Addition | None = None,
    ) -> dict[str, Tensor]:
        """One optimiser step on the lifter's input (B, T, J, inputs) and windows of poses (B, T, J, 3) mm in its view.

        Window i of `addition.beside` is mirrored where window i of the batch is.
        """
        target = training_targets(poses, self.lifter)
        beside = addition.beside if addition else None
        if self.flip:
            chosen = torch.rand(len(keypoints), generator=generator, device=generator.device) < 0.5
            chosen = chosen.to(keypoints.device)
            keypoints, target = mirror_batch(keypoints, target, chosen, self.lifter)
            if beside is not None:
                mirrored = mirror_keypoints(beside, self.lifter.skeleton, self.lifter.mirror_signs)
                beside = torch.where(chosen.view(-1, 1, 1, 1), mirrored, beside)
        output, latents = _lift_beside(self.lifter, keypoints, beside)
        losses = lifter_loss(output, target, weight, self.sigma_loss)
        total = losses["pose"] + SIGMA_WEIGHT * losses["sigma"] if "sigma" in losses else losses["pose"]
        for name, loss in (addition.losses(*latents) if addition else {}).items():
            total, losses[name] = total + loss, loss
        self._descend(index, total)
        return {f"loss_{name}": loss.detach() for name, loss in losses.items()}

    def fit_addition(self, index: int, addition: Addition) -> dict[str, Tensor]:
        """One optimiser step on the added losses alone, which read no latents; {} where there is none in this step."""
        losses = addition.losses(None, None)
        if losses:
            self._descend(index, torch.stack(list(losses.values())).sum())
        return {f"loss_{name}": loss.detach() for name, loss in losses.items()}

    def _descend(self, index: int, total: Tensor) -> None:
        """Move the weights against the gradient of a scalar, with the step size of step `index`."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * index / self.steps))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.lifter.parameters(), self.grad_clip)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"lifter": self.lifter.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.lifter.load_state_dict(state["lifter"])
        self.optimizer.load_state_dict(state["optimizer"])


def _lift_beside(
    lifter: Lifter, keypoints: Tensor, beside: Tensor | None
) -> tuple[LifterOutput, tuple[Tensor | None, Tensor | None]]:
    """Output of keypoints (B, T, J, inputs), and the latents of these and of `beside`, which share one pass."""
    if beside is None:
        return lifter(keypoints), (None, None)
    both = torch.cat([keypoints, beside])
    lifter.check_keypoints(both)
    latent = lifter.encode(both)
    first, second = latent[: len(keypoints)], latent[len(keypoints) :]
    return lifter.decode(first), (first, second)


class SupervisedTask:
    """Train a lifter on labelled clips with the 2D that they carry (detections or projections), or as augmented."""

    def __init__(self, lifter: Lifter, clips: LabelledClips, config: TrainConfig, generator: torch.Generator) -> None:
        self.sampler = SourceSampler(clips, lifter.frames)
        self.generator = generator
        self.batch_size = config.batch_size
        changes = config.rotate or config.noise != "none"
        self.augmentation = Augmentation(clips, rotate=config.rotate, noise=config.noise) if changes else None
        self.fitting = Fitting(
            lifter, lr=config.lr, steps=config.steps, grad_clip=config.grad_clip, flip=config.flip,
            sigma_loss=config.sigma_loss,
        )  # fmt: skip

    def step(self, index: int) -> Mapping[str, Tensor]:
        """One step on freshly drawn windows."""
        batch, seen = self._draw()
        poses = batch.poses if seen.rotation is None else rotate(seen.rotation, batch.poses)
        return self.fitting.fit(index, seen.keypoints, poses, batch.weight, self.generator)

    def _draw(self) -> tuple[SourceBatch, Seen]:
        """Windows, and what the lifter sees of them."""
        batch, pixels, confidence = self.sampler.draw_with_keypoints(self.batch_size, self.generator)
        if self.augmentation is not None:
            batch, pixels, confidence = self.augmentation(batch, self.generator)
        return batch, self.fitting.lifter.see(pixels, confidence > 0, batch.cameras, confidence)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {**self.fitting.state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        restore_generator(self.generator, state["generator"])
        self.fitting.load_state_dict(state)


def train_lifter(
    lifter: Lifter,
    clips: LabelledClips,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    resume: bool = True,
) -> Lifter:
    """Train `lifter` in place on labelled clips, on the device where both are, and return it in evaluation mode.

    With a `folder`, metrics and checkpoints go there and a killed run goes on where it stopped. Raises ConfigError
    where the clips have another skeleton than the lifter.
    """
    config = config or TrainConfig()
    check_skeletons(lifter, clips.skeleton.name, clips.provenance.name)
    generator = torch.Generator(device=clips.poses.device).manual_seed(seed)
    task = SupervisedTask(lifter.train(), clips, config, generator)
    loop = LoopConfig(steps=config.steps, log_every=config.log_every)
    settings = {"train": asdict(config), "lifter": {"name": lifter.name}}
    run_loop(task, loop, seed=seed, folder=folder, progress=progress, resume=resume, settings=settings)
    return lifter.eval()


def check_skeletons(lifter: Lifter, skeleton: str, domain: str) -> None:
    """Raise ConfigError where a domain's joints are not the lifter's."""
    if lifter.skeleton.name != skeleton:
        raise ConfigError(
            f"{domain} has the joints of {skeleton}, the lifter {lifter.name} those of {lifter.skeleton.name}: "
            f"load the domain with skeleton={lifter.skeleton.name}, or convert the clips."
        )

"""TTO, test-time optimisation of a latent by reprojection, each joint free to move as far as its uncertainty says.

After UAO (arXiv 2402.02339, IEEE TMM): the lifter is frozen and only a latent z moves, so that the pose that it decodes
to explains the 2D, while each joint is held to its first prediction as tightly as its own sigma is small:

    min_z  w_p mean_j c_j ||project(pose_j(z) + root) - x_j||  +  w_g mean_j ||pose_j(z) - pose_j(z_0)|| / sigma_j

Departures: the published loop reads the ground-truth root, which nobody has at test time; here the root is solved for
in each step by robust least squares, and the truth is an `oracle` that every table flags. The latent is the pose itself
by default: that gained most with an honest root (experiments/real_motion), and needs no network in the loop. The camera
is the target's own, with its lens, and nothing is clamped. The objective is summed over samples, so that no frame feels
its batch mates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.engine.facts import SourceFacts
from poseda.errors import ConfigError, choose
from poseda.geometry.camera import Camera, normalise_screen
from poseda.geometry.root import root_from_keypoints
from poseda.lifters.base import Lifter, evaluation_mode
from poseda.lifters.inference import LiftedClips, lift_clips, lifting_batches, screen_keypoints
from poseda.stages.base import Stage

CALIBRATION_FRAMES = 4096


@dataclass(frozen=True)
class TTOConfig:
    """Options of test-time optimisation."""

    latent: str = "output"
    """What moves: input (the 2D that the lifter sees, as published), feature (what its encoder gives; only the decoder
    is run again), output (the pose itself; no network in the loop)."""
    steps: int = 20
    """Steps of Adam (UAO: 4)."""
    lr: float = 1e-2
    """Step size: screen units for input (UAO: 1e-3), the feature's own for feature, metres for output."""
    weight_reprojection: float = 1.0
    """Weight of the reprojection term, in screen units (UAO: 1)."""
    weight_anchor: float = 0.005
    """Weight of the anchor to the first prediction, in units of sigma (UAO: 0.005)."""
    root: str = "least_squares"
    """Where the root comes from: least_squares (from the 2D), or oracle (the truth; flagged in every table)."""
    chunk: int = 8192
    """Frames that are optimised at once."""

    def __post_init__(self) -> None:
        choose(self.latent, ("input", "feature", "output"), "tto.latent")
        choose(self.root, ("least_squares", "oracle"), "tto.root")
        if self.steps < 0 or self.chunk < 1 or not self.lr > 0:
            raise ConfigError(f"tto.steps={self.steps}, chunk={self.chunk}, lr={self.lr}: must be positive.")
        if self.weight_anchor < 0 or self.weight_reprojection < 0:
            raise ConfigError("tto.weight_anchor and tto.weight_reprojection must not be negative.")


@dataclass(frozen=True, eq=False)
class Observation:
    """What is known of N frames before the latent moves."""

    pose: Tensor
    """(N, J, 3) mm, root-relative: the first prediction."""
    sigma: Tensor
    """(N, J) mm: its expected error."""
    keypoints: Tensor
    """(N, J, 2) screen-normalised 2D."""
    rays: Tensor
    """(N, J, 2) undistorted rays of the same."""
    confidence: Tensor
    """(N, J) in [0, 1], 0 = missing."""
    cameras: Camera
    """(N,)."""
    root: Tensor | None
    """(N, 3) mm where the truth is given, else None."""


def tto_objective(pose: Tensor, seen: Observation, config: TTOConfig) -> Tensor:
    """Objective (N,) of poses (N, J, 3) mm, root-relative; see the head of this file. Not summed over samples."""
    root, valid = _root(pose, seen)
    pixels = seen.cameras.project(pose + root.unsqueeze(-2))
    projected = normalise_screen(pixels, seen.cameras.width, seen.cameras.height)
    weight = seen.confidence * valid.unsqueeze(-1)
    # a joint that already fits has no direction to move in: the norm's gradient at 0 is taken as 0, up to 1e-6 of the
    # screen (0.0005 px), for Adam would make a full step of the sign of a float32 rounding error
    miss = (projected - seen.keypoints).square().sum(-1).clamp_min(1e-12).sqrt()
    moved = (pose - seen.pose).square().sum(-1).clamp_min(1e-12).sqrt()
    reprojection = torch.where(weight > 0, weight * miss, 0.0).mean(-1)
    return config.weight_reprojection * reprojection + config.weight_anchor * (moved / seen.sigma).mean(-1)


def _root(pose: Tensor, seen: Observation) -> tuple[Tensor, Tensor]:
    """Root (N, 3) mm without gradient, and whether it is before the camera (N,)."""
    if seen.root is not None:
        return seen.root, torch.ones_like(seen.root[:, 0], dtype=torch.bool)
    root, valid = root_from_keypoints(pose.detach(), seen.rays, seen.confidence)
    away = torch.where(valid.unsqueeze(-1), root, root.new_tensor([0.0, 0.0, 5000.0]))
    return away, valid


class TTO(Stage):
    """Refine lifted poses at test time; thousands of frames in one batch, the lifter frozen."""

    Config = TTOConfig
    name = "tto"
    needs_source = False

    def __init__(self, config: TTOConfig | None = None, *, oracle_root: Tensor | None = None) -> None:
        """`oracle_root` (F, 3) mm is the true root of the clips to refine, wanted for root=oracle only."""
        self.config = config or TTOConfig()
        self.oracle_root = oracle_root
        self.joint_sigma: Tensor | None = None

    @property
    def label(self) -> str:  # type: ignore[override]
        """TTO, and a flag where it reads the true root."""
        return "TTO (oracle root)" if self.config.root == "oracle" else "TTO"

    def calibrate(self, lifter: Lifter, source: LabelledClips) -> None:
        """For a lifter without a scale head: sigma of each joint is its mean error on source frames."""
        if lifter.has_sigma:
            return
        every = max(source.num_frames // CALIBRATION_FRAMES, 1)
        clips = source.subsample(every)
        relative = clips.poses - clips.poses[:, lifter.skeleton.root, None]
        self.joint_sigma = (lift_clips(lifter, clips).poses - relative).norm(dim=-1).mean(0).clamp_min(1.0)

    def calibrate_without_source(self, lifter: Lifter, facts: SourceFacts) -> None:
        """Sigma of each joint for a lifter without a scale head, from the source model's card."""
        if not lifter.has_sigma:
            self.joint_sigma = facts.joint_errors("tto").to(next(lifter.parameters())).clamp_min(1.0)

    def refine(self, lifter: Lifter, clips: UnlabelledClips, lifted: LiftedClips) -> LiftedClips:
        """Poses that fit the clips' 2D better; sigma stays that of the first prediction."""
        sigma = self._sigma(lifted)
        poses = lifted.poses.clone()
        screen = screen_keypoints(clips)
        with evaluation_mode(lifter), _frozen(lifter):
            for windows, rows, kept in self._batches(lifter, clips):
                seen = self._observe(clips, lifted.poses[rows], sigma[rows], screen, rows)
                poses[rows] = self._optimise(lifter, screen[windows], kept, seen)
        return LiftedClips(poses, lifted.sigma)

    def _batches(self, lifter: Lifter, clips: UnlabelledClips) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Frame numbers to feed (B, T), to get (N,), and which outputs (B, T') these are."""
        if self.config.latent == "output":
            for rows in torch.split(torch.arange(clips.num_frames, device=clips.bounds.device), self.config.chunk):
                yield rows[:, None], rows, torch.ones_like(rows[:, None], dtype=torch.bool)
        else:
            yield from lifting_batches(lifter, clips.bounds, self.config.chunk)

    def _sigma(self, lifted: LiftedClips) -> Tensor:
        if lifted.sigma is not None:
            return lifted.sigma.clamp_min(1.0)
        if self.joint_sigma is None:
            raise ConfigError("tto needs sigma: a lifter with sigma=true, or TTO.calibrate(lifter, source) beforehand.")
        return self.joint_sigma.expand(lifted.poses.shape[:-1])

    def _observe(
        self, clips: UnlabelledClips, pose: Tensor, sigma: Tensor, screen: Tensor, rows: Tensor
    ) -> Observation:
        cameras = clips.cameras_at(rows)
        root = None
        if self.config.root == "oracle":
            if self.oracle_root is None or len(self.oracle_root) != clips.num_frames:
                raise ConfigError("tto.root=oracle needs the true roots of these clips; only an evaluation has them.")
            root = self.oracle_root[rows]
        rays = cameras.unproject(clips.keypoints[rows])
        return Observation(pose, sigma, screen[rows], rays, clips.confidence[rows], cameras, root)

    def _optimise(self, lifter: Lifter, inputs: Tensor, kept: Tensor, seen: Observation) -> Tensor:
        """(N, J, 3) mm after `steps` steps of Adam on the latent of screen windows (B, T, J, 2)."""
        config = self.config
        start = self._start(lifter, inputs, seen)
        latent = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([latent], lr=config.lr)
        with torch.no_grad():
            first = self._decode(lifter, start, kept)
        for _ in range(config.steps):
            pose = seen.pose + (self._decode(lifter, latent, kept) - first)
            optimizer.zero_grad(set_to_none=True)
            tto_objective(pose, seen, config).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            return seen.pose + (self._decode(lifter, latent, kept) - first)

    def _start(self, lifter: Lifter, inputs: Tensor, seen: Observation) -> Tensor:
        if self.config.latent == "output":
            return torch.zeros_like(seen.pose)
        with torch.no_grad():
            return inputs if self.config.latent == "input" else lifter.encode(inputs)

    def _decode(self, lifter: Lifter, latent: Tensor, kept: Tensor) -> Tensor:
        """(N, J, 3) mm of a latent. For output it is the offset from the first prediction in metres, its root 0."""
        if self.config.latent == "output":
            return 1000.0 * (latent - latent[:, lifter.skeleton.root, None])
        output = lifter(latent) if self.config.latent == "input" else lifter.decode(latent)
        return output.pose[kept]


class _frozen:
    """No gradients for the lifter's weights inside the block: the published loop spends a third of its time on them."""

    def __init__(self, lifter: Lifter) -> None:
        self.parameters = [parameter for parameter in lifter.parameters() if parameter.requires_grad]

    def __enter__(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)


STAGE = TTO

"""TTO, test-time optimisation of a latent by reprojection, each joint free to move as far as its uncertainty says.

After UAO (arXiv 2402.02339, IEEE TMM): the lifter is frozen and only a latent z moves, so that the pose that it decodes
to explains the 2D, while each joint is held to its first prediction as tightly as its own sigma is small:

    min_z  w_p mean_j c_j ||project(pose_j(z) + root) - x_j||  +  w_g mean_j ||pose_j(z) - pose_j(z_0)|| / sigma_j

Departures: the published loop reads the ground-truth root, which nobody has at test time; here the root is solved for
in each step (roots.py), and the truth is an `oracle` that every table flags. What moves is a choice (latents.py,
replay.py), the objective has further terms (objectives.py), and Gauss-Newton solves for the pose itself without a
network in the loop (solvers.py). The camera is the target's own, with its lens, and nothing is clamped; sigma is that
of the first prediction. The objective is summed over samples, so that no frame feels its batch mates.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from poseda.anthropometry.persons import Measured, person_bones
from poseda.anthropometry.reference import Reference
from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.engine.facts import SourceFacts
from poseda.errors import ConfigError
from poseda.geometry.bones import bone_lengths
from poseda.lifters.base import Lifter, LifterOutput, evaluation_mode, to_camera
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.stages.base import Stage
from poseda.stages.tto.config import TTOConfig
from poseda.stages.tto.latents import (
    Group,
    both_branches,
    feature_directions,
    groups_of,
    lifter_input,
    make_latent,
    unmirrored,
)
from poseda.stages.tto.objectives import Objective
from poseda.stages.tto.observation import Observation, estimate_noise
from poseda.stages.tto.roots import Roots, clip_mean
from poseda.stages.tto.solvers import Moves, adam, gauss_newton, within

CALIBRATION_FRAMES = 4096


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
        self.source_length = 0.0
        self.directions: Tensor | None = None
        self.reference: Reference | None = None
        self.people: Measured | None = None
        self.counts: dict[str, int] = {}
        self.noise = 0.0

    @property
    def label(self) -> str:  # type: ignore[override]
        """TTO, and a flag where it reads the true root."""
        return "TTO (oracle root)" if self.wants_oracle_root else "TTO"

    @property
    def wants_oracle_root(self) -> bool:  # type: ignore[override]
        """Whether root=oracle."""
        return self.config.root == "oracle"

    def take_oracle_root(self, root: Tensor) -> None:
        """The true roots (F, 3) mm of the clips to refine."""
        self.oracle_root = root

    def calibrate(self, lifter: Lifter, source: LabelledClips) -> None:
        """Of the source: each joint's mean error where the lifter has no scale head, bones, main directions."""
        clips = source.spread(CALIBRATION_FRAMES, lifter.frames)
        if not lifter.has_sigma:
            relative = clips.poses - clips.poses[:, lifter.skeleton.root, None]
            self.joint_sigma = (lift_clips(lifter, clips).poses - relative).norm(dim=-1).mean(0).clamp_min(1.0)
        self.source_length = float(bone_lengths(clips.poses, clips.skeleton).sum(-1).mean())
        self.reference = Reference.of(source) if self.config.lengths == "person" else None
        if self.config.latent == "lowrank":
            self.directions = feature_directions(lifter, source, self.config.directions)

    def calibrate_without_source(self, lifter: Lifter, facts: SourceFacts) -> None:
        """The same from the source model's card; directions are not on it."""
        if not lifter.has_sigma and facts.joint_error_mm is not None:
            self.joint_sigma = facts.joint_error_mm.to(next(lifter.parameters())).clamp_min(1.0)
        if self.config.root == "size_prior" and not self.config.height_mm:
            self.source_length = 0.0 if facts.bone_mm is None else float(facts.bone_mm.sum())
        self.reference = facts.people if self.config.lengths == "person" else None
        if self.config.latent == "lowrank":
            raise ConfigError("tto.latent=lowrank takes its directions from source clips: give source=NAME.")

    def refine(self, lifter: Lifter, clips: UnlabelledClips, lifted: LiftedClips) -> LiftedClips:
        """Poses that fit the clips' 2D better; sigma stays that of the first prediction."""
        self.counts = {"joints": int((~clips.visible).sum())}
        whole = self._observe_all(clips, lifted)
        poses = lifted.poses.clone()
        with evaluation_mode(lifter), _frozen(lifter):
            for group in groups_of(lifter, clips.bounds, self.config):
                seen = whole.take(group.rows)
                seen = self._resized(replace(seen, clip=seen.clip - seen.clip[0]))
                poses[group.rows] = self._optimise(lifter, clips, group, seen)
        return replace(lifted, poses=poses)

    def remark(self) -> str:
        """What was left alone, and what was estimated, in the last `refine`."""
        said = {
            "joints": "{} joints are missing and have no 2D to fit",
            "frames": "{} frames have no root before the camera and are left as they were",
            "ground": "the floor tells no size in {} frames, which take theirs from the pose",
        }
        parts = [text.format(self.counts[key]) for key, text in said.items() if self.counts.get(key)]
        if self.noise and (self.config.reprojection != "l2" or self.config.discrepancy):
            parts.append(f"2D noise estimated at {self.noise:.1f} px along an axis")
        if self.people:
            parts.append(self.people.sentence())
        elif self.config.lengths == "person":
            parts.append(
                "neither source clips nor a card with people to measure others beside: bones are held to their mean in "
                "each clip"
            )
        if self.config.module:
            parts.append(f"of the lifter only what follows the {self._side()} of {self.config.module} is run again")
        return f"{self.label}: {'; '.join(parts)}" if parts else ""

    def _side(self) -> str:
        return "input" if self.config.latent == "tail" else "output"

    def _observe_all(self, clips: UnlabelledClips, lifted: LiftedClips) -> Observation:
        cameras = clips.cameras_at(torch.arange(clips.num_frames, device=clips.bounds.device))
        cameras = cameras.without_lens() if self.config.camera == "pinhole" else cameras
        return Observation(
            pose=lifted.poses,
            sigma=self._sigma(lifted),
            pixels=clips.keypoints,
            rays=cameras.unproject(clips.keypoints),
            confidence=clips.confidence,
            cameras=cameras,
            noise=self._noise(clips),
            clip=clips.sequence_index,
            skeleton=clips.skeleton,
            precision=self._precision(lifted),
            root=self._oracle(clips),
            bones=self._bones(clips, lifted),
        )

    def _bones(self, clips: UnlabelledClips, lifted: LiftedClips) -> Tensor | None:
        floor = self.config.size == "floor"
        self.people = person_bones(self.reference, clips, lifted.poses, floor=floor) if self.reference else None
        return self.people.bones if self.people else None

    def _sigma(self, lifted: LiftedClips) -> Tensor:
        if self.config.sigma_mm:
            return lifted.poses.new_full(lifted.poses.shape[:-1], self.config.sigma_mm)
        if lifted.sigma is not None:
            return lifted.sigma.clamp_min(1.0)
        if self.joint_sigma is None:
            raise ConfigError(
                "tto needs each joint's error on the source, and this lifter has neither a sigma head nor a card that "
                "says it: give tto.sigma_mm=MM, a lifter that python -m poseda.train has written, or, to adapt, "
                "source=NAME."
            )
        return self.joint_sigma.expand(lifted.poses.shape[:-1])

    def _precision(self, lifted: LiftedClips) -> Tensor | None:
        """Inverse covariances (F, J, 3, 3) 1/mm²; None where there are none, or where they are not asked for."""
        if lifted.covariance is None or self.config.anchor != "mahalanobis" or self.config.sigma_mm:
            return None
        at_least = torch.eye(3, dtype=lifted.poses.dtype, device=lifted.poses.device)  # 1 mm²
        precision: Tensor = torch.linalg.inv(lifted.covariance + at_least)
        return precision

    def _noise(self, clips: UnlabelledClips) -> Tensor:
        if self.config.noise_px:
            return clips.keypoints.new_full((clips.num_frames,), self.config.noise_px)
        noise = estimate_noise(clips.keypoints, clips.confidence, clips.sequence_index)
        self.noise = float(noise.median()) if len(noise) else 0.0
        return noise

    def _oracle(self, clips: UnlabelledClips) -> Tensor | None:
        if not self.wants_oracle_root:
            return None
        if self.oracle_root is None or len(self.oracle_root) != clips.num_frames:
            raise ConfigError("tto.root=oracle needs the true roots of these clips; only an evaluation has them.")
        return self.oracle_root

    @property
    def roots(self) -> Roots:
        """The root provider."""
        return Roots(self.config.root, self.config.path_frames, self.config.height_mm, self.source_length)

    def _resized(self, seen: Observation) -> Observation:
        """Poses as large as the root provider says, and counts of what it cannot say."""
        if self.config.root == "ground" or self.config.resize:
            ratio, known = self.roots.size_ratio(seen.pose, seen)
            self._count("ground", int((~known).sum()))
            if self.config.resize:
                return replace(seen, pose=seen.pose * clip_mean(ratio, seen)[:, None, None])
        return seen

    def _count(self, key: str, more: int) -> None:
        self.counts[key] = self.counts.get(key, 0) + more

    def _optimise(self, lifter: Lifter, clips: UnlabelledClips, group: Group, seen: Observation) -> Tensor:
        """Refined poses (N, J, 3) mm of a group; frames without a root before the camera stay."""
        config = self.config
        objective = Objective(config, self.roots, seen)
        with torch.no_grad():
            valid = objective.project(seen.pose)[1]
        self._count("frames", int((~valid).sum()))
        if config.latent != "output":
            pose = self._through_network(lifter, clips, group, seen)
        elif config.gauss_newton:
            pose = gauss_newton(objective, config, self._radius(seen))
        else:
            pose = adam(self._output_moves(seen), objective, config)
        return torch.where(valid[:, None, None], pose, seen.pose)

    def _radius(self, seen: Observation) -> Tensor | None:
        return self.config.trust * seen.sigma if self.config.trust else None

    def _output_moves(self, seen: Observation) -> Moves:
        """The pose's own offset in metres, its root 0."""
        root, radius = seen.skeleton.root, self._radius(seen)
        latent = torch.zeros_like(seen.pose).requires_grad_(True)

        def offset() -> Tensor:
            return 1000.0 * (latent - latent[:, root, None])

        def settle() -> None:
            if radius is not None:
                latent.copy_(within(offset(), radius) / 1000.0)

        return Moves([latent], lambda: seen.pose + offset(), settle)

    def _through_network(self, lifter: Lifter, clips: UnlabelledClips, group: Group, seen: Observation) -> Tensor:
        """Refined poses (N, J, 3) mm by a latent of the lifter; with `flip`, the mean of two branches."""
        config, skeleton = self.config, lifter.skeleton
        looks = [lifter_input(lifter, clips, batch.windows) for batch in group.batches]
        inputs = [both_branches(windows, lifter) if config.flip else windows for windows, _ in looks]
        turns = [turn if turn is None or not config.flip else turn.repeat(2, 1, 1) for _, turn in looks]
        kept = [batch.kept for batch in group.batches]
        with torch.no_grad():
            latents = [make_latent(lifter, windows, config, self.directions) for windows in inputs]
        moving = [latent.start.clone().requires_grad_(True) for latent in latents]

        def decode(values: list[Tensor]) -> LifterOutput:
            outputs = [latent.decode(value) for latent, value in zip(latents, values, strict=True)]
            outputs = [unmirrored(output, skeleton) for output in outputs] if config.flip else outputs
            outputs = [to_camera(output, turn) for output, turn in zip(outputs, turns, strict=True)]
            return _gathered(outputs, kept, config.flip)

        with torch.no_grad():
            first = decode([latent.start for latent in latents])
        branch = self._branches(first, seen) if config.flip else seen
        radius = self._radius(branch)

        def pose() -> Tensor:
            return branch.pose + within(decode(moving).pose - first.pose, radius)

        refined = adam(Moves(moving, pose, lambda: None), Objective(config, self.roots, branch), config)
        if not config.flip:
            return refined
        offset = (refined - branch.pose).view(2, *seen.pose.shape).mean(0)
        return seen.pose + offset

    def _branches(self, first: LifterOutput, seen: Observation) -> Observation:
        """The 2D twice, each branch with its own first prediction and its own sigma."""
        own = first.log_sigma is not None and not self.config.sigma_mm
        sigma = first.log_sigma.exp().clamp_min(1.0) if own else seen.sigma.repeat(2, 1)  # type: ignore[union-attr]
        return seen.twice(first.pose, sigma)


def _gathered(outputs: list[LifterOutput], kept: list[Tensor], flip: bool) -> LifterOutput:
    """Kept frames of the windows (B, T', ...) of several batches: (N, ...); of both branches (2N, ...)."""
    masks = [torch.cat([mask, mask]) if flip else mask for mask in kept]
    counts = [int(mask.sum()) for mask in kept]

    def join(parts: list[Tensor]) -> Tensor:
        if not flip:
            return torch.cat([part[mask] for part, mask in zip(parts, masks, strict=True)])
        halves = [torch.split(part[mask], count) for part, mask, count in zip(parts, masks, counts, strict=True)]
        return torch.cat([half[0] for half in halves] + [half[1] for half in halves])

    scales = [output.log_sigma for output in outputs if output.log_sigma is not None]
    return LifterOutput(join([output.pose for output in outputs]), join(scales) if scales else None)


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

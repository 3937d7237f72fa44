"""People whose first prediction is off, and what the stage sees of them."""

from __future__ import annotations

from dataclasses import replace

import torch

from poseda.lifters.inference import LiftedClips
from poseda.stages.tto import Objective, Observation, Roots, TTOConfig

PUBLISHED = {
    "solver": "adam", "steps": 20, "reprojection": "l2", "anchor": "published", "weight_anchor": 0.005,
    "weight_bones": 0.0, "weight_symmetry": 0.0, "weight_jerk": 0.0, "root": "least_squares",
}  # fmt: skip


def published(**options):
    """UAO's objective and solver on the pose itself, with some options changed."""
    return TTOConfig(**{**PUBLISHED, **options})


def in_double(clips):
    """The same clips in float64, exact 2D included."""
    cameras = clips.cameras.to(dtype=torch.float64)
    poses = clips.poses.double()
    return replace(
        clips,
        poses=poses,
        keypoints=cameras[clips.camera_index].project(poses),
        confidence=clips.confidence.double(),
        cameras=cameras,
    )


def relative(clips):
    return clips.poses - clips.poses[:, :1]


def first_guess(clips, error=60.0, sigma=80.0, seed=0):
    """Poses that are off by `error` mm a coordinate, with the root at 0, and a sigma for all joints."""
    noise = error * torch.randn(clips.poses.shape, generator=torch.Generator().manual_seed(seed)).to(clips.poses)
    noise[:, 0] = 0
    return LiftedClips(relative(clips) + noise, torch.full_like(clips.confidence, sigma))


def rows_of(lifted, rows):
    return LiftedClips(lifted.poses[rows], lifted.sigma[rows])


def misfit(clips, poses, roots):
    """Mean distance in px between the clips' 2D and poses seen from given roots."""
    pixels = clips.cameras_at(torch.arange(clips.num_frames)).project(poses + roots[:, None])
    return float((pixels - clips.keypoints).norm(dim=-1)[clips.visible].mean())


def observe(clips, lifted, root=None, precision=None):
    """All frames of clips as one group, noise 2 px."""
    cameras = clips.cameras_at(torch.arange(clips.num_frames))
    return Observation(
        pose=lifted.poses,
        sigma=lifted.sigma,
        pixels=clips.keypoints,
        rays=cameras.unproject(clips.keypoints),
        confidence=clips.confidence,
        cameras=cameras,
        noise=clips.keypoints.new_full((clips.num_frames,), 2.0),
        clip=clips.sequence_index,
        skeleton=clips.skeleton,
        precision=precision,
        root=root,
    )


def value(pose, seen, config):
    """The objective (N,) of poses; where the observation has a true root, with that root."""
    return objective(seen, config)(pose)


def objective(seen, config):
    kind = config.root if seen.root is None else "oracle"
    return Objective(config, Roots(kind, config.path_frames, config.height_mm, 4000.0), seen)

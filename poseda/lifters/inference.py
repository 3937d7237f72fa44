"""Lift whole clips: every real frame exactly once, and no window that crosses a sequence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.errors import ConfigError, ShapeError, choose
from poseda.geometry.camera import normalise_screen
from poseda.geometry.rotations import rotate
from poseda.lifters.base import Lifter, LifterOutput, evaluation_mode
from poseda.lifters.matmul import gpu_products
from poseda.lifters.tiling import Merge
from poseda.lifters.tiling import lifting_batches as lifting_batches
from poseda.lifters.views import Seen
from poseda.lifters.views import fill_missing as fill_missing
from poseda.skeleton import Skeleton, constant_tensor

Run = Callable[[Tensor, Tensor], LifterOutput]
Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True)
class LiftedClips:
    """Poses (F, J, 3) mm, root-relative in camera axes, with expected errors sigma (F, J) mm or None.

    `covariance` (F, J, 3, 3) mm² of each joint's error, where whoever gave sigma knows its shape too, else None.
    """

    poses: Tensor
    sigma: Tensor | None
    covariance: Tensor | None = None
    radius90: Tensor | None = None
    """(F, J) mm: the ball about each joint that holds it with 90 %, where that was calibrated, else None."""


@dataclass(frozen=True)
class LiftConfig:
    """How whole clips are lifted; the defaults are exact."""

    overlap: int = 0
    """Frames that each window of a seq2seq lifter shares with the next one."""
    merge: Merge = "mean"
    """Of a frame in several windows: the mean of its poses, or the one nearest to its window's centre."""
    precision: Precision = "float32"
    """tf32: products of a GPU with 10 of 23 bits after the point, on a CPU as float32; bfloat16: products up to the
    latent in half the bits, for machines that have them. Both cost accuracy (docs/lifters.md)."""
    compile: bool = False
    """Whether the lifter goes through torch.compile first, which takes from seconds to minutes."""

    def __post_init__(self) -> None:
        choose(self.merge, get_args(Merge), "merge")
        choose(self.precision, get_args(Precision), "precision")


@torch.no_grad()
def lift_clips(
    lifter: Lifter,
    clips: LabelledClips | UnlabelledClips,
    flip: bool = False,
    batch_size: int = 4096,
    config: LiftConfig | None = None,
) -> LiftedClips:
    """Lift all frames of clips in eval mode, `batch_size` frames at a time; results are on the clips' device.

    flip: the mean with the mirrored pass (x -> -x, left and right swapped, and back). The 2D input is what
    `Lifter.see` makes. seq2frame lifters see each frame as the centre of its window, with the edge frames of
    its sequence repeated; what they compute of one frame alone is shared by the windows of a batch, but where a
    view gives each window its own camera. seq2seq
    lifters see windows side by side, the last one of a sequence moved back to end with it, of which only the
    frames not lifted yet are kept; `config.overlap` lets windows share more frames. Raises ShapeError for other
    joint sets, ConfigError for an overlap that the lifter cannot have.
    """
    config = config or LiftConfig()
    if clips.skeleton != lifter.skeleton:
        raise ShapeError(
            f"{lifter.name} lifts {lifter.skeleton.name} and the clips hold {clips.skeleton.name}; "
            f"take clips.convert(lifter.skeleton)."
        )
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1.")
    keypoints = clips.keypoints
    poses = keypoints.new_zeros(*keypoints.shape[:-1], 3)
    sigma = keypoints.new_zeros(keypoints.shape[:-1]) if lifter.has_sigma else None
    times = keypoints.new_zeros(len(keypoints))
    weight = next((p for p in lifter.parameters() if p.is_floating_point()), keypoints)
    run: Run = partial(lifter.lift_windows, half=config.precision == "bfloat16")
    if config.compile:
        run = torch.compile(run)
        if lifter.cached_frames and weight.device.type == "cpu":  # what an uncompiled lifter does by itself
            batch_size = min(batch_size, max(lifter.cached_frames, lifter.frames))
    with evaluation_mode(lifter):
        batches = lifting_batches(lifter, clips.bounds, batch_size, config.overlap, config.merge)
        for windows, rows, kept in batches:
            seen, numbers = see_windows(lifter, clips, windows)
            frames = seen.keypoints.flatten(0, 1).to(weight)
            with gpu_products(config.precision == "tf32") if frames.is_cuda else nullcontext():
                pose, scale = _lift(lifter, run, frames, numbers.to(frames.device), flip)
            if seen.rotation is not None:  # a view that turns is of one frame here, or of one window
                pose = rotate(seen.rotation.mT.to(pose), pose)
            poses.index_add_(0, rows, pose[kept.to(pose.device)].to(poses))
            times.index_add_(0, rows, times.new_ones(len(rows)))
            if sigma is not None and scale is not None:
                sigma.index_add_(0, rows, scale[kept.to(pose.device)].to(sigma))
    if config.overlap:
        poses /= times[:, None, None]
        sigma = None if sigma is None else sigma / times[:, None]
    return LiftedClips(poses, sigma)


def see_windows(lifter: Lifter, clips: LabelledClips | UnlabelledClips, windows: Tensor) -> tuple[Seen, Tensor]:
    """What a lifter sees of windows (B, T) of frame numbers, and which of the rows seen they are, (B, T).

    The rows are the frames from the first to the last number, one by one; where each window has a view of its own, or
    each frame is a window, they are the windows' frames, and the view's rotation is (B, 3, 3).
    """
    if lifter.sees_windows or lifter.frames == 1 == windows.shape[1]:
        index, numbers = windows, torch.arange(windows.numel(), device=windows.device).view_as(windows)
    else:
        first, end = int(windows.min()), int(windows.max()) + 1
        index, numbers = torch.arange(first, end, device=windows.device)[:, None], windows - first
    visible, cameras = clips.visible[index], clips.cameras_at(index[:, 0])
    return lifter.see(clips.keypoints[index], visible, cameras, clips.confidence[index]), numbers


def screen_keypoints(clips: LabelledClips | UnlabelledClips) -> Tensor:
    """Screen-normalised keypoints (F, J, 2), with missing joints filled by `fill_missing`."""
    index = clips.camera_index
    sizes = clips.cameras.width[index], clips.cameras.height[index]
    return fill_missing(normalise_screen(clips.keypoints, *sizes), clips.visible)


def mirror_keypoints(keypoints: Tensor, skeleton: Skeleton, signs: tuple[float, ...] = (-1.0, 1.0)) -> Tensor:
    """Mirrored person in a mirrored image: (..., J, C) -> same; signs (C,) are a lifter's `mirror_signs`."""
    flip = constant_tensor(signs, keypoints.dtype, keypoints.device)
    return keypoints.index_select(-2, skeleton.mirror_index(keypoints)) * flip


def mirror_poses(poses: Tensor, skeleton: Skeleton) -> Tensor:
    """Mirrored person: (..., J, 3) camera axes -> same."""
    flip = constant_tensor((-1.0, 1.0, 1.0), poses.dtype, poses.device)
    return poses.index_select(-2, skeleton.mirror_index(poses)) * flip


def mean_of_both(plain: LifterOutput, mirrored: LifterOutput, skeleton: Skeleton) -> tuple[Tensor, Tensor | None]:
    """Mean of a pass and the pass on mirrored keypoints: poses (B, T', J, 3) mm, sigma (B, T', J) mm or None."""
    poses = (plain.pose + mirror_poses(mirrored.pose, skeleton)) / 2
    if plain.log_sigma is None or mirrored.log_sigma is None:
        return poses, None
    swap = skeleton.mirror_index(poses)
    return poses, (plain.log_sigma.exp() + mirrored.log_sigma.index_select(-1, swap).exp()) / 2


def _lift(lifter: Lifter, run: Run, frames: Tensor, windows: Tensor, flip: bool) -> tuple[Tensor, Tensor | None]:
    output = run(frames, windows)
    if flip:
        mirrored = run(mirror_keypoints(frames, lifter.skeleton, lifter.mirror_signs), windows)
        return mean_of_both(output, mirrored, lifter.skeleton)
    return output.pose, None if output.log_sigma is None else output.log_sigma.exp()

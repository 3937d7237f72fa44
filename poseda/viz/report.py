"""The figures that a run leaves: where people are in the image, which bodies and views, and poses before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.geometry.camera import Camera
from poseda.lifters.inference import LiftedClips, screen_keypoints
from poseda.metrics.statistics import DomainStatistics, domain_statistics
from poseda.stages.base import Stage
from poseda.stages.pipeline import aligned_sample
from poseda.viz.plots import plot_bodies, plot_domain_gap, plot_skeletons, plot_stage_bars

SAMPLE = 4096
SHOWN = 4


def gap_statistics(
    source: LabelledClips | None, target: LabelledClips | UnlabelledClips, stages: Sequence[Stage], *, seed: int = 0
) -> dict[str, DomainStatistics]:
    """Statistics of random frames of the source, of the same frames aligned by the stages, and of the target.

    Without source clips (None) there is the target alone.
    The target's 3D enters (views, bones) only where it has some: a figure may show what adaptation must not see.
    """
    if source is None:
        return {"target": _statistics(target, seed)}
    groups = {"source": _statistics(source, seed)}
    if any(stage.overrides("align") or stage.overrides("recast") for stage in stages):
        generator = torch.Generator(device=source.poses.device).manual_seed(seed)
        unlabelled = target.unlabelled() if isinstance(target, LabelledClips) else target
        poses, keypoints = aligned_sample(source, unlabelled, stages, SAMPLE, generator)
        groups["aligned source"] = domain_statistics(keypoints, poses, source.skeleton)
    groups["target"] = _statistics(target, seed)
    return groups


def _statistics(clips: LabelledClips | UnlabelledClips, seed: int) -> DomainStatistics:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(clips.num_frames, generator=generator)[:SAMPLE].to(clips.keypoints.device)
    poses = clips.poses[chosen] if isinstance(clips, LabelledClips) else None
    return domain_statistics(screen_keypoints(clips)[chosen], poses, clips.skeleton, clips.visible[chosen])


def sample_frames(clips: LabelledClips | UnlabelledClips, before: Tensor) -> Tensor:
    """A few frames (n,), not hand-picked: those at quantiles of the error of `before` (F, J, 3) mm where there are
    labels, else spread evenly over the clips.
    """
    if isinstance(clips, LabelledClips):
        relative = clips.poses - clips.poses[:, clips.skeleton.root, None]
        order: Tensor = (before - relative).norm(dim=-1).mean(-1).argsort()
        places = torch.linspace(0.5, 0.95, SHOWN, device=order.device)
    else:
        order = torch.arange(clips.num_frames, device=before.device)
        places = torch.linspace(0.125, 0.875, SHOWN, device=order.device)
    return order[(places * (len(order) - 1)).long()]


def skeleton_figure(
    clips: LabelledClips | UnlabelledClips, predictions: Mapping[str, LiftedClips], *, remark: str = ""
) -> Figure:
    """Sample test frames: 2D, each prediction, and the truth where it is known."""
    first = next(iter(predictions.values()))
    rows = sample_frames(clips, first.poses)
    cameras = clips.cameras_at(rows)
    truth = _truth(clips, rows)
    title = "Test frames at the 50th to 95th percentile of the first column's error"
    return plot_skeletons(
        clips.keypoints[rows].cpu(),
        {name: lifted.poses[rows].cpu() for name, lifted in predictions.items()},
        clips.skeleton,
        truth=None if truth is None else truth.cpu(),
        visible=clips.visible[rows].cpu(),
        up=_up(cameras).cpu(),
        title="Frames spread over the clips" if truth is None else title,
        remark=remark,
    )


def _truth(clips: LabelledClips | UnlabelledClips, rows: Tensor) -> Tensor | None:
    if not isinstance(clips, LabelledClips):
        return None
    return clips.poses[rows] - clips.poses[rows][:, clips.skeleton.root, None]


def _up(cameras: Camera) -> Tensor:
    """Upward direction (n, 3) in the camera frame; -y for a camera of which nothing but the intrinsics is known."""
    identity = torch.eye(3, device=cameras.device, dtype=cameras.dtype)
    unknown = (identity == cameras.R).flatten(1).all(-1, keepdim=True)
    return torch.where(unknown, -cameras.R[:, :, 1], cameras.R[:, :, 2])


def save_figures(
    folder: Path,
    groups: Mapping[str, DomainStatistics],
    clips: LabelledClips | UnlabelledClips,
    predictions: Mapping[str, LiftedClips],
    errors: Mapping[str, float],
    *,
    protocol: str,
    remark: str = "",
) -> tuple[Path, ...]:
    """Write the figures of a run as PNG files and return their paths; `errors` is empty where there are no labels."""
    figures = {
        "domain_gap": plot_domain_gap(groups, title="Size and place of people in the image", remark=remark),
        "bodies": plot_bodies(groups, title="Views and bodies", remark=remark),
        "skeletons": skeleton_figure(clips, predictions, remark=remark),
    }
    if errors:
        figures["stages"] = plot_stage_bars(errors, title="Error on the target", protocol=protocol, remark=remark)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
    return tuple(paths)

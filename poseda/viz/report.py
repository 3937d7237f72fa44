"""The figures that a run leaves: where people are in the image, which bodies and views, and poses before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.lifters.inference import LiftedClips, screen_keypoints
from poseda.metrics.statistics import DomainStatistics, domain_statistics
from poseda.stages.base import Stage
from poseda.stages.pipeline import aligned_sample
from poseda.viz.plots import plot_bodies, plot_domain_gap, plot_skeletons, plot_stage_bars

SAMPLE = 4096
SHOWN = 4


def gap_statistics(
    source: LabelledClips, target: LabelledClips | UnlabelledClips, stages: Sequence[Stage], *, seed: int = 0
) -> dict[str, DomainStatistics]:
    """Statistics of random frames of the source, of the same frames aligned by the stages, and of the target.

    The target's 3D enters (views, bones) only where it has some: a figure may show what adaptation must not see.
    """
    groups = {"source": _statistics(source, seed)}
    if any(stage.overrides("align") for stage in stages):
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


def sample_frames(clips: LabelledClips, before: Tensor, seed: int = 0) -> Tensor:
    """A few frames (n,) that a lifter gets wrong to different degrees: quantiles of its error, not hand-picked."""
    relative = clips.poses - clips.poses[:, clips.skeleton.root, None]
    order: Tensor = (before - relative).norm(dim=-1).mean(-1).argsort()
    places = torch.linspace(0.5, 0.95, SHOWN, device=order.device) * (len(order) - 1)
    return order[places.long()]


def skeleton_figure(clips: LabelledClips, predictions: Mapping[str, LiftedClips], *, remark: str = "") -> Figure:
    """Sample test frames: 2D, each prediction, and the truth."""
    first = next(iter(predictions.values()))
    rows = sample_frames(clips, first.poses)
    cameras = clips.cameras_at(rows)
    relative = clips.poses[rows] - clips.poses[rows][:, clips.skeleton.root, None]
    return plot_skeletons(
        clips.keypoints[rows].cpu(),
        {name: lifted.poses[rows].cpu() for name, lifted in predictions.items()},
        clips.skeleton,
        truth=relative.cpu(),
        visible=clips.visible[rows].cpu(),
        up=cameras.R[:, :, 2].cpu(),
        title="Test frames at the 50th to 95th percentile of the first column's error",
        remark=remark,
    )


def save_figures(
    folder: Path,
    groups: Mapping[str, DomainStatistics],
    clips: LabelledClips,
    predictions: Mapping[str, LiftedClips],
    errors: Mapping[str, float],
    *,
    protocol: str,
    remark: str = "",
) -> tuple[Path, ...]:
    """Write the figures of a run as PNG files and return their paths."""
    figures = {
        "domain_gap": plot_domain_gap(groups, title="Size and place of people in the image", remark=remark),
        "bodies": plot_bodies(groups, title="Views and bodies", remark=remark),
        "skeletons": skeleton_figure(clips, predictions, remark=remark),
        "stages": plot_stage_bars(errors, title="Error on the target", protocol=protocol, remark=remark),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
    return tuple(paths)

"""What moves: where a latent starts, and the poses that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.data.clips import Clips
from poseda.data.windows import window_index
from poseda.errors import ConfigError
from poseda.lifters.base import Lifter, LifterOutput, evaluation_mode
from poseda.lifters.inference import lifting_batches, mirror_keypoints, mirror_poses, see_windows
from poseda.lifters.tiling import LiftingBatch
from poseda.skeleton import Skeleton
from poseda.stages.tto.config import TTOConfig
from poseda.stages.tto.replay import Replay

MOST_NUMBERS = 2**26
"""Of features that are held to find their directions, 256 MB."""
SAMPLES = 1024


@dataclass(frozen=True, eq=False)
class Latent:
    """A latent of some windows, and how it is decoded."""

    start: Tensor
    decode: Callable[[Tensor], LifterOutput]


@dataclass(frozen=True, eq=False)
class Group:
    """Frames that are optimised at once, and the windows that give them (none for the output latent)."""

    rows: Tensor
    batches: tuple[LiftingBatch, ...]


def lifter_input(lifter: Lifter, clips: Clips, windows: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the lifter sees of windows (B, T) of frame numbers, (B, T, J, inputs), and how its view turned (B, 3, 3)."""
    seen, numbers = see_windows(lifter, clips, windows)  # type: ignore[arg-type]
    return seen.keypoints.flatten(0, 1)[numbers], seen.rotation


def groups_of(lifter: Lifter, bounds: Tensor, config: TTOConfig) -> Iterator[Group]:
    """Groups of about `chunk` frames; sequences stay whole where frames look at each other."""
    if not config.whole_sequences:
        yield from _pieces(lifter, bounds, config)
        return
    first = 0
    limits = bounds.tolist()
    for last in range(1, len(limits)):
        if last == len(limits) - 1 or limits[last + 1] - limits[first] > config.chunk:
            yield _join(_pieces(lifter, bounds[first : last + 1] - limits[first], config), limits[first])
            first = last


def _pieces(lifter: Lifter, bounds: Tensor, config: TTOConfig) -> Iterator[Group]:
    count = int(bounds[-1])
    if config.latent == "output":
        for rows in torch.split(torch.arange(count, device=bounds.device), config.chunk):
            yield Group(rows, ())
    elif config.latent == "lowrank" and lifter.slides and lifter.frames > 1:
        # a direction belongs to one window, and a sliding lifter's batches are stretches of many
        for windows in torch.split(window_index(bounds, lifter.frames), config.chunk):
            centres = windows[:, lifter.frames // 2]
            kept = torch.ones_like(centres[:, None], dtype=torch.bool)
            yield Group(centres, (LiftingBatch(windows, centres, kept),))
    else:
        for batch in lifting_batches(lifter, bounds, config.chunk):
            yield Group(batch.frames, (batch,))


def _join(pieces: Iterator[Group], shift: int) -> Group:
    found = list(pieces)
    batches = [batch for piece in found for batch in piece.batches]
    moved = tuple(LiftingBatch(batch.windows + shift, batch.frames + shift, batch.kept) for batch in batches)
    return Group(torch.cat([piece.rows for piece in found]) + shift, moved)


def make_latent(lifter: Lifter, inputs: Tensor, config: TTOConfig, directions: Tensor | None) -> Latent:
    """The latent of windows (B, T, J, inputs) by config.latent; `directions` (k, D) for lowrank."""
    if config.latent == "input":
        return Latent(inputs, lifter)
    if config.module:
        replay = Replay(lifter, config.module, inputs, at_input=config.latent == "tail")
        replay.check(replay(replay.start))
        return Latent(replay.start, replay)
    with torch.no_grad():
        feature = lifter.encode(inputs)
    if config.latent == "feature":
        return Latent(feature, lifter.decode)
    if directions is None:
        raise ConfigError("tto.latent=lowrank needs directions of the source: call TTO.calibrate beforehand.")
    shape = feature.shape
    return Latent(
        feature.new_zeros(len(inputs), len(directions)),
        lambda amounts: lifter.decode(feature + (amounts @ directions.to(feature)).view(shape)),
    )


def both_branches(inputs: Tensor, lifter: Lifter) -> Tensor:
    """(B, T, J, inputs) -> (2B, T, J, inputs): the windows, and after them the mirrored ones."""
    return torch.cat([inputs, mirror_keypoints(inputs, lifter.skeleton, lifter.mirror_signs)])


def unmirrored(output: LifterOutput, skeleton: Skeleton) -> LifterOutput:
    """(2B, T', J, ...) of `both_branches`, the second half mirrored back."""
    plain, mirrored = output.pose.chunk(2)
    pose = torch.cat([plain, mirror_poses(mirrored, skeleton)])
    if output.log_sigma is None:
        return LifterOutput(pose)
    first, second = output.log_sigma.chunk(2)
    return LifterOutput(pose, torch.cat([first, second.index_select(-1, skeleton.mirror_index(second))]))


@torch.no_grad()
def feature_directions(lifter: Lifter, clips: Clips, count: int) -> Tensor:
    """Main directions (k, D) of the feature on windows of `clips`, each as long as its standard deviation.

    By the Gram matrix of up to 1024 windows, evenly spread; D is large. Raises ConfigError where there are too few.
    """
    windows = window_index(clips.bounds, lifter.frames)
    size = lifter.encode(lifter_input(lifter, clips, windows[:1])[0]).numel()
    samples = min(SAMPLES, MOST_NUMBERS // size, len(windows))
    if samples <= count:
        raise ConfigError(f"tto.directions={count}: at most {max(samples - 1, 0)} can be told for {lifter.name} here.")
    picked = windows[torch.linspace(0, len(windows) - 1, samples, device=windows.device).long()]
    with evaluation_mode(lifter):
        inputs = (lifter_input(lifter, clips, some)[0] for some in torch.split(picked, 128))
        features = torch.cat([lifter.encode(some).flatten(1) for some in inputs])
    features -= features.mean(0)
    vectors = torch.linalg.eigh(features @ features.T).eigenvectors  # of ascending eigenvalues
    directions: Tensor = (vectors[:, -count:].flip(1).T @ features) / (samples - 1) ** 0.5
    return directions

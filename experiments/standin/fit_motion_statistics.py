"""Fit the stand-in's motion statistics to motion capture and write them as one small file.

    python experiments/standin/fit_motion_statistics.py cmu17.npz \\
        poseda/data/standin/motion_statistics.safetensors

What is kept: one mean pose and a shared basis of pose changes (principal components of unit bone vectors in the
heading frame). Trials are cut into segments of 4 s, and the segments of each class of actions are grouped by their
mean into a few modes. Of each mode: the mean, the covariance between segments, a second-order autoregression inside a
segment (multivariate Yule-Walker equations, which give a stable process, on autocovariances drawn to those of the
class), and how unsteady its pace is. Of each class: how high the lower ankle is lifted, as quantiles. And the range of
angles between neighbouring bones. No frame of the capture can be read back from it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.special import ndtr, ndtri

from poseda.data.motion import load_motion
from poseda.data.standin.generate import generate_motion
from poseda.data.standin.statistics import FPS, MotionStatistics, make_statistics
from poseda.skeleton import get_skeleton

Array = NDArray[np.float64]

CLASSES = {  # the first expression that is found in a trial's description names its class
    "uneven": "uneven terrain",
    "climb": "climb ladder|climb 3 steps",
    "playground": "playground",
    "walk": "walk|stride|navigate",
    "run": "run",
    "dance": "dance",
    "basketball": "basketball",
    "kick": "kick ball",
    "exercise": "jumping jacks",
    "sit": "sit on",
    "drink": "drink",
    "reach": "reach|wash windows",
    "laugh": "laugh",
    "boxing": "boxing",
    "direct": "direct traffic",
    "jump": "jump",
}
NOT_ON_THE_FLOOR = ("uneven", "climb", "playground")  # classes in which feet stand on something else
STEP = 4  # frames between samples of the autoregression: 12.5 Hz, then interpolated
COMPONENTS = 24
SEGMENT = 200  # frames: the length of the stand-ins' takes
SEGMENTS_A_MODE, MOST_MODES = 5, 8  # segments that a mode has on average, at least; modes of a class
OWN_FRAMES = 1500  # of a mode: with so many its autocovariance counts as much as that of its class
TEMPO, TEMPO_CLIPS = (0.4, 1.2), 32  # range of the factor on a class's pace, and clips that it is found from
PACE_FRAMES = 25  # over which the pace of a movement is measured
QUANTILES = np.linspace(-2.5, 2.5, 41)  # of the lift, at these normal scores
HALF = ("between", "regression", "innovation")  # large tables, written in half precision
SHRINK = 1e-3  # share of its diagonal that is added to each covariance
FASTEST = np.array([6.0, 3.0, 6.0])  # m/s forward, m/s to the left, rad/s: what exceeds it is a flaw of the capture


def main() -> None:
    """Read the motion file, fit, write, and print what was fitted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", type=Path, help="npz of 'subject/trial' -> (T, 17, 3) metres, z up, with its .json")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    tensors, metadata = fit(arguments.motion)
    kinds = {name: np.float16 if name in HALF else np.float32 for name in tensors}
    written = {name: np.ascontiguousarray(value, dtype=kinds[name]) for name, value in tensors.items()}
    save_file(written, arguments.output, metadata=metadata)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1024:.0f} kB, {metadata['explained']}")


def fit(path: Path, subjects: Sequence[str] | None = None) -> tuple[dict[str, Array], dict[str, str]]:
    """All statistics of some subjects (all where None) as arrays, and their description."""
    motion = load_motion(path, subjects)
    joints = np.split(motion.joints.numpy().astype(np.float64) / 1000.0, motion.bounds[1:-1].numpy())
    names = [action_class(action) for action in motion.actions]
    classes = [name for name in CLASSES if name in names]
    trials = [features(trial, motion.fps) for trial in joints]
    poses = np.concatenate([pose for pose, _ in trials])
    mean = poses.mean(0)
    values, vectors = np.linalg.eigh(np.cov(poses.T))
    basis = vectors[:, ::-1][:, :COMPONENTS]
    states = [np.column_stack([(pose - mean) @ basis, move]) for pose, move in trials]
    tensors = fit_modes(states, joints, names, classes)
    tensors |= {"mean": mean, "basis": basis, "bend": bend_ranges(poses), "tempo": np.ones(len(classes))}
    held = 100 * values[::-1][:COMPONENTS].sum() / values.sum()
    explained = f"{len(tensors['share'])} modes; {COMPONENTS} components hold {held:.1f} % of variance"
    metadata = describe(path, classes, motion.licence, explained)
    real = [speed([joints[i] for i, other in enumerate(names) if other == name], motion.fps) for name in classes]
    tensors["tempo"] = np.clip(np.array(real) / generated_speeds(to_statistics(tensors, metadata), joints), *TEMPO)
    return tensors, metadata


def fit_modes(states: list[Array], joints: list[Array], names: list[str], classes: list[str]) -> dict[str, Array]:
    """Modes and lifts of all classes, from the states (T, K + 3), joints (T, 17, 3) m and class of each trial."""
    modes: list[dict[str, Array]] = []
    lifts = []
    for number, name in enumerate(classes):
        mine = [i for i, other in enumerate(names) if other == name]
        lift, scores = fit_lift([lifts_of(joints[i]) * (name not in NOT_ON_THE_FLOOR) for i in mine])
        whole = [np.column_stack([states[i], score]) for i, score in zip(mine, scores, strict=True)]
        modes += [mode | {"of_class": np.array(number)} for mode in fit_class(whole)]
        lifts.append(lift)
    tensors = {name: np.stack([mode[name] for mode in modes]) for name in modes[0]}
    grounded = np.array([name not in NOT_ON_THE_FLOOR for name in classes], dtype=np.float64)
    return tensors | {"lift": np.stack(lifts), "grounded": grounded}


def speed(trials: list[Array], fps: float) -> float:
    """Root mean square speed of the joints (T, 17, 3) m about the root, in m/s."""
    rates = np.concatenate([np.diff(trial - trial[:, :1], axis=0) * fps for trial in trials])
    return float(np.sqrt((rates**2).sum(-1).mean()))


def generated_speeds(statistics: MotionStatistics, joints: list[Array]) -> Array:
    """The same (C,) of generated clips on the mean bones of the trials."""
    skeleton = get_skeleton("h36m17")
    matrix = skeleton.bone_matrix().numpy()
    lengths = np.mean([np.linalg.norm(matrix @ trial[::50], axis=-1).mean(0) for trial in joints], axis=0) * 1000.0
    classes = torch.arange(len(statistics.classes)).repeat_interleave(TEMPO_CLIPS)
    bones = torch.from_numpy(np.float32(lengths)).expand(len(classes), -1)
    made = generate_motion(statistics, classes, SEGMENT, bones, 1.0, torch.Generator().manual_seed(0)) / 1000.0
    return np.array([speed(list(clips.double().numpy()), FPS) for clips in made.split(TEMPO_CLIPS)])


def to_statistics(tensors: dict[str, Array], metadata: dict[str, str]) -> MotionStatistics:
    """What `fit` returns, as the generator takes it."""
    return make_statistics({name: torch.from_numpy(np.float32(value)) for name, value in tensors.items()}, metadata)


def describe(path: Path, classes: list[str], licence: str, explained: str) -> dict[str, str]:
    """What a reader of the file must know."""
    return {
        "content": "motion statistics (means, covariances, autoregressions), no motion capture frames",
        "classes": json.dumps(classes),
        "rate_hz": str(50 / STEP),
        "fitted_to": path.stem,
        "explained": explained,
        "licence": licence,
    }


def action_class(action: str) -> str:
    """The class of a trial from its description."""
    for name, expression in CLASSES.items():
        if re.search(expression, action):
            return name
    raise SystemExit(f"no class fits the action '{action}': add one to CLASSES")


def features(joints: Array, fps: float) -> tuple[Array, Array]:
    """Unit bones in the heading frame (T, 48), and forward speed, leftward speed, turning (T, 3) m/s,
    rad/s.
    """
    skeleton = get_skeleton("h36m17")
    left = joints[:, 4] - joints[:, 1] + joints[:, 11] - joints[:, 14]
    heading = np.unwrap(np.arctan2(-left[:, 0], left[:, 1]))  # of the direction that is forward
    bones = skeleton.bone_matrix().numpy().astype(np.float64) @ joints
    bones = turn(bones / np.linalg.norm(bones, axis=-1, keepdims=True), -heading)
    velocity = np.gradient(joints[:, :1], 1.0 / fps, axis=0) if len(joints) > 1 else np.zeros((len(joints), 1, 3))
    speed = turn(velocity, -heading)[:, 0, :2]
    rate = np.gradient(heading, 1.0 / fps) if len(joints) > 1 else np.zeros(len(joints))
    return bones.reshape(len(joints), -1), np.clip(np.column_stack([speed, rate]), -FASTEST, FASTEST)


def turn(vectors: Array, angle: Array) -> Array:
    """Vectors (T, N, 3) turned about z by angle (T,) rad."""
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.stack([c * x - s * y, s * x + c * y, z], -1)


def lifts_of(joints: Array) -> Array:
    """Height (T,) mm of the lower ankle over its lowest 5 %: joints (T, 17, 3) m."""
    low = joints[:, [3, 6], 2].min(1) * 1000.0
    return np.maximum(low - np.percentile(low, 5), 0.0)


def fit_lift(trials: list[Array]) -> tuple[Array, list[Array]]:
    """Quantiles (Q,) mm of all trials' lifts at QUANTILES, and each trial's lifts as normal scores."""
    everything = np.sort(np.concatenate(trials))
    table = np.quantile(everything, ndtr(QUANTILES))
    # equal lifts, as of people who are not on the floor, share the middle of their ranks
    places = [(np.searchsorted(everything, t) + np.searchsorted(everything, t, "right")) / 2 for t in trials]
    scores = [ndtri(np.clip(place / len(everything), 1e-3, 1 - 1e-3)) for place in places]
    return table, [np.clip(score, QUANTILES[0], QUANTILES[-1]) for score in scores]


def fit_class(trials: list[Array]) -> list[dict[str, Array]]:
    """The modes of a class from its trials' states (T, D)."""
    segments = [part for trial in trials for part in segments_of(trial)]
    means = np.stack([segment.mean(0) for segment in segments])
    lengths = np.array([len(segment) for segment in segments], dtype=np.float64)
    pooled = [autocovariance([segment - segment.mean(0) for segment in segments], lag * STEP) for lag in range(3)]
    spread = covariance(means, lengths)
    count = max(1, min(MOST_MODES, len(segments) // SEGMENTS_A_MODE))
    labels = k_means(means[:, :COMPONENTS], count)
    unsteady = pace(segments)
    modes = []
    for number in np.unique(labels):
        mine = np.flatnonzero(labels == number)
        own = lengths[mine].sum()
        share = own / (own + OWN_FRAMES)
        inside = [segments[i] - means[i] for i in mine]
        lags = [share * autocovariance(inside, lag * STEP) + (1 - share) * pooled[lag] for lag in range(3)]
        # the few segments of a mode span few directions: the rest comes from the class
        few = len(mine) / (len(mine) + 2 * SEGMENTS_A_MODE)
        scatter = few * covariance(means[mine], lengths[mine]) + (1 - few) * spread / count ** (2 / 3)
        about = {"share": own / lengths.sum(), "means": lengths[mine] @ means[mine] / own, "between": root(scatter)}
        modes.append(about | {"pace": unsteady} | autoregression(lags))
    return modes


def autoregression(lags: list[Array]) -> dict[str, Array]:
    """Regression (2, D, D) and root of the innovation (D, D) from autocovariances at lags 0, 1 and 2."""
    variance = np.diag(lags[0])
    first, second, innovation = yule_walker(lags[0] + np.diag(SHRINK * variance + 1e-8), lags[1], lags[2])
    return {"regression": np.stack([first, second]), "innovation": root(innovation)}


def segments_of(trial: Array) -> list[Array]:
    """A trial in parts of about SEGMENT frames."""
    return np.array_split(trial, max(1, round(len(trial) / SEGMENT)))


def covariance(rows: Array, weights: Array) -> Array:
    """Weighted covariance (D, D) of rows (N, D)."""
    centred = rows - weights @ rows / weights.sum()
    return np.asarray(centred.T @ (weights[:, None] * centred) / weights.sum())


def k_means(points: Array, count: int) -> NDArray[np.int64]:
    """Groups (N,) of points (N, D), begun from points that lie far apart; the same every time."""
    centres = points[[np.argmin(((points - points.mean(0)) ** 2).sum(1))]]
    while len(centres) < count:
        nearest = ((points[:, None] - centres) ** 2).sum(-1).min(1)
        centres = np.vstack([centres, points[np.argmax(nearest)]])
    labels = np.zeros(len(points), dtype=np.int64)
    for _ in range(50):
        labels = ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
        centres = np.stack([points[labels == i].mean(0) if (labels == i).any() else centres[i] for i in range(count)])
    return labels


def pace(segments: list[Array]) -> Array:
    """Standard deviations (2,) of the logarithm of the pace: between segments, and inside one from half second to half
    second. The pace is the root mean square rate of the pose's components.
    """
    long = [segment[:, :COMPONENTS] for segment in segments if len(segment) > PACE_FRAMES]
    if not long:
        return np.zeros(2)
    rates = [np.sqrt((np.diff(segment, axis=0) ** 2).sum(1) + 1e-12) for segment in long]
    logs = [
        np.log([np.sqrt((part**2).mean()) for part in np.array_split(rate, max(1, len(rate) // PACE_FRAMES))])
        for rate in rates
    ]
    inside = np.concatenate([log - log.mean() for log in logs])
    return np.array([np.std([log.mean() for log in logs]), inside.std()])


def autocovariance(trials: list[Array], lag: int) -> Array:
    """E[x_t x_(t-lag)'] over trials, divided by the number of all frames (what keeps the process stable)."""
    total = sum(trial[lag:].T @ trial[: len(trial) - lag] for trial in trials if len(trial) > lag)
    return np.asarray(total) / sum(len(trial) for trial in trials)


def yule_walker(g0: Array, g1: Array, g2: Array) -> tuple[Array, Array, Array]:
    """Second-order autoregression with the autocovariances g0, g1, g2: (A1, A2, covariance of the
    innovation).
    """
    block = np.block([[g0, g1], [g1.T, g0]])
    both = np.linalg.solve(block.T, np.hstack([g1, g2]).T).T
    first, second = np.hsplit(both, 2)
    innovation = g0 - first @ g1.T - second @ g2.T
    return first, second, (innovation + innovation.T) / 2


def root(covariance: Array) -> Array:
    """A square root R of a covariance: R R' = C."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def bend_ranges(poses: Array) -> Array:
    """Smallest and largest angle (E, 2) rad between each bone and the bone before it: percentiles 0.2 and
    99.8.
    """
    skeleton = get_skeleton("h36m17")
    bones: Any = poses.reshape(len(poses), -1, 3)
    ranges = []
    for parent, _ in skeleton.bones:
        before = next((i for i, (_, child) in enumerate(skeleton.bones) if child == parent), None)
        if before is None:
            ranges.append([0.0, np.pi])
            continue
        cosine = (bones[:, before] * bones[:, len(ranges)]).sum(-1)
        ranges.append(list(np.percentile(np.arccos(np.clip(cosine, -1, 1)), [0.2, 99.8])))
    return np.array(ranges)


if __name__ == "__main__":
    main()

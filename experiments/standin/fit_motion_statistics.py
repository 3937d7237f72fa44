"""Fit the stand-in's motion statistics to motion capture and write them as one small file.

    python experiments/standin/fit_motion_statistics.py cmu17.npz \\
        poseda/data/standin/motion_statistics.safetensors

What is kept: one mean pose, a shared basis of pose changes (principal components of unit bone vectors in
the heading frame), and for each class of actions the mean, the covariance between trials and a second-order
autoregression inside a trial (multivariate Yule-Walker equations, which give a stable process), with root
speed and turning; and the range of angles between neighbouring bones. No frame of the capture can be read
back from it.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from poseda.data.motion import load_motion
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
STEP = 4  # frames between samples of the autoregression: 12.5 Hz, then interpolated
COMPONENTS = 16
SHRINK = 1e-3  # share of its diagonal that is added to each covariance
FASTEST = np.array([6.0, 3.0, 6.0])  # m/s forward, m/s to the left, rad/s: what exceeds it is a flaw of the capture


def main() -> None:
    """Read the motion file, fit, write, and print what was fitted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", type=Path, help="npz of 'subject/trial' -> (T, 17, 3) metres, z up, with its .json")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    tensors, metadata = fit(arguments.motion)
    save_file({name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()},
              arguments.output, metadata=metadata)  # fmt: skip
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1024:.0f} kB, {metadata['explained']}")


def fit(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """All statistics as arrays, and their description."""
    motion = load_motion(path)
    joints = np.split(motion.joints.numpy().astype(np.float64) / 1000.0, motion.bounds[1:-1].numpy())
    trials = [features(trial, motion.fps) for trial in joints]
    poses = np.concatenate([pose for pose, _ in trials])
    mean = poses.mean(0)
    values, vectors = np.linalg.eigh(np.cov(poses.T))
    basis = vectors[:, ::-1][:, :COMPONENTS]
    grouped: dict[str, list[Array]] = {name: [] for name in CLASSES}
    for (pose, move), action in zip(trials, motion.actions, strict=True):
        grouped[action_class(action)].append(np.hstack([(pose - mean) @ basis, move]))
    fitted = {name: fit_class(members) for name, members in grouped.items() if members}
    tensors = {name: np.stack([each[name] for each in fitted.values()]) for name in next(iter(fitted.values()))}
    tensors |= {"mean": mean, "basis": basis, "bend": bend_ranges(poses)}
    held = 100 * values[::-1][:COMPONENTS].sum() / values.sum()
    explained = f"{COMPONENTS} components hold {held:.1f} % of variance"
    return tensors, describe(path, list(fitted), motion.licence, explained)


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


def fit_class(trials: list[Array]) -> dict[str, Array]:
    """Mean (D,), spread between trials (D, D), autoregression (2, D, D), innovation (D, D) of one class."""
    lengths = np.array([len(trial) for trial in trials], dtype=np.float64)
    means = np.stack([trial.mean(0) for trial in trials])
    weights = lengths / lengths.sum()
    mean = weights @ means
    between = (means - mean).T @ (weights[:, None] * (means - mean))
    inside = [trial - trial.mean(0) for trial in trials]
    lags = [autocovariance(inside, lag * STEP) for lag in range(3)]
    lags[0] = lags[0] + SHRINK * np.diag(np.diag(lags[0])) + 1e-8 * np.eye(len(mean))
    first, second, innovation = yule_walker(*lags)
    return {"means": mean, "between": root(between), "regression": np.stack([first, second]),
            "innovation": root(innovation), "share": np.array(lengths.sum())}  # fmt: skip


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

"""Checkpoints as the authors' code writes them: weights in a wrapper, with what lies beside them."""

import argparse
from pathlib import Path

import numpy as np
import torch

from poseda.lifters.base import Lifter


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Weights of these names and shapes, none of which is 0 or 1; small, so that deep networks keep finite."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.tensor(7)
        elif key.endswith("running_var"):
            weights[key] = torch.rand(shape, generator=generator) + 0.5
        else:
            weights[key] = 0.1 * torch.randn(shape, generator=generator)
    return weights


def write(
    path: Path, weights: dict[str, torch.Tensor], wrapper: str = "model_pos", prefix: str = "module.", new: bool = True
) -> Path:
    """A file of torch.save, new or legacy, with a namespace, a numpy number, a random state and an optimiser."""
    prefixed = {prefix + key: value for key, value in weights.items()}
    if not wrapper:
        torch.save(prefixed, path, _use_new_zipfile_serialization=new)
        return path
    moments = {"step": 3, "exp_avg": torch.zeros(4), "exp_avg_sq": torch.ones(4)}
    held = {
        "epoch": 80,
        "lr": np.float64(1e-3),
        "random_state": np.random.RandomState(1),
        "args": argparse.Namespace(dataset="h36m", dtype=torch.float32, widths=[3, 3, 3]),
        "optimizer": {"state": {140_000_000_001: moments}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]},
        wrapper: prefixed,
    }
    torch.save(held, path, _use_new_zipfile_serialization=new)
    return path


def same_outputs(found: Lifter, expected: Lifter, windows: int = 2) -> None:
    """The same poses and scales, to the bit, on random keypoints."""
    assert found.name == expected.name
    assert found.options == expected.options
    keypoints = torch.rand(windows, found.frames, found.skeleton.num_joints, 2) - 0.5
    with torch.no_grad():
        mine, theirs = found(keypoints), expected.eval()(keypoints)
    assert bool(theirs.pose.isfinite().all()) and float(theirs.pose.abs().max()) > 0
    assert torch.equal(mine.pose, theirs.pose)
    assert (mine.log_sigma is None) == (theirs.log_sigma is None)
    if mine.log_sigma is not None:
        assert torch.equal(mine.log_sigma, theirs.log_sigma)

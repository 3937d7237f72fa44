"""What was recorded of the original networks, and the claims that hold for every transformer lifter."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter

REPOSITORY = Path(__file__).resolve().parents[2]


def recorded(*parts: str) -> Path:
    """A recorded file beside the motion archives, or skip."""
    motion = Path(os.environ.get("POSEDA_MOTION", REPOSITORY.parent / "shared" / "data"))
    for path in (motion.joinpath(*parts), motion.parent.joinpath(*parts)):
        if path.is_file():
            return path
    pytest.skip(f"no {parts[-1]} of the original networks here")


def parity(name: str) -> tuple[dict, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Config, other tensors and weights of an original network."""
    path = recorded("parity", f"{name}.safetensors")
    with safe_open(path, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    tensors = load_file(path)
    prefix = "weights."
    weights = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return config, tensors, weights


def layout(name: str) -> tuple[dict, dict[str, tuple[int, ...]]]:
    """Config, keys and shapes of an original network's checkpoint."""
    entry = json.loads(recorded("checkpoint_layouts.json").read_text())[name]
    return entry["config"], {key: tuple(shape) for key, shape in entry["keys"].items()}


def shapes(lifter: Lifter) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the lifter's own state."""
    return {key: tuple(value.shape) for key, value in lifter.state_dict().items()}


def count(name: str, **options) -> int:
    """Parameters of a lifter without its scale head."""
    with torch.device("meta"):
        lifter = create_lifter(name, sigma=False, **options)
    return sum(p.numel() for p in lifter.parameters())


def stirred(name: str, **options) -> Lifter:
    """A small lifter in eval mode, none of whose weights is at the 0 or 1 that it starts with."""
    lifter = create_lifter(name, seed=0, **options)
    generator = torch.Generator().manual_seed(1)
    for key, value in lifter.state_dict().items():
        if "running" in key:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return lifter.eval()


def check_lifter(lifter: Lifter) -> None:
    """Output shapes, the root row, windows that do not see each other, and gradients to every weight and input."""
    joints, frames = lifter.skeleton.num_joints, lifter.frames
    keypoints = torch.randn(3, frames, joints, 2, requires_grad=True)
    output = lifter(keypoints)
    given = frames if lifter.output == "seq2seq" else 1
    assert output.pose.shape == (3, given, joints, 3)
    assert output.log_sigma.shape == (3, given, joints)
    assert (output.pose[:, :, lifter.skeleton.root] == 0).all()
    order = [2, 0, 1]
    torch.testing.assert_close(lifter(keypoints[order]).pose, output.pose[order], rtol=1e-4, atol=1e-1)
    torch.testing.assert_close(lifter(keypoints[1:2]).pose, output.pose[1:2], rtol=1e-4, atol=1e-1)
    (output.pose.square().mean() + output.log_sigma.square().mean()).backward()
    assert all((p.grad is not None and p.grad.abs().sum() > 0) for p in lifter.parameters())
    reached = keypoints.grad.abs().sum((0, 2, 3)) > 0
    assert reached.all()

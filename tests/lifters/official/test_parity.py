"""Inputs and outputs of six original networks, through files as their authors' code writes them."""

import pytest
import torch

from poseda.lifters.image_units import as_metres
from poseda.lifters.official import load_official_checkpoint
from tests.lifters.official.synthetic import write
from tests.lifters.published import parity


def official(name, tmp_path, prefix="", **options):
    """Lifter of the original's weights, its input and its output."""
    _, tensors, weights = parity(name)
    lifter = load_official_checkpoint(write(tmp_path / "best.bin", weights, prefix=prefix, **options)).lifter
    return lifter, tensors["input"], tensors["output.0"]


def close(pose, expected):
    torch.testing.assert_close(pose[..., 1:, :] / 1000, expected[..., 1:, :], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "prefix"), [("mixste", "module."), ("videopose3d", ""), ("videopose3d_1f", "")])
@pytest.mark.parametrize("new", [True, False])
def test_windows_give_the_original_poses(name, prefix, new, tmp_path):
    lifter, keypoints, expected = official(name, tmp_path, prefix, new=new)
    with torch.no_grad():
        close(lifter(keypoints).pose, expected)


def test_semgcn_gives_the_original_poses(tmp_path):
    lifter, keypoints, expected = official("semgcn", tmp_path, wrapper="state_dict", new=False)
    with torch.no_grad():
        close(lifter(keypoints.unsqueeze(1)).pose[:, 0], expected)


def test_hot_gives_the_original_poses_without_jitter(tmp_path):
    lifter, keypoints, expected = official("hot_mixste", tmp_path, wrapper="")
    lifter.ties = "none"
    with torch.no_grad():
        close(lifter(keypoints).pose, expected)


def test_motionbert_gives_the_original_coordinates_and_what_metres_they_make(tmp_path):
    lifter, keypoints, expected = official("motionbert", tmp_path, "module.")
    with torch.no_grad():
        latent = lifter.represent(keypoints)
        torch.testing.assert_close(lifter.head(lifter.features(keypoints)), expected, rtol=0, atol=1e-5)
        pose = lifter.decode(latent).pose / 1000
    metres = as_metres(expected, keypoints[..., :1, :2], lifter.skeleton, 4150.0, 2.29)
    torch.testing.assert_close(pose, metres, rtol=0, atol=1e-5)

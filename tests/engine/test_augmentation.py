"""Augmentation of training windows: turns about the world's vertical and fresh detector noise."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.data.batches import SourceSampler
from poseda.data.noise import Seen, add_detector_noise, noisy_keypoints
from poseda.engine.augmentation import Augmentation, turned_windows
from poseda.engine.supervised import SupervisedTask, TrainConfig
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.lifters import create_lifter


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def windows(tiny_source):
    return SourceSampler(tiny_source, 3).draw(40, draws())


def test_a_turned_window_is_a_turn_about_the_worlds_vertical(windows):
    """Against SciPy, in world coordinates and float64."""
    angle = torch.full((40,), 0.3)
    turned = turned_windows(windows.poses, windows.cameras, angle, root=0)
    moved = (turned != windows.poses).flatten(1).any(1)
    assert moved.float().mean() > 0.8
    cameras = windows.cameras.to(dtype=torch.float64)
    world = cameras.camera_to_world(windows.poses.double())
    pivot = world[:, :, :1].mean(1, keepdim=True)
    matrix = torch.from_numpy(Rotation.from_rotvec([0.0, 0.0, 0.3]).as_matrix())
    expected = (world - pivot) @ matrix.T + pivot
    got = cameras.camera_to_world(turned.double())
    torch.testing.assert_close(got[moved], expected[moved], atol=0.05, rtol=0)


def test_a_window_that_would_leave_the_image_stays(windows):
    small = dataclasses.replace(windows.cameras, width=windows.cameras.width * 0 + 10.0)
    assert torch.equal(turned_windows(windows.poses, small, torch.full((40,), 0.3), root=0), windows.poses)


def test_the_2d_is_the_projection_of_the_turned_pose(tiny_source, windows):
    augment = Augmentation(tiny_source, rotate=True, noise="none")
    batch, pixels, confidence = augment(windows, draws(1))
    assert not torch.equal(batch.poses, windows.poses) and bool((confidence == 1).all())
    torch.testing.assert_close(pixels, windows.cameras.project(batch.poses))


def test_noise_of_windows_is_the_noise_of_clips(tiny_source):
    """The same draws give the same noise, whether the frames are clips or windows laid end to end."""
    seen = Seen(
        tiny_source.keypoints, tiny_source.confidence, tiny_source.bounds, tiny_source.fps, tiny_source.skeleton
    )
    keypoints, confidence = noisy_keypoints(seen, "cpn", draws(3))
    clips = add_detector_noise(tiny_source, "cpn", draws(3))
    assert torch.equal(keypoints, clips.keypoints) and torch.equal(confidence, clips.confidence)


def test_noise_is_as_large_as_its_level_and_new_in_each_step(tiny_source):
    augment = Augmentation(tiny_source, rotate=False, noise="cpn")
    batch = SourceSampler(tiny_source, 1).draw(2000, draws())
    exact = batch.cameras.project(batch.poses)
    box = (exact.amax(-2) - exact.amin(-2)).amax(-1)
    generator = draws(1)
    errors = []
    for _ in range(2):
        _, pixels, confidence = augment(batch, generator)
        distance = (pixels - exact).norm(dim=-1) * 400 / box.unsqueeze(-1)
        errors.append(distance[confidence > 0].mean().item())
        assert 0 < (confidence == 0).float().mean() < 0.05
    assert errors[0] == pytest.approx(5.4, abs=0.4) and errors[0] != errors[1]


def test_training_sees_missed_joints_where_lifting_puts_them(tiny_source, monkeypatch):
    config = TrainConfig(steps=4, batch_size=512, flip=False, noise="wild", rotate=True)
    task = SupervisedTask(create_lifter("simplebaseline", seed=0, hidden=8), tiny_source, config, draws())
    shown = []
    task.fitting.lifter.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    losses = task.step(0)
    assert bool(torch.isfinite(losses["loss_pose"]))
    assert shown[0].abs().max() < 1.5  # a missed joint at pixel 0 would be the image's corner; it is inside the person
    corner = (shown[0] + torch.tensor([1.0, 1.0])).norm(dim=-1)
    assert corner.min() > 0.02


def test_exact_2d_and_poses_of_cameras_are_asked_for_in_one_line(tiny_source):
    noisy = add_detector_noise(tiny_source, "cpn", draws())
    with pytest.raises(ConfigError, match=r"exact 2D, and h36m carries gt\+cpn noise") as caught:
        Augmentation(noisy, rotate=True, noise="none")
    assert "\n" not in str(caught.value)
    lost = dataclasses.replace(tiny_source, cameras=_without_pose(tiny_source.cameras))
    with pytest.raises(ConfigError, match="no pose in the world"):
        Augmentation(lost, rotate=True, noise="none")
    Augmentation(lost, rotate=False, noise="cpn")
    with pytest.raises(ConfigError, match="noise=loud"):
        TrainConfig(noise="loud")


def _without_pose(cameras: Camera) -> Camera:
    eye = torch.eye(3).expand(len(cameras), 3, 3).contiguous()
    return dataclasses.replace(cameras, R=eye, t=torch.zeros(len(cameras), 3))


def test_a_whole_turn_changes_nothing(windows):
    turned = turned_windows(windows.poses, windows.cameras, torch.full((40,), 2 * math.pi), root=0)
    torch.testing.assert_close(turned, windows.poses, atol=0.02, rtol=0)

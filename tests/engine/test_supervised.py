"""Supervised steps: the loss by hand, what the scale head learns, mirroring, the schedule."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from poseda.data.clips import LabelledClips, Provenance, Sequence
from poseda.engine.supervised import (
    Fitting,
    SupervisedTask,
    TrainConfig,
    check_skeletons,
    lifter_loss,
    mirror_batch,
    sigma_nll,
    train_lifter,
    training_targets,
)
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter, LifterOutput
from poseda.lifters.inference import lift_clips
from poseda.skeleton import get_skeleton

SKELETON = get_skeleton("h36m17")


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def camera():
    return Camera.create(fx=1100.0, fy=1100.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0)


@pytest.fixture(scope="module")
def clips(camera):
    """240 frames of one pose that sways and turns a little, in six sequences."""
    rest = torch.randn(17, 3, generator=draws(1)) * 250
    turns = 0.3 * torch.randn(240, 1, generator=draws(2))
    c, s = turns.cos(), turns.sin()
    poses = torch.stack([c * rest[:, 0] + s * rest[:, 2], rest[:, 1] + 0 * c, c * rest[:, 2] - s * rest[:, 0]], -1)
    poses = poses + 100 * torch.randn(240, 1, 3, generator=draws(3)) + torch.tensor([0.0, 0.0, 4500.0])
    return LabelledClips(
        poses=poses,
        keypoints=camera.expand(240).project(poses),
        confidence=torch.ones(240, 17),
        bounds=torch.arange(7) * 40,
        sequences=tuple(Sequence(f"clip{i}", "A", f"action{i % 2}", 0) for i in range(6)),
        cameras=camera,
        skeleton=SKELETON,
        fps=50.0,
        provenance=Provenance("made", "stand-in", "none", "metric", "gt"),
    )


def small_lifter(**options):
    return create_lifter("simplebaseline", seed=0, **{"hidden": 32, "blocks": 1, **options})


# --- loss ---


def random_output(sigma=True):
    pose, target = (300 * torch.randn(4, 2, 17, 3, generator=draws(s)) for s in (0, 1))
    log_sigma = torch.randn(4, 2, 17, generator=draws(2)) * 0.3 + 4.0 if sigma else None
    return LifterOutput(pose, log_sigma), target


def test_the_loss_is_the_published_formula_sample_by_sample():
    output, target = random_output()
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0])
    losses = lifter_loss(output, target, weight)
    pose = sigma = 0.0
    for b in (0, 2, 3):
        for t in range(2):
            for j in range(17):
                error = (output.pose[b, t, j] - target[b, t, j]).double().numpy() / 1000
                log_metres = float(output.log_sigma[b, t, j]) - math.log(1000)
                pose += (error**2).sum()
                sigma += np.linalg.norm(error) * math.exp(-log_metres) + log_metres
    assert float(losses["pose"]) == pytest.approx(pose / (3 * 2 * 17), rel=1e-5)
    assert float(losses["sigma"]) == pytest.approx(sigma / (3 * 2 * 17), rel=1e-5)


def test_dropped_windows_add_neither_loss_nor_gradient():
    output, target = random_output()
    output.pose.requires_grad_(True)
    output.log_sigma.requires_grad_(True)
    sum(lifter_loss(output, target, torch.tensor([1.0, 1.0, 0.0, 0.0])).values()).backward()
    assert float(output.pose.grad[2:].abs().max()) == float(output.log_sigma.grad[2:].abs().max()) == 0
    assert float(output.pose.grad[:2].abs().min()) > 0
    nothing = lifter_loss(output, target, torch.zeros(4))
    assert all(float(value.detach()) == 0 for value in nothing.values())


def test_a_lifter_without_a_scale_head_has_the_pose_loss_alone():
    output, target = random_output(sigma=False)
    assert lifter_loss(output, target, torch.ones(4)).keys() == {"pose"}


def test_the_scale_loss_does_not_move_the_poses():
    output, target = random_output()
    output.pose.requires_grad_(True)
    output.log_sigma.requires_grad_(True)
    lifter_loss(output, target, torch.ones(4))["sigma"].backward()
    assert output.pose.grad is None


def test_the_scale_that_minimises_its_loss_is_the_mean_error():
    """One pose and one scale for each joint, many targets: exp(log_sigma) -> E||error|| in mm."""
    target = 120 * torch.randn(4000, 1, 17, 3, generator=draws(4)) * torch.arange(1, 18).view(17, 1) / 17
    output = LifterOutput(torch.zeros_like(target), None)
    log_sigma = torch.full((17,), 4.0, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_sigma], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = lifter_loss(replace(output, log_sigma=log_sigma.expand(4000, 1, 17)), target, torch.ones(4000))["sigma"]
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = np.linalg.norm(target[:, 0].double().numpy(), axis=-1).mean(0)
    np.testing.assert_allclose(log_sigma.detach().exp().numpy(), expected, rtol=2e-3)


# --- targets, mirroring ---


@pytest.mark.parametrize(
    ("name", "options", "frames"),
    [("simplebaseline", {}, 1), ("videopose3d", {"frames": 9, "channels": 4}, 9)],
)
def test_targets_are_root_relative_and_of_the_frames_that_the_lifter_gives(name, options, frames):
    lifter = create_lifter(name, seed=0, **options)
    poses = torch.randn(3, frames, 17, 3, generator=draws()) * 300 + 4000
    targets = training_targets(poses, lifter)
    output = lifter.eval()(torch.rand(3, frames, 17, 2, generator=draws()))
    assert targets.shape == output.pose.shape
    middle = poses[:, frames // 2]
    torch.testing.assert_close(targets[:, targets.shape[1] // 2], middle - middle[:, :1])


def seen(camera, poses):
    """Screen coordinates by the published formula, of poses (B, T, J, 3) before one camera."""
    return camera.expand(len(poses)).project(poses) / 1000.0 * 2 - 1


def test_a_mirrored_batch_is_what_the_camera_sees_of_mirrored_people(camera):
    lifter = small_lifter()
    poses = torch.randn(5, 1, 17, 3, generator=draws()) * 300 + torch.tensor([100.0, -50.0, 4000.0])
    swap = [SKELETON.joints.index({"l": "r", "r": "l"}.get(n[0], "") + n[1:]) if n[0] in "lr" else i
            for i, n in enumerate(SKELETON.joints)]  # fmt: skip
    mirrored = poses[:, :, swap] * torch.tensor([-1.0, 1.0, 1.0])
    chosen = torch.tensor([True, False, True, False, True])
    keypoints, target = mirror_batch(seen(camera, poses), poses - poses[:, :, :1], chosen, lifter)
    wanted = torch.where(chosen.view(-1, 1, 1, 1), mirrored, poses)
    torch.testing.assert_close(keypoints, seen(camera, wanted), rtol=0, atol=1e-6)
    torch.testing.assert_close(target, wanted - wanted[:, :, :1])


def test_mirroring_twice_gives_the_batch_back():
    lifter, chosen = small_lifter(), torch.tensor([True, False, True])
    keypoints, target = torch.randn(3, 1, 17, 2), torch.randn(3, 1, 17, 3)
    twice = mirror_batch(*mirror_batch(keypoints, target, chosen, lifter), chosen, lifter)
    assert torch.equal(twice[0], keypoints)
    assert torch.equal(twice[1], target)


class Symmetric(Lifter):
    """Lifts (x, y) to (a x, a y, b y²) m for all joints: a mirrored input gives the mirrored output."""

    def __init__(self):
        super().__init__(skeleton="h36m17", frames=1, output="seq2seq", options={})
        self.numbers = nn.Parameter(torch.tensor([0.7, 0.2]))

    def encode(self, keypoints):
        return keypoints

    def decode(self, latent):
        a, b = self.numbers
        pose = torch.cat([a * latent, b * latent[..., 1:] ** 2], -1)
        return LifterOutput(1000 * (pose - pose[:, :, :1]))


def test_the_loss_of_a_mirrored_batch_is_the_loss_of_lifting_mirrored():
    """For a lifter that treats both sides alike the loss does not change, whichever windows are mirrored."""
    lifter = Symmetric()
    keypoints, target = (
        torch.randn(6, 1, 17, 2, generator=draws()),
        torch.randn(6, 1, 17, 3, generator=draws(1)) * 300,
    )
    losses = []
    for chosen in (torch.zeros(6), torch.ones(6), torch.tensor([1.0, 0, 1, 1, 0, 0])):
        points, wanted = mirror_batch(keypoints, target, chosen.bool(), lifter)
        losses.append(lifter_loss(lifter(points), wanted, torch.ones(6))["pose"].item())
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_about_half_of_the_windows_are_mirrored_and_none_without_flip():
    class Record(Symmetric):
        def encode(self, keypoints):
            self.shown = keypoints.detach()
            return keypoints

    lifter = Record()
    keypoints = torch.rand(400, 1, 17, 2, generator=draws()) + 0.5
    poses = torch.randn(400, 1, 17, 3, generator=draws())
    for flip, low, high in ((True, 0.4, 0.6), (False, 0.0, 0.0)):
        fitting = Fitting(lifter, lr=1e-3, steps=10, grad_clip=1.0, flip=flip)
        fitting.fit(0, keypoints, poses, torch.ones(400), draws(5))
        share = float((lifter.shown[..., 0] < 0).all(-1).double().mean())
        assert low <= share <= high


# --- optimiser ---


def test_the_learning_rate_falls_along_a_cosine_from_lr_to_0():
    lifter, rates = Symmetric(), []
    fitting = Fitting(lifter, lr=0.02, steps=8, grad_clip=1.0, flip=False)
    for index in range(8):
        fitting.fit(index, torch.randn(2, 1, 17, 2), torch.randn(2, 1, 17, 3), torch.ones(2), draws())
        rates.append(fitting.optimizer.param_groups[0]["lr"])
    expected = 0.02 * (1 + np.cos(np.pi * np.arange(8) / 8)) / 2
    np.testing.assert_allclose(rates, expected)
    assert rates[0] == 0.02


def test_gradients_are_clipped_to_the_largest_norm():
    lifter = Symmetric()
    fitting = Fitting(lifter, lr=1e-3, steps=8, grad_clip=0.01, flip=False)
    fitting.fit(0, torch.randn(4, 1, 17, 2), 1e5 * torch.randn(4, 1, 17, 3), torch.ones(4), draws())
    assert float(lifter.numbers.grad.norm()) == pytest.approx(0.01, rel=1e-3)


def test_training_lowers_the_error_and_its_scale_head_knows_the_error_that_is_left(clips):
    lifter = small_lifter(dropout=0.0)
    relative = clips.poses - clips.poses[:, :1]

    def error():
        return float((lift_clips(lifter, clips).poses - relative).norm(dim=-1)[:, 1:].mean())

    before = error()
    trained = train_lifter(lifter, clips, TrainConfig(steps=400, batch_size=64, lr=5e-3, flip=False), seed=0)
    assert trained is lifter
    assert not trained.training
    after = error()
    assert after < 0.3 * before
    claimed = float(lift_clips(lifter, clips).sigma[:, 1:].mean())
    assert 0.5 * after < claimed < 2 * after


def test_training_is_the_same_for_a_seed_and_goes_on_after_a_kill(clips, tmp_path, monkeypatch):
    from functools import partial

    from poseda.engine import supervised
    from poseda.engine.loop import LoopConfig

    monkeypatch.setattr(supervised, "LoopConfig", partial(LoopConfig, checkpoint_seconds=0.0))
    config = TrainConfig(steps=8, batch_size=16, log_every=2)
    runs = [train_lifter(small_lifter(), clips, config, seed=seed).state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])
    assert not torch.equal(runs[0]["w1.weight"], runs[2]["w1.weight"])

    class Killed(Exception):
        pass

    step = SupervisedTask.step

    def dying(self, index):
        if index == 5:
            raise Killed
        return step(self, index)

    monkeypatch.setattr(SupervisedTask, "step", dying)
    with pytest.raises(Killed):
        train_lifter(small_lifter(), clips, config, seed=1, folder=tmp_path)
    monkeypatch.setattr(SupervisedTask, "step", step)
    resumed = train_lifter(small_lifter(), clips, config, seed=1, folder=tmp_path).state_dict()
    assert all(torch.equal(runs[0][key], resumed[key]) for key in resumed)


def test_the_lifter_learns_from_the_2d_that_the_clips_carry(clips):
    """Detections, not projections of the labels: keypoints that say nothing leave the error where it was."""
    blind = clips.with_keypoints(torch.full_like(clips.keypoints, 400.0), clips.confidence, "blind")
    task = SupervisedTask(small_lifter().train(), blind, TrainConfig(steps=4, batch_size=8, flip=False), draws())
    shown = []
    task.fitting.lifter.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    task.step(0)
    torch.testing.assert_close(shown[0], torch.full_like(shown[0], -0.2))


# --- refusals ---


@pytest.mark.parametrize("options", [{"steps": 0}, {"batch_size": 1}, {"lr": 0.0}, {"lr": math.nan}])
def test_a_schedule_that_cannot_be_run_is_refused(options):
    with pytest.raises(ConfigError, match=f"train.{next(iter(options))}"):
        TrainConfig(**options)


def test_clips_with_other_joints_are_refused_with_a_way_out(clips):
    other = clips.convert(get_skeleton("h36m16"))
    with pytest.raises(ConfigError, match="skeleton=h36m17, or convert the clips") as caught:
        train_lifter(small_lifter(), other, TrainConfig(steps=1))
    assert "\n" not in str(caught.value)
    check_skeletons(small_lifter(), "h36m17", "made")


@pytest.mark.parametrize(("loss", "power"), [("uao", 1), ("gaussian", 2)])
def test_a_sigma_loss_is_least_at_its_mean_of_the_errors(loss, power):
    error = torch.tensor([3.0, 5.0, 40.0], dtype=torch.float64)
    mean = error.pow(power).mean() ** (1 / power)  # sigma of a normal law: its RMS error, as the norm's expected value
    best = mean if loss == "uao" else mean / 3**0.5 * (8 / torch.pi) ** 0.5
    grid = best.log() + torch.linspace(-0.5, 0.5, 1001, dtype=torch.float64)
    values = sigma_nll(error[:, None], grid, loss).mean(0)
    assert abs(float(grid[values.argmin()] - best.log())) < 1e-9

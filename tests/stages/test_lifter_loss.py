"""What stages add to the lifter's loss: its gradient, the one pass of both domains, and runs without such a stage."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from poseda.engine.supervised import Addition, Fitting, lifter_loss, training_targets
from poseda.lifters import create_lifter
from poseda.lifters.inference import lift_clips, mirror_keypoints
from poseda.stages import create_stage
from poseda.stages.base import Stage
from poseda.stages.pipeline import AdaptConfig, AdaptTask, adapt_lifter

CONFIG = AdaptConfig(steps=4, batch_size=16, log_every=2)


def weights(lifter):
    return [value.clone() for value in lifter.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Watch(Stage):
    """Keeps what it is shown; adds `factor` times the mean of the features, or None."""

    Config, name, label = SimpleNamespace, "watch", "watch"

    def __init__(self, factor=None, wants=False):
        self.factor, self.lessons = factor, []
        self.wants_features = wants

    def lifter_loss(self, lesson):
        self.lessons.append(lesson)
        if self.factor is None:
            return None
        return self.factor * (lesson.lifter.w1.bias.sum() if not self.wants_features else lesson.source_features.mean())


def run(clips, lifter, stages, config=CONFIG):
    source, target = clips
    return adapt_lifter(lifter, source, target.unlabelled(), stages, config, seed=0)


@pytest.mark.parametrize("factor", [None, 0.0])
def test_an_addition_of_nothing_changes_no_bit(tiny_clips, small_lifter, factor):
    plain = run(tiny_clips, small_lifter(), [create_stage("gpa")])
    watched = run(tiny_clips, small_lifter(), [create_stage("gpa"), Watch(factor)])
    assert same(weights(plain), weights(watched))


def test_a_stage_with_a_loss_shapes_training():
    assert Watch.shapes_training() and not Watch.overrides("update")
    for name in ("mean_teacher", "coral", "mmd", "dann"):
        assert type(create_stage(name)).shapes_training(), name
    assert not type(create_stage("adabn")).shapes_training()


def test_what_is_added_is_minimised_with_the_poses_and_logged(tiny_clips, small_lifter):
    source, target = tiny_clips
    task = AdaptTask(small_lifter().train(), source, target.unlabelled(), [Watch(10.0)], CONFIG, seed=0)
    before = float(task.lifter.w1.bias.detach().sum())
    scalars = task.step(0)
    assert float(task.lifter.w1.bias.detach().sum()) < before
    assert float(scalars["loss_watch"]) == pytest.approx(10 * before, abs=1e-6)


def test_a_lesson_shows_both_domains_as_they_are_fitted(tiny_clips, small_lifter):
    source, target = tiny_clips
    confidence = target.confidence.clone()
    confidence[:, 4] = 0
    target = target.with_keypoints(target.keypoints, confidence, "made").unlabelled()
    watch = Watch()
    task = AdaptTask(small_lifter().train(), source, target, [create_stage("gpa"), watch], CONFIG, seed=0)
    task.step(0)
    (lesson,) = watch.lessons
    assert lesson.keypoints.shape == lesson.target_keypoints.shape == (16, 1, 17, 2)
    assert not lesson.keypoints.requires_grad and not lesson.poses.requires_grad
    others = [joint for joint in range(17) if joint != 4]
    middle = lesson.target_keypoints[:, :, others].mean(2)
    torch.testing.assert_close(lesson.target_keypoints[:, :, 4], middle)
    assert lesson.source_features is None and lesson.target_features is None
    assert not hasattr(lesson.target, "poses")


def test_features_of_both_domains_come_from_one_pass(tiny_clips, small_lifter):
    lifter, other = (small_lifter(dropout=0.0).train() for _ in range(2))
    source, target = tiny_clips
    watch, config = Watch(0.0, wants=True), replace(CONFIG, flip=False)
    AdaptTask(lifter, source, target.unlabelled(), [create_stage("gpa"), watch], config, seed=0).step(0)
    (lesson,) = watch.lessons
    latent = other.encode(torch.cat([lesson.keypoints, lesson.target_keypoints]))
    torch.testing.assert_close(lesson.source_features, latent[:16])
    torch.testing.assert_close(lesson.target_features, latent[16:])
    assert int(lifter.batch_norm1.num_batches_tracked) == 1


def test_both_domains_are_mirrored_alike(tiny_clips, small_lifter):
    lifter, other = (small_lifter(dropout=0.0).train() for _ in range(2))
    first, second = (torch.randn(16, 1, 17, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    seen = []

    def keep(here, there):
        seen.append(torch.cat([here, there]))
        return {}

    fitting = Fitting(lifter, lr=1e-3, steps=10, grad_clip=1.0, flip=True)
    draws = torch.Generator().manual_seed(3)
    fitting.fit(0, first, tiny_clips[0].poses[:16, None], torch.ones(16), draws, Addition(keep, second))
    chosen = (torch.rand(16, generator=torch.Generator().manual_seed(3)) < 0.5).view(-1, 1, 1, 1)
    assert 0 < int(chosen.sum()) < 16
    mixed = [torch.where(chosen, mirror_keypoints(x, lifter.skeleton), x) for x in (first, second)]
    torch.testing.assert_close(seen[0], other.encode(torch.cat(mixed)))


def test_the_step_is_that_of_the_summed_loss(tiny_clips, small_lifter):
    """Against a step written out: gradients of pose, sigma and addition in one sum, clipped together."""
    source, _ = tiny_clips
    lifter, other = (small_lifter(dropout=0.0).train() for _ in range(2))
    poses = source.poses[:16, None]
    keypoints = torch.randn(16, 1, 17, 2, generator=torch.Generator().manual_seed(0))
    beside = torch.randn(16, 1, 17, 2, generator=torch.Generator().manual_seed(1))
    addition = Addition(lambda here, there: {"far": 3 * (here - there).square().mean()}, beside)
    fitting = Fitting(lifter, lr=1e-3, steps=10, grad_clip=0.5, flip=False)
    losses = fitting.fit(0, keypoints, poses, torch.ones(16), torch.Generator(), addition)

    latent = other.encode(torch.cat([keypoints, beside]))
    parts = lifter_loss(other.decode(latent[:16]), training_targets(poses, other), torch.ones(16))
    far = 3 * (latent[:16] - latent[16:]).square().mean()
    optimizer = torch.optim.Adam(other.parameters(), lr=1e-3)
    (parts["pose"] + 1e-3 * parts["sigma"] + far).backward()
    torch.nn.utils.clip_grad_norm_(other.parameters(), 0.5)
    optimizer.step()
    assert same(weights(lifter), weights(other))
    assert set(losses) == {"loss_pose", "loss_sigma", "loss_far"}
    assert float(losses["loss_far"]) == pytest.approx(float(far.detach()))


@pytest.mark.parametrize("names", [["coral"], ["gpa", "mmd"], ["dann", "gpa", "lpa"], ["gpa", "mean_teacher", "ema"],
                                   ["gpa", "coral", "mmd", "dann", "mean_teacher", "adabn"]])  # fmt: skip
@pytest.mark.parametrize("lifter", ["simplebaseline", "videopose3d"])
def test_every_mix_of_them_trains_and_stays_finite(tiny_clips, small_lifter, names, lifter):
    made = small_lifter() if lifter == "simplebaseline" else create_lifter(lifter, seed=0, frames=9, channels=8)
    before = weights(made)
    adapted = run(tiny_clips, made, [create_stage(name) for name in names])
    assert not same(before, weights(adapted))
    assert all(bool(value.isfinite().all()) for value in weights(adapted))
    assert bool(lift_clips(adapted, tiny_clips[1].unlabelled()).poses.isfinite().all())


def test_missing_joints_of_the_target_make_no_nan(tiny_clips, small_lifter):
    source, target = tiny_clips
    confidence = (torch.rand(target.confidence.shape, generator=torch.Generator().manual_seed(0)) < 0.6).float()
    confidence[:3] = 0
    target = target.with_keypoints(target.keypoints * confidence.unsqueeze(-1), confidence, "made")
    names = ["gpa", "coral", "mmd", "dann", "mean_teacher", "adabn"]
    adapted = run((source, target), small_lifter(), [create_stage(name) for name in names])
    assert all(bool(value.isfinite().all()) for value in weights(adapted))


def test_one_seed_gives_one_result(tiny_clips, small_lifter):
    names = ["gpa", "mean_teacher", "dann", "adabn"]
    torch.manual_seed(1)
    first = run(tiny_clips, small_lifter(), [create_stage(name) for name in names])
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = run(tiny_clips, small_lifter(), [create_stage(name) for name in names])
    assert torch.equal(torch.get_rng_state(), before)
    assert same(weights(first), weights(again))

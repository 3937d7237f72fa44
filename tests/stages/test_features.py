"""CORAL, MMD and DANN on features, against NumPy, brute force and finite differences; and the latent they read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.stages import create_stage
from poseda.stages.base import Setting
from poseda.stages.coral import coral_loss, weighted_covariance
from poseda.stages.dann import reversal_schedule, reverse_gradient
from poseda.stages.features import feature_size, window_features
from poseda.stages.mmd import discrepancy, mean_distance, mmd_loss, squared_distances


def random_features(seed, count, size=5, shift=0.0):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


ONES = torch.ones(9, dtype=torch.float64)


# --- CORAL ---


def test_the_covariance_is_numpys_of_the_windows_that_are_left():
    features = random_features(0, 9)
    weight = ONES.clone()
    weight[[1, 4]] = 0
    expected = np.cov(features[weight > 0].numpy(), rowvar=False)
    torch.testing.assert_close(weighted_covariance(features, weight), torch.from_numpy(expected))


def test_coral_is_the_papers_formula():
    source, target = random_features(0, 9), 2 * random_features(1, 7)
    difference = np.cov(source.numpy(), rowvar=False) - np.cov(target.numpy(), rowvar=False)
    expected = (difference**2).sum() / (4 * 5**2)
    assert float(coral_loss(source, target, ONES)) == pytest.approx(expected)
    assert float(coral_loss(source, source, ONES)) == 0
    # a shift alone is no difference of covariances
    assert float(coral_loss(source, source + 3, ONES)) == pytest.approx(0, abs=1e-20)


# --- MMD ---


def brute_mmd(source, target, kernels):
    """The double sums of the docstring, pair by pair."""
    rows = torch.cat([source, target])
    distances = [float((a - b).square().sum()) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    mean = sum(distances) / len(distances)

    def kernel(a, b):
        squared = float((a - b).square().sum())
        return sum(math.exp(-squared / (mean * 2.0 ** (k - kernels // 2))) for k in range(kernels)) / kernels

    def average(first, second):
        return sum(kernel(a, b) for a in first for b in second) / (len(first) * len(second))

    return average(source, source) + average(target, target) - 2 * average(source, target)


@pytest.mark.parametrize("kernels", [1, 4, 5])
def test_mmd_is_the_double_sum_over_pairs(kernels):
    source, target = random_features(0, 9), random_features(1, 6, shift=0.7)
    assert float(mmd_loss(source, target, ONES, kernels)) == pytest.approx(brute_mmd(source, target, kernels))


def test_mmd_leaves_out_windows_without_weight():
    source, target, weight = random_features(0, 9), random_features(1, 6, shift=0.7), ONES.clone()
    weight[:3] = 0
    source = torch.cat([source[:3] + 100, source[3:]])
    assert float(mmd_loss(source, target, weight)) == pytest.approx(brute_mmd(source[3:], target, 5))


def test_mmd_grows_with_the_distance_and_vanishes_for_equal_samples():
    source = random_features(0, 9)
    losses = [float(mmd_loss(source, source + shift, ONES)) for shift in (0.0, 0.5, 2.0)]
    assert losses[0] == pytest.approx(0, abs=1e-12)
    assert losses[0] < losses[1] < losses[2]


def test_distances_far_from_the_origin_survive_float32():
    rows = (random_features(0, 9) + 1000).float()
    torch.testing.assert_close(squared_distances(rows).double(), torch.cdist(rows.double(), rows.double()) ** 2,
                               rtol=1e-4, atol=1e-4)  # fmt: skip


def test_gradients_by_finite_differences():
    source, target = random_features(0, 9).requires_grad_(True), random_features(1, 6, shift=0.3).requires_grad_(True)
    weight = ONES.clone()
    weight[2] = 0
    assert torch.autograd.gradcheck(lambda s, t: coral_loss(s, t, weight), (source, target))
    part = torch.cat([weight / 8, -torch.ones(6, dtype=torch.float64) / 6])
    mean = mean_distance(squared_distances(torch.cat([source, target])).detach(), part != 0)

    def mmd(s, t):  # the bandwidth is a constant of the gradient
        return discrepancy(squared_distances(torch.cat([s, t])), part, mean, 5)

    assert torch.autograd.gradcheck(mmd, (source, target))
    expected = torch.autograd.grad(mmd(source, target), source)[0]
    torch.testing.assert_close(torch.autograd.grad(mmd_loss(source, target, weight), source)[0], expected)


@pytest.mark.parametrize("loss", [coral_loss, mmd_loss])
def test_a_step_without_a_source_window_teaches_nothing_and_is_not_nan(loss):
    source, target = random_features(0, 9).requires_grad_(True), random_features(1, 6)
    value = loss(source, target, torch.zeros_like(ONES))
    value.backward()
    assert float(value.detach()) == 0
    assert float(source.grad.abs().max()) == 0


@pytest.mark.parametrize("loss", [coral_loss, mmd_loss])
def test_constant_features_are_no_nan(loss):
    source = torch.ones(9, 5, dtype=torch.float64, requires_grad=True)
    value = loss(source, torch.ones(6, 5, dtype=torch.float64), ONES)
    value.backward()
    assert bool(value.isfinite()) and bool(source.grad.isfinite().all())


# --- DANN ---


def test_reversal_keeps_values_and_turns_the_gradient_round():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    y = reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    (y.square().sum()).backward()
    torch.testing.assert_close(x.grad, -0.25 * 2 * x.detach())


def test_the_schedule_is_the_papers():
    assert reversal_schedule(0, 100) == 0
    assert reversal_schedule(50, 100) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    values = [reversal_schedule(i, 100) for i in range(101)]
    assert values == sorted(values) and values[-1] < 1


class Given:
    """A lesson of features alone."""

    def __init__(self, source, target, index=50, weight=None):
        self.source_features, self.target_features = source, target
        self.weight = torch.ones(len(source)) if weight is None else weight
        self.index, self.steps = index, 100


def prepared_dann(lifter, **options):
    stage = create_stage("dann", **options)
    stage.prepare(Setting(lifter, None, None, 100, 0, torch.Generator()))
    return stage


def test_the_classifier_learns_and_the_features_get_the_opposite_gradient(small_lifter):
    lifter = small_lifter(hidden=6)
    stage = prepared_dann(lifter, weight=0.5, lr=1e-2)
    source = random_features(0, 32, 6).float().requires_grad_(True)
    target = random_features(1, 32, 6, shift=1.0).float().requires_grad_(True)
    first = stage.lifter_loss(Given(source, target))
    first.backward()
    scale = -0.5 * reversal_schedule(50, 100)
    labels = torch.cat([torch.ones(32), torch.zeros(32)])
    rows = torch.cat([source, target]).detach().requires_grad_(True)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(stage.classifier(rows).squeeze(-1), labels)
    assert float(plain.detach()) == pytest.approx(float(first.detach()), rel=1e-5)
    (expected,) = torch.autograd.grad(plain, rows)
    torch.testing.assert_close(torch.cat([source.grad, target.grad]), scale * expected)
    stage.after_step(lifter)
    for _ in range(100):
        stage.lifter_loss(Given(source.detach(), target.detach())).backward()
        stage.after_step(lifter)
    assert float(stage.lifter_loss(Given(source.detach(), target.detach())).detach()) < 0.5 * float(first.detach())


def test_dann_draws_its_classifier_from_the_seed_and_leaves_the_global_generator_alone(small_lifter):
    before = torch.get_rng_state()
    first, second = (prepared_dann(small_lifter()) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.classifier.parameters(), second.classifier.parameters(), strict=True):
        assert torch.equal(a, b)


# --- features ---


def test_small_latents_are_laid_out_and_long_ones_averaged():
    small = torch.randn(3, 2, 17, 8)
    assert torch.equal(window_features(small), small.flatten(1))
    large = torch.randn(3, 81, 17, 8)
    torch.testing.assert_close(window_features(large), large.mean((1, 2)))
    assert window_features(torch.randn(2, 5000)).shape == (2, 5000)


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("simplebaseline", {"hidden": 16, "blocks": 1}, 16),
        ("simplebaseline", {"hidden": 16, "blocks": 1, "view": "perspective", "confidence": True}, 16),
        ("videopose3d", {"frames": 9, "channels": 8}, 8),
        ("semgcn", {"channels": 8}, 17 * 8),
    ],
)
def test_the_size_of_features_is_known_beforehand(name, options, size):
    assert feature_size(create_lifter(name, seed=0, **options), "coral") == size


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("coral", {"weight": 0.0}, r"coral\.weight"),
        ("mmd", {"weight": -1.0}, r"mmd\.weight"),
        ("mmd", {"kernels": 0}, r"mmd\.kernels"),
        ("dann", {"weight": 0.0}, r"dann\.weight"),
        ("dann", {"lr": 0.0}, r"dann\.lr"),
        ("dann", {"hidden": 0}, r"dann\.hidden"),
    ],
)
def test_bad_options_are_answered_in_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        create_stage(name, **options)
    assert "\n" not in str(caught.value)

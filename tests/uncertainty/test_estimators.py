"""Each estimator says what its name promises, in mm, of frozen lifters."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from poseda.engine.checkpoint import save_lifter
from poseda.errors import CheckpointError, ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.inference import LiftedClips, lift_clips, mirror_poses
from poseda.metrics.calibration import DENSITIES, Stated
from poseda.uncertainty import estimator_class, list_estimators
from poseda.uncertainty.base import Lifting, moving_joints
from poseda.uncertainty.disagreement import fit_line
from poseda.uncertainty.posthoc import head_loss, precision_factor


def made(name, lifter, **options):
    cls = estimator_class(name)
    return cls(cls.Config(**options), lifter)


def test_those_that_are_documented_are_found_and_others_are_named():
    assert {"constant", "ensemble", "flip", "jitter", "own", "posthoc"} <= {*list_estimators()}
    with pytest.raises(ConfigError, match=r"no uncertainty 'fliip'\. Did you mean 'flip'"):
        estimator_class("fliip")


def test_own_is_the_lifters_head_and_wants_one(lifter, seen):
    sigma, covariance = made("own", lifter)(seen)
    assert covariance is None
    torch.testing.assert_close(sigma, seen.lifted.sigma[:, 1:])
    with pytest.raises(ConfigError, match="uncertainty=posthoc"):
        made("own", create_lifter("simplebaseline", seed=0, hidden=8, sigma=False))


def test_constant_is_the_mean_error_by_a_loop(lifter, seen):
    estimator = made("constant", lifter)
    estimator.fit(seen)
    truth = seen.clips.poses.double()
    expected = [
        np.mean([np.linalg.norm(seen.lifted.poses[f, j] - (truth[f, j] - truth[f, 0])) for f in range(len(truth))])
        for j in range(1, 17)
    ]
    np.testing.assert_allclose(estimator(seen)[0][5], expected, rtol=1e-5)


def test_the_line_is_least_squares_without_negative_parts():
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 10, (50, 4))
    y = np.stack([3 + 2 * x[:, 0], 30 - 2 * x[:, 1], 5 * x[:, 2] - 20, rng.uniform(0, 9, 50)], -1)
    y += rng.normal(0, 1, y.shape)
    found = fit_line(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    for j in range(4):
        expected, _ = nnls(np.stack([np.ones(50), x[:, j]], -1), y[:, j])
        np.testing.assert_allclose(found[:, j], expected, atol=1e-8)


def test_flip_is_the_distance_to_the_mirrored_pass(lifter, seen, clips):
    both = lift_clips(lifter, clips, flip=True).poses
    mirrored = 2 * both - seen.lifted.poses
    expected = (seen.lifted.poses - mirrored).norm(dim=-1)
    torch.testing.assert_close(made("flip", lifter).disagreement(seen), expected, rtol=1e-3, atol=1e-2)
    flipped = Lifting.of(lifter, clips, flip=True)
    torch.testing.assert_close(made("flip", lifter).disagreement(flipped), expected, rtol=1e-3, atol=1e-2)
    assert not torch.equal(mirror_poses(mirrored, lifter.skeleton), seen.lifted.poses)


def test_jitter_grows_with_the_noise_is_repeated_by_its_seed_and_leaves_the_global_generator(lifter, seen):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    small, again, other, large = (
        made("jitter", lifter, passes=4, **options).disagreement(seen)
        for options in ({"scale": 1e-3}, {"scale": 1e-3}, {"scale": 1e-3, "seed": 1}, {"scale": 2e-3})
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(small, again) and not torch.equal(small, other)
    moving = moving_joints(lifter.skeleton)
    assert abs(float((large / small)[:, moving].median()) - 2) < 0.1  # small noise goes through in proportion


def test_an_ensemble_scatters_about_its_mean_and_keeps_its_members(lifter, seen, tmp_path):
    other = create_lifter("simplebaseline", seed=1, hidden=16, blocks=1).eval()
    save_lifter(tmp_path / "other.safetensors", other, {})
    estimator = made("ensemble", lifter, checkpoints=(str(tmp_path / "other.safetensors"),))
    estimator.fit(seen)
    expected = (seen.lifted.poses - lift_clips(other, seen.clips).poses).norm(dim=-1) / 2
    torch.testing.assert_close(estimator.disagreement(seen), expected, rtol=1e-4, atol=1e-3)
    (tmp_path / "other.safetensors").unlink()
    again = made("ensemble", lifter, checkpoints=("gone",))
    again.load_state_dict(estimator.state_dict())
    assert torch.equal(again(seen)[0], estimator(seen)[0])


def test_an_ensemble_is_of_one_lifter(lifter, seen, tmp_path):
    with pytest.raises(ConfigError, match=r"ensemble\.checkpoints"):
        made("ensemble", lifter)
    save_lifter(tmp_path / "wide.safetensors", create_lifter("simplebaseline", seed=0, hidden=8), {})
    with pytest.raises(CheckpointError, match="other options"):
        made("ensemble", lifter, checkpoints=(str(tmp_path / "wide.safetensors"),)).fit(seen)


@pytest.mark.parametrize("loss", ["laplace", "gaussian"])
def test_the_heads_loss_is_the_likelihood_but_for_a_constant(loss):
    values = torch.randn(6, 2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    error = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factor = precision_factor(values)
    covariance = torch.linalg.inv(factor.mT @ factor)
    nll = Stated(torch.ones(6, 2), DENSITIES[loss], covariance).nll(error)
    constants = [
        float(head_loss(values[n : n + 1], error[n : n + 1], loss) - nll[n].mean()) for n in range(6)
    ]
    np.testing.assert_allclose(constants, constants[0], rtol=1e-6)
    values.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: head_loss(v, error, loss), values)


@pytest.mark.parametrize("loss", ["uao", "laplace", "gaussian"])
def test_a_head_learns_the_size_and_shape_of_errors_and_leaves_the_lifter_alone(loss, lifter, clips):
    """Errors are twenty times as large in frames that the 2D marks, and four times as long along z."""
    generator = torch.Generator().manual_seed(0)
    marked = clips.keypoints[:, 5, 0] > clips.keypoints[:, 5, 0].median()
    size = torch.where(marked, 100.0, 5.0)[:, None, None] * torch.tensor([1.0, 1.0, 4.0])
    truth = clips.poses - clips.poses[:, :1]
    lifted = LiftedClips(truth + size * torch.randn(truth.shape, generator=generator), None)
    seen = Lifting(lifter, clips, lifted)
    weights = copy.deepcopy(lifter.state_dict())
    before = torch.get_rng_state()
    estimator = made("posthoc", lifter, loss=loss, hidden=32, steps=250, batch_size=64, lr=1e-2)
    estimator.fit(seen)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, lifter.state_dict()[name]) for name, value in weights.items())
    sigma, covariance = estimator(seen)
    measured = seen.error().norm(dim=-1)
    for group in (marked, ~marked):
        assert abs(float(sigma[group].mean() / measured[group].mean()) - 1) < 0.35
    if loss == "uao":
        assert covariance is None and estimator.density == ""
        return
    assert covariance is not None and estimator.density == loss
    axes = covariance.diagonal(dim1=-2, dim2=-1).sqrt().median(0).values
    assert float((axes[:, 2] / axes[:, 0]).median()) > 2.5
    again = made("posthoc", lifter, loss=loss, hidden=32, steps=1)
    again.load_state_dict(estimator.state_dict())
    assert torch.equal(again(seen)[0], sigma)

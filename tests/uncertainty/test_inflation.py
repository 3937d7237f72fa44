"""Inflation sees what does not fit the 2D, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poseda.errors import DataError
from poseda.lifters.inference import LiftedClips
from poseda.uncertainty.base import Lifting
from poseda.uncertainty.calibrated import fit_uncertainty
from poseda.uncertainty.inflation import LEAST_RESIDUAL, inflation, residuals, typical_residual
from tests.uncertainty.test_estimators import made


def noisy(lifter, clips, size, seed=0):
    truth = clips.poses - clips.poses[:, :1]
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(100 + seed)) * size
    return Lifting(lifter, clips, LiftedClips(truth + noise - noise[:, :1], None))


def test_perfect_poses_leave_no_residual(lifter, clips):
    assert float(residuals(noisy(lifter, clips, 0.0)).max()) < 1.0  # mm, at 4 m, in float32
    assert float(typical_residual(noisy(lifter, clips, 0.0)).max()) < 2 * LEAST_RESIDUAL


def test_one_wrong_joint_has_its_sideways_error_as_residual(lifter, clips):
    seen = noisy(lifter, clips, 0.0)
    seen.lifted.poses[:, 9, 0] += 40.0  # along x: across the viewing ray, but for its slant
    found = residuals(seen)[:, 9]
    assert 30 < float(found.median()) < 41
    assert float(residuals(seen)[:, [3, 6, 12]].median()) < 5


def test_errors_twice_as_large_are_inflated_twofold_and_smaller_ones_never_shrunk(lifter, clips):
    reference = typical_residual(noisy(lifter, clips, 30.0))
    factor = inflation(noisy(lifter, clips, 60.0, seed=1), reference)
    assert abs(float(factor.median()) - 2) < 0.25
    assert inflation(noisy(lifter, clips, 10.0, seed=1), reference).tolist() == [1.0] * 17


def test_missing_joints_and_lost_frames_are_left_out(lifter, clips):
    reference = typical_residual(noisy(lifter, clips, 30.0))
    confidence = clips.confidence.clone()
    confidence[:, 4] = 0
    confidence[:40, 7] = 0
    hidden = replace(clips, confidence=confidence, keypoints=clips.keypoints * (confidence > 0)[..., None])
    seen = noisy(lifter, hidden, 60.0, seed=1)
    assert bool(residuals(seen)[:, 4].isnan().all()) and bool(residuals(seen)[:40, 7].isnan().all())
    factor = inflation(seen, reference)
    assert factor[4] == 1.0 and float(factor[7]) > 1.5  # a joint that nobody saw says nothing


def test_clips_without_any_root_are_named(lifter, clips):
    blind = replace(clips, keypoints=torch.full_like(clips.keypoints, 500.0))
    with pytest.raises(DataError, match="made up: no frame has a root"):
        typical_residual(noisy(lifter, blind, 10.0))


def test_under_a_shift_inflation_mends_what_recalibration_alone_leaves(lifter, clips):
    """Errors three times as large as on the source: coverage falls, and comes back with the residuals' ratio."""
    held_out = noisy(lifter, clips, 20.0)
    found = fit_uncertainty(made("constant", lifter), held_out, recalibrate="conformal")
    assert found.of(noisy(lifter, clips, 20.0, seed=1)).score().values["calibration_error"] < 3
    shifted = noisy(lifter, clips, 60.0, seed=2)
    before, after = (found.of(shifted, inflate=flag).score().values for flag in (False, True))
    assert before["calibration_error"] > 30 and after["calibration_error"] < 8
    assert before["coverage90"] < 30 and after["coverage90"] > 80


def test_the_root_is_certain_and_its_neighbours_keep_their_numbers(lifter, clips):
    seen = noisy(lifter, clips, 20.0)
    for options in ({"loss": "uao"}, {"loss": "laplace"}):
        estimator = made("posthoc", lifter, hidden=8, steps=5, **options)
        lifted = fit_uncertainty(estimator, seen, seen).of(seen).lifted()
        assert lifted.radius90 is not None and lifted.sigma is not None
        assert bool((lifted.radius90[:, 0] == 0).all()) and bool((lifted.sigma[:, 0] == 1).all())
        assert bool((lifted.radius90[:, 1:] > 0).all()) and torch.equal(lifted.poses, seen.lifted.poses)
        if lifted.covariance is not None:
            assert bool(torch.linalg.cholesky_ex(lifted.covariance).info.eq(0).all())

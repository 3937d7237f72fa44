"""Detector noise: its published size, its correlation in time, and where it may not reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from poseda.data.noise import add_detector_noise, autoregress
from poseda.errors import ConfigError
from poseda.skeleton import get_skeleton


@pytest.fixture
def big_box(make_clips):
    """6000 frames in two sequences whose people all have a box whose longer side is 400 px."""
    clips = make_clips(lengths=(4000, 2000), subjects="AB")
    points = clips.keypoints - clips.keypoints.amin(1, keepdim=True)
    points = points / points.amax((1, 2), keepdim=True) * 400 + 300
    return replace(clips, keypoints=points)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("level", "pixels"), [("cpn", 5.4), ("hrnet", 4.4), ("10", 10.0), (2.5, 2.5)])
def test_the_mean_error_at_a_400_px_box_is_the_published_one(big_box, level, pixels):
    noisy = add_detector_noise(big_box, level, seeded())
    error = (noisy.keypoints - big_box.keypoints).norm(dim=-1)
    assert error.mean() == pytest.approx(pixels, rel=0.05)
    assert noisy.provenance.keypoints.startswith("gt+") and torch.equal(noisy.poses, big_box.poses)


def test_noise_grows_with_the_box(big_box):
    small = replace(big_box, keypoints=big_box.keypoints / 4)
    large = add_detector_noise(big_box, "cpn", seeded()).keypoints - big_box.keypoints
    little = add_detector_noise(small, "cpn", seeded()).keypoints - small.keypoints
    assert torch.allclose(large, little * 4, atol=1e-2)


def test_hips_err_more_than_the_nose_and_wrists_have_the_outliers(big_box):
    error = (add_detector_noise(big_box, "cpn", seeded()).keypoints - big_box.keypoints).norm(dim=-1)
    assert error[:, 1].median() > 3 * error[:, 9].median()
    share = (error > 25).float().mean(0)
    assert share[[13, 16]].min() > 0.04 and share[[1, 4]].max() < 0.001


def test_errors_persist_in_time_and_not_across_sequences(big_box):
    error = (add_detector_noise(big_box, "cpn", seeded()).keypoints - big_box.keypoints)[:, 10, 0]
    error = (error - error.mean()).clamp(-20, 20)

    def correlation(lag: int) -> float:
        return float(np.corrcoef(error[:-lag], error[lag:])[0, 1])

    assert 0.6 < correlation(1) < 0.9 and correlation(1) > correlation(4) > correlation(30) - 0.05
    assert abs(correlation(60)) < 0.1


def test_autoregression_equals_its_recursion():
    fresh, rho = torch.randn(50, 3, dtype=torch.float64, generator=seeded()), 0.8
    first = torch.tensor([0] * 20 + [20] * 30)
    expected = torch.empty_like(fresh)
    for t in range(50):
        start = t == first[t]
        expected[t] = fresh[t] if start else rho * expected[t - 1] + (1 - rho**2) ** 0.5 * fresh[t]
    assert torch.allclose(autoregress(fresh, first, rho), expected, atol=1e-3)


def test_confidence_falls_with_the_error_and_missing_joints_stay_missing(big_box):
    confidence = torch.ones_like(big_box.confidence)
    confidence[:, 5] = 0.0
    clean = replace(big_box, confidence=confidence)
    noisy = add_detector_noise(clean, "cpn", seeded())
    error = (noisy.keypoints - clean.keypoints).norm(dim=-1)
    seen = clean.visible
    assert torch.equal(noisy.visible, seen)
    assert np.corrcoef(error[seen], noisy.confidence[seen])[0, 1] < -0.8


def test_noise_follows_the_generator_and_the_joints_by_name(big_box):
    first = add_detector_noise(big_box, "cpn", seeded(3)).keypoints
    assert torch.equal(first, add_detector_noise(big_box, "cpn", seeded(3)).keypoints)
    assert not torch.equal(first, add_detector_noise(big_box, "cpn", seeded(4)).keypoints)
    other = big_box.convert(get_skeleton("3dhp17"))
    error = (add_detector_noise(other, "cpn", seeded()).keypoints - other.keypoints).norm(dim=-1).median(0).values
    names = other.skeleton.joints
    assert names[int(error.argmin())] == "nose" and names[int(error.argmax())] in (
        "rhip",
        "lhip",
        "rankle",
        "lankle",
    )


@pytest.mark.parametrize("level", ["cnp", "-1", "0", "nan", "1000"])
def test_an_unknown_level_is_refused(make_clips, level):
    with pytest.raises(ConfigError, match=f"noise={level}: expected none, cpn, hrnet"):
        add_detector_noise(make_clips(), level, seeded())

"""Detector noise: its published size, how long its faults last, and where it may not reach."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from poseda.data.noise import Seen, add_detector_noise, autoregress, exchange_twins, noisy_keypoints
from poseda.errors import ConfigError
from poseda.skeleton import SKELETONS, get_skeleton

H36M = get_skeleton("h36m17")


def with_box(clips, pixels=400.0):
    """The clips with each person's box scaled to a longer side of so many px, and certain keypoints."""
    points = clips.keypoints - clips.keypoints.amin(1, keepdim=True)
    points = points / points.amax((1, 2), keepdim=True) * pixels + 300
    return replace(clips, keypoints=points, confidence=torch.ones_like(clips.confidence))


@pytest.fixture
def big_box(make_clips):
    """6000 frames in two sequences at 50 Hz whose people all have a box whose longer side is 400 px."""
    return with_box(make_clips(lengths=(4000, 2000), subjects="AB"))


@pytest.fixture(scope="module")
def people(source_domain):
    """2000 frames of persons as a detector sees them, in a 400 px box."""
    return with_box(source_domain.train)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def errors(noisy, clean):
    """Distances (F, J) px; NaN where a joint was missed."""
    return (noisy.keypoints - clean.keypoints).norm(dim=-1).masked_fill(~noisy.visible, torch.nan)


def lengths_of_runs(marked):
    """Lengths of the runs of True in (F,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return edges[1::2] - edges[::2]


def ranks(values):
    return values.argsort().argsort()


@pytest.mark.parametrize(
    ("level", "pixels"), [("cpn", 5.4), ("hrnet", 4.4), ("wild", 10.0), ("20", 20.0), (2.5, 2.5), (0.3, 0.3)]
)
def test_the_mean_error_at_a_400_px_box_is_the_published_one(people, level, pixels):
    made = [add_detector_noise(people, level, seeded(seed)) for seed in range(12)]
    assert torch.cat([errors(noisy, people) for noisy in made]).nanmean() == pytest.approx(pixels, rel=0.02)
    assert made[0].provenance.keypoints.startswith("gt+") and torch.equal(made[0].poses, people.poses)


def test_noise_grows_with_the_box(big_box):
    small = replace(big_box, keypoints=big_box.keypoints / 4)
    large, little = (add_detector_noise(clips, "wild", seeded()) for clips in (big_box, small))
    assert torch.equal(large.visible, little.visible)
    assert torch.allclose(large.keypoints, little.keypoints * 4, atol=1e-2)
    assert torch.allclose(large.confidence, little.confidence, atol=1e-3)


def test_hips_err_more_than_the_nose_and_wrists_have_the_outliers(big_box):
    error = errors(add_detector_noise(big_box, "cpn", seeded()), big_box)
    assert error[:, 1].nanmedian() > 3 * error[:, 9].nanmedian()
    share = (error > 25).float().mean(0)
    assert share[[13, 16]].min() > 0.05 and share[[0, 8, 9]].max() < 0.03


def test_errors_persist_in_time_and_not_across_sequences(big_box):
    noisy = add_detector_noise(big_box, "cpn", seeded())
    error = (noisy.keypoints - big_box.keypoints)[:, 0, 0].numpy()  # the pelvis has neither outliers nor swaps
    seen = noisy.visible[:, 0].numpy()

    def correlation(lag):
        both = seen[:-lag] & seen[lag:]
        return np.corrcoef(error[:-lag][both], error[lag:][both])[0, 1]

    for lag in (1, 2, 4):
        assert correlation(lag) == pytest.approx(0.8**lag, abs=0.07)
    assert abs(correlation(60)) < 0.1


def test_noise_keeps_its_persistence_at_another_frame_rate(big_box):
    noisy = add_detector_noise(replace(big_box, fps=25.0), "cpn", seeded())
    both = noisy.visible[:-1, 0] & noisy.visible[1:, 0]
    error = (noisy.keypoints - big_box.keypoints)[:, 0, 0]
    assert np.corrcoef(error[:-1][both], error[1:][both])[0, 1] == pytest.approx(0.8**2, abs=0.07)


def test_autoregression_equals_its_recursion():
    fresh, rho = torch.randn(50, 3, dtype=torch.float64, generator=seeded()), 0.8
    first = torch.tensor([0] * 20 + [20] * 30)
    expected = torch.empty_like(fresh)
    for t in range(50):
        start = t == first[t]
        expected[t] = fresh[t] if start else rho * expected[t - 1] + (1 - rho**2) ** 0.5 * fresh[t]
    assert torch.allclose(autoregress(fresh, first, rho), expected, atol=1e-3)


def faults(clean, seeds=6, level="wild"):
    """Marks (F, J) of outliers and swaps of several draws, told apart by where the keypoint lies, and of misses."""
    found = {"outlier": [], "swap": [], "miss": []}
    mirror = list(H36M.mirror)
    apart = (clean.keypoints - clean.keypoints[:, mirror]).norm(dim=-1)
    for seed in range(seeds):
        noisy = add_detector_noise(clean, level, seeded(seed))
        own, twin = errors(noisy, clean), (noisy.keypoints - clean.keypoints[:, mirror]).norm(dim=-1)
        swap = (twin < 25) & (apart > 60) & noisy.visible
        found["outlier"].append((own > 35) & (twin > 35))
        found["swap"].append(swap)
        found["miss"].append(~noisy.visible)
    return {name: torch.cat(marks).numpy() for name, marks in found.items()}, apart.repeat(seeds, 1).numpy()


@pytest.fixture
def spread_out(big_box):
    """The same person in each frame, all joints far from their twins."""
    y = torch.arange(17.0) * 20
    x = torch.tensor([{"l": 180.0, "r": 0.0}.get(name[0], 90.0) for name in H36M.joints])
    return with_box(replace(big_box, keypoints=torch.stack([x, y], -1).expand(6000, 17, 2).clone()))


def test_swaps_have_the_published_shares(spread_out):
    marks, _ = faults(spread_out)
    share = marks["swap"].mean(0)
    legs, arms = [1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]
    kept = 1 - 0.07  # of the swapped joints some are missed, or outliers at the same time
    assert share[legs].mean() == pytest.approx(0.06 * kept, rel=0.12)
    assert share[arms].mean() == pytest.approx(0.03 * kept, rel=0.17)
    indoor, _ = faults(spread_out, 12, "cpn")
    assert indoor["swap"].mean(0)[legs].mean() == pytest.approx(0.006, rel=0.35)


def test_swaps_take_a_whole_pair_of_limbs_or_one_joint_of_it(spread_out):
    marks, _ = faults(spread_out)
    swap = marks["swap"]
    both_seen = ~(marks["miss"] | marks["outlier"])
    for left, right in zip(H36M.left, H36M.right, strict=True):  # never one side alone
        seen = both_seen[:, left] & both_seen[:, right]
        assert (swap[seen, left] != swap[seen, right]).mean() < 1e-3
    legs = swap[both_seen[:, [4, 5, 6]].all(1)][:, [4, 5, 6]].sum(1)
    assert (legs == 3).mean() == pytest.approx(0.03, rel=0.3) and (legs == 1).mean() > 0.05


@pytest.mark.parametrize("fault", ["outlier", "swap", "miss"])
def test_faults_come_in_bursts_of_3_to_15_frames(spread_out, fault):
    marks, _ = faults(spread_out, 2)
    joint = 2 if fault != "outlier" else 13
    runs = lengths_of_runs(marks[fault][:4000, joint])
    assert len(runs) > 10 and 5 < runs.mean() < 13  # alone 9; joined where they overlap, cut where a miss hides them
    assert (runs <= 30).all() and (runs >= 3).mean() > 0.75


def test_misses_have_the_published_shares_and_meet_outliers_more(spread_out):
    noisy = [add_detector_noise(spread_out, "wild", seeded(seed)) for seed in range(4)]
    missed = torch.cat([~clips.visible for clips in noisy]).double().mean(0)
    assert missed[9] == pytest.approx(0.02 * 1.04, rel=0.3)  # the nose, of whose outliers (2 %) three times as many
    assert missed[[1, 4]].mean() == pytest.approx(0.10, rel=0.12)  # hips, without outliers
    assert missed[[13, 16]].mean() == pytest.approx(0.10 * 1.19, rel=0.12)  # wrists, with 9 and 10 %
    hidden = ~noisy[0].visible
    assert (noisy[0].keypoints[hidden] == 0).all() and (noisy[0].confidence[hidden] == 0).all()


def test_joints_near_their_twin_are_missed_more(spread_out):
    points = spread_out.keypoints.clone()
    points[:, 5, :] = points[:, 2, :] + 5.0  # the knees
    near = replace(spread_out, keypoints=points)
    missed = torch.cat([~add_detector_noise(near, "wild", seeded(seed)).visible for seed in range(3)]).double().mean(0)
    assert missed[[2, 5]].mean() > 1.5 * missed[[1, 4]].mean()


def test_a_frame_keeps_half_of_its_joints_and_two_at_least(big_box):
    confidence = torch.zeros_like(big_box.confidence)
    confidence[:, [2, 5, 13]] = 1.0
    sparse = replace(big_box, confidence=confidence)
    noisy = add_detector_noise(sparse, "wild", seeded())
    assert noisy.visible.sum(1).min() == 2 and not noisy.visible[:, 0].any()


def test_exchanged_twins_lie_where_the_other_was():
    points = torch.arange(34.0).view(1, 17, 2)
    visible = torch.ones(1, 17, dtype=torch.bool)
    visible[0, 13] = False
    swapped = torch.zeros(1, 17, dtype=torch.bool)
    swapped[0, [0, 3, 6, 13, 16, 11]] = True  # pelvis, both ankles, both wrists (one unseen), one shoulder
    exchanged = exchange_twins(points, visible, swapped, H36M)
    assert torch.equal(exchanged[0, [3, 6]], points[0, [6, 3]])
    same = [joint for joint in range(17) if joint not in (3, 6)]
    assert torch.equal(exchanged[0, same], points[0, same])


@pytest.mark.parametrize("level", ["cpn", "hrnet", "wild"])
def test_confidence_falls_with_the_error(people, level):
    noisy = add_detector_noise(people, level, seeded())
    error, sure = errors(noisy, people)[noisy.visible], noisy.confidence[noisy.visible]
    assert sure.min() > 0 and sure.max() <= 1
    assert np.corrcoef(ranks(error), ranks(sure))[0, 1] < -0.3
    edges = (0, 3, 6, 12, 30, 99)
    parts = [sure[(error > low) & (error <= high)].mean() for low, high in pairwise(edges)]
    assert parts[0] > 0.75 and parts[-1] < 0.2 and parts == sorted(parts, reverse=True)
    likely = sure[(error > 3) & (error < 4)]
    assert likely.std() > 0.05  # noisy: equal errors, unequal confidence


def test_joints_that_were_missing_stay_missing_and_doubt_is_multiplied(big_box):
    confidence = torch.full_like(big_box.confidence, 0.5)
    confidence[:, 5] = 0.0
    clean = replace(big_box, confidence=confidence)
    noisy = add_detector_noise(clean, "cpn", seeded())
    assert not noisy.visible[:, 5].any() and noisy.confidence.max() <= 0.5


def test_a_sequence_does_not_depend_on_what_comes_before(make_clips):
    """Many sequences of one frame have the same shares of faults, and neighbours in one file nothing in common."""
    count = 6000
    clips = with_box(make_clips(lengths=(1,) * count, subjects="A" * count))
    noisy = add_detector_noise(clips, "wild", seeded())
    missed = (~noisy.visible).float()
    assert missed[:, [1, 4]].mean() == pytest.approx(0.10, rel=0.15)
    assert abs(np.corrcoef(missed[:-1, 1], missed[1:, 1])[0, 1]) < 0.05
    error = noisy.keypoints - clips.keypoints
    seen = noisy.visible[:-1, 0] & noisy.visible[1:, 0]
    assert abs(np.corrcoef(error[:-1, 0, 0][seen], error[1:, 0, 0][seen])[0, 1]) < 0.05


def test_sequences_of_one_length_get_the_same_noise_side_by_side_as_one_after_the_other(big_box):
    count, each = 40, 12
    keypoints, confidence = big_box.keypoints[: count * each], big_box.confidence[: count * each]
    bounds = torch.arange(count + 1) * each
    results = []
    for known in (None, each):
        seen = Seen(keypoints, confidence, bounds, 50.0, big_box.skeleton, each=known)
        results.append(noisy_keypoints(seen, "wild", torch.Generator().manual_seed(0)))
    for alone, beside in zip(*results, strict=True):
        assert torch.equal(alone, beside)


def test_noise_follows_the_generator_alone(big_box):
    first = add_detector_noise(big_box, "cpn", seeded(3))
    torch.manual_seed(7)
    again = add_detector_noise(big_box, "cpn", seeded(3))
    assert torch.equal(first.keypoints, again.keypoints) and torch.equal(first.confidence, again.confidence)
    assert not torch.equal(first.keypoints, add_detector_noise(big_box, "cpn", seeded(4)).keypoints)


def test_joints_get_their_statistics_by_name(big_box):
    other = big_box.convert(get_skeleton("3dhp17"))
    error = errors(add_detector_noise(other, "cpn", seeded()), other).nanmedian(0).values
    names = other.skeleton.joints
    assert names[int(error.argmin())] == "nose"
    assert names[int(error.argmax())] in ("rhip", "lhip", "rankle", "lankle")


@pytest.mark.parametrize("name", SKELETONS)
def test_every_joint_set_can_be_made_noisy(make_clips, name):
    """Joints that the fit lacks err as the nearest above them in the tree: toes as ankles, eyes as the nose."""
    skeleton = get_skeleton(name)
    points = torch.rand(400, skeleton.num_joints, 2, generator=seeded()) * 400 + 300
    clips = make_clips(lengths=(400,), subjects="A").unlabelled()
    clips = clips._derive(keypoints=points, confidence=torch.ones(points.shape[:2]), skeleton=skeleton)
    error = errors(add_detector_noise(clips, "cpn", seeded()), clips)
    assert error.nanmean() == pytest.approx(5.4, rel=0.4) and torch.equal(clips.keypoints, points)


@pytest.mark.parametrize("level", ["cnp", "-1", "0", "nan", "1000"])
def test_an_unknown_level_is_refused(make_clips, level):
    with pytest.raises(ConfigError, match=f"noise={level}: expected none, cpn, hrnet, wild"):
        add_detector_noise(make_clips(), level, seeded())

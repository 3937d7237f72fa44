"""Whole clips: work shared between windows changes nothing, overlapping windows, and each frame exactly once."""

import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter, lifter_class, list_lifters
from poseda.lifters.base import Lifter, gather_frames
from poseda.lifters.inference import LiftConfig, lift_clips
from poseda.lifters.tiling import lifting_batches
from poseda.lifters.wrapped import wrap
from tests.lifters.published import stirred
from tests.lifters.test_every_lifter import SMALL
from tests.lifters.test_inference import LENGTHS, Running, clips

SHARING = ("convformer", "poseformer", "poseformerv2")


def test_the_lifters_that_encode_windows_in_their_own_way_are_these():
    own = [name for name in list_lifters() if lifter_class(name).encode_windows is not Lifter.encode_windows]
    assert tuple(own) == SHARING


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-2)])
def test_windows_that_share_frames_have_the_poses_of_windows_alone(name, dtype, tolerance):
    lifter = stirred(name, **SMALL[name]).to(dtype)
    frames = torch.rand(30, 17, 2, dtype=dtype) * 2 - 1
    windows = (torch.arange(30)[:, None] + torch.arange(-4, 5)).clamp(0, 29)
    with torch.no_grad():
        shared, alone = lifter.lift_windows(frames, windows), lifter(gather_frames(frames, windows))
    assert alone.pose.abs().max() > 100
    torch.testing.assert_close(shared.pose, alone.pose, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(shared.log_sigma, alone.log_sigma, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", list_lifters())
def test_a_cpu_takes_few_frames_at_a_time_and_gives_the_same_poses(name, monkeypatch):
    lifter, sizes = stirred(name, **SMALL[name]).double(), []
    encode = lifter.encode
    monkeypatch.setattr(lifter, "encode", lambda some: sizes.append(len(some)) or encode(some))
    monkeypatch.setattr(type(lifter), "cached_frames", 3 * lifter.frames)
    keypoints = torch.rand(10, lifter.frames, lifter.skeleton.num_joints, lifter.inputs, dtype=torch.float64) * 2 - 1
    whole = lifter(keypoints)  # a gradient is asked for
    with torch.no_grad():
        parts = lifter(keypoints)
        lifter.train()(keypoints)  # batch norm takes the whole batch
    assert sizes == [10, 3, 3, 3, 1, 10]
    torch.testing.assert_close(parts.pose, whole.pose.detach(), rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(parts.log_sigma, whole.log_sigma.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", SHARING)
def test_clips_are_lifted_from_the_window_round_each_frame(name):
    lifter, given = stirred(name, **SMALL[name]), clips()
    first = int(given.bounds[2])
    screen = given.keypoints[first : first + 13] / 1000 * 2 - 1
    window = [min(max(t, 0), 12) for t in range(1 - 4, 1 + 5)]
    with torch.no_grad():
        expected = lifter(screen[window][None]).pose[0, 0]
    for flip in (False, True):
        few, all_at_once = (lift_clips(lifter, given, flip=flip, batch_size=size).poses for size in (18, 4096))
        torch.testing.assert_close(few, all_at_once, rtol=1e-4, atol=1e-1)
    torch.testing.assert_close(lift_clips(lifter, given).poses[first + 1], expected, rtol=1e-4, atol=1e-1)


@pytest.mark.parametrize("name", list_lifters())
def test_every_frame_is_kept_exactly_once(name):
    lifter, bounds = create_lifter(name, **SMALL[name]), clips().bounds
    for overlap in (0, 2, 8) if lifter.output == "seq2seq" and lifter.frames > 1 else (0,):
        kept = torch.cat([b.frames for b in lifting_batches(lifter, bounds, 30, overlap, "centre")])
        assert kept.sort().values.tolist() == list(range(sum(LENGTHS)))


def windows_of(length: int, stride: int) -> list[int]:
    """First frames of the windows of five over one sequence, by a Python loop."""
    starts = [0]
    while starts[-1] + 5 < length:
        starts.append(min(starts[-1] + stride, length - 5))
    return starts


@pytest.mark.parametrize("overlap", [1, 3, 4])
@pytest.mark.parametrize("merge", ["mean", "centre"])
def test_overlapping_windows_are_averaged_or_the_most_central_one_is_taken(overlap, merge):
    given, lifter = clips(), wrap(Running(), frames=5, units="mm")  # joint 1's depth is the place in the window
    for batch_size in (5, 4096):
        lifted = lift_clips(lifter, given, batch_size=batch_size, config=LiftConfig(overlap=overlap, merge=merge))
        expected = []
        for length in LENGTHS:
            for t in range(length):
                places = [t - start for start in windows_of(length, 5 - overlap) if 0 <= t - start < 5]
                central = min(places, key=lambda place: abs(place - 2))
                expected.append(sum(places) / len(places) if merge == "mean" else central)
        torch.testing.assert_close(lifted.poses[:, 1, 2], torch.tensor(expected, dtype=torch.float32))


def test_an_overlap_that_is_no_part_of_a_window_is_refused():
    with pytest.raises(ConfigError, match="overlap=9: for mixste with frames=9 it must be from 0 to 8"):
        lift_clips(create_lifter("mixste", **SMALL["mixste"]), clips(), config=LiftConfig(overlap=9))
    with pytest.raises(ConfigError, match="overlap=3: for poseformer with frames=9 it must be 0"):
        lift_clips(create_lifter("poseformer", **SMALL["poseformer"]), clips(), config=LiftConfig(overlap=3))


@pytest.mark.parametrize("name", ["mixste", "poseformer", "simplebaseline", "videopose3d"])
def test_of_no_frames_there_are_no_poses(name):
    assert lift_clips(create_lifter(name, **SMALL[name]), clips().limit(0)).poses.shape == (0, 17, 3)


@pytest.mark.parametrize(("option", "value"), [("precision", "bf16"), ("merge", "center")])
def test_words_that_mean_nothing_are_refused_at_once(option, value):
    with pytest.raises(ConfigError, match=f"There is no {option} '{value}'"):
        LiftConfig(**{option: value})


@pytest.mark.parametrize("name", list_lifters())
def test_half_precision_stays_near_and_decodes_in_full(name):
    lifter, given = create_lifter(name, seed=0, **SMALL[name]), clips()
    exact = lift_clips(lifter, given).poses
    half = lift_clips(lifter, given, config=LiftConfig(precision="bfloat16")).poses
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.05 * exact.abs().max()

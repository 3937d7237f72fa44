"""Frame by frame against `lift_clips` on the same frames; resets, gaps, bounded memory."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from poseda.data.domains import DomainConfig, load_domain
from poseda.engine.streaming import PoseStream, StreamConfig, StreamFrame
from poseda.errors import ConfigError, DataError, ShapeError
from poseda.lifters import create_lifter
from poseda.lifters.inference import LiftConfig, lift_clips

LIFTERS = {
    "simplebaseline": {"hidden": 16, "blocks": 1},
    "videopose3d": {"frames": 9, "channels": 8},
    "poseformer": {"frames": 9, "dim": 4, "depth": 1, "heads": 2},
    "mixste": {"frames": 5, "dim": 8, "depth": 1, "heads": 2},
    "mixste even": {"frames": 4, "dim": 8, "depth": 1, "heads": 2},
}


def made(name):
    return create_lifter(name.split()[0], seed=0, **LIFTERS[name]).eval()


@pytest.fixture(scope="module")
def clips():
    """30 consecutive frames of one person at the full rate, some joints missing."""
    domain = load_domain(DomainConfig(name="3dhp"), root=os.devnull).test
    first = domain._take(torch.arange(domain.num_frames) < 30)
    assert len(first.sequences) == 1
    confidence = first.confidence.clone()
    confidence[3:20, 5] = 0
    confidence[::4, 12] = 0.5
    return first.with_keypoints(first.keypoints, confidence, "made").unlabelled()


def part(clips, rows):
    keep = torch.zeros(clips.num_frames, dtype=torch.bool)
    keep[rows] = True
    return clips._take(keep)


def frames_of(clips, numbers=None):
    numbers = range(clips.num_frames) if numbers is None else numbers
    return [StreamFrame(n, k, c) for n, k, c in zip(numbers, clips.keypoints, clips.confidence, strict=True)]


def run(stream, frames):
    found = [pose for frame in frames for pose in stream.push(frame)]
    return found + stream.reset()


def stream_of(lifter, clips, **options):
    flip = options.pop("flip", False)
    return PoseStream(lifter, clips.cameras[0], StreamConfig(jump=0, scale_jump=0, **options), flip=flip)


def exact(lifter):
    tiled = lifter.output == "seq2seq" and not lifter.slides
    return LiftConfig(overlap=lifter.frames - 1, merge="centre") if tiled else LiftConfig()


@pytest.mark.parametrize("length", [1, 3, 5, 30])
@pytest.mark.parametrize("name", list(LIFTERS))
def test_half_a_window_late_poses_are_those_of_whole_clips(clips, name, length):
    lifter, some = made(name), part(clips, slice(0, length))
    found = run(stream_of(lifter, some), frames_of(some))
    expected = lift_clips(lifter, some, config=exact(lifter))
    assert [pose.number for pose in found] == list(range(length))
    torch.testing.assert_close(torch.stack([pose.pose for pose in found]), expected.poses, rtol=1e-4, atol=0.02)
    if expected.sigma is not None:
        torch.testing.assert_close(torch.stack([pose.sigma for pose in found]), expected.sigma, rtol=1e-4, atol=0.02)


@pytest.mark.parametrize("name", list(LIFTERS))
def test_without_latency_each_pose_is_the_last_of_the_clip_so_far(clips, name):
    lifter = made(name)
    stream = stream_of(lifter, clips, latency="none")
    for number, frame in enumerate(frames_of(clips)[:14]):
        (pose,) = stream.push(frame)
        expected = lift_clips(lifter, part(clips, slice(0, number + 1))).poses[-1]
        torch.testing.assert_close(pose.pose, expected, rtol=1e-4, atol=0.02)
    assert stream.reset() == []


def test_latency_is_what_it_says(clips):
    stream = stream_of(made("videopose3d"), clips)
    assert [len(stream.push(frame)) for frame in frames_of(clips)[:8]] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(stream.reset()) == 4
    stream = stream_of(made("mixste"), clips)
    assert [len(stream.push(frame)) for frame in frames_of(clips)[:7]] == [0, 0, 0, 0, 3, 1, 1]


def test_flips_are_averaged_as_for_whole_clips(clips):
    lifter = made("videopose3d")
    found = run(stream_of(lifter, clips, flip=True), frames_of(clips))
    expected = lift_clips(lifter, clips, flip=True)
    torch.testing.assert_close(torch.stack([pose.pose for pose in found]), expected.poses, rtol=1e-4, atol=0.02)


def test_the_root_is_where_the_pose_fits_the_2d(clips):
    from poseda.engine.predictions import estimated_root

    lifter = made("simplebaseline")
    found = run(stream_of(lifter, clips), frames_of(clips))
    expected = estimated_root(lift_clips(lifter, clips).poses, clips)
    for pose, root in zip(found, expected, strict=True):
        assert (pose.root is None) == bool(root.isnan().any())
        if pose.root is not None:
            torch.testing.assert_close(pose.root, root, rtol=1e-3, atol=1.0)


@pytest.mark.parametrize("how", ["reset", "gap", "jump", "scale"])
def test_after_a_reset_nothing_of_before_is_seen(clips, how):
    lifter = made("videopose3d")
    first, second = part(clips, slice(0, 12)), part(clips, slice(12, 30))
    config = StreamConfig()
    if how == "jump":
        second = second.with_keypoints(second.keypoints + 3000.0, second.confidence, "made")
    if how == "scale":
        middle = second.keypoints.mean((0, 1))
        second = second.with_keypoints(middle + 3.0 * (second.keypoints - middle), second.confidence, "made")
        config = StreamConfig(jump=0)
    stream = PoseStream(lifter, clips.cameras[0], config)
    found = [pose for frame in frames_of(first) for pose in stream.push(frame)]
    found += stream.reset() if how == "reset" else []
    start = {"reset": 0, "gap": 17}.get(how, 12)
    found += [pose for frame in frames_of(second, range(start, start + 18)) for pose in stream.push(frame)]
    found += stream.reset()
    expected = torch.cat([lift_clips(lifter, some).poses for some in (first, second)])
    torch.testing.assert_close(torch.stack([pose.pose for pose in found]), expected, rtol=1e-4, atol=0.02)
    assert stream.resets == 2


def test_people_who_walk_do_not_jump(clips):
    stream = PoseStream(made("simplebaseline"), clips.cameras[0])
    run(stream, frames_of(clips))
    assert stream.resets == 1


def test_a_short_gap_is_bridged_by_straight_lines_and_not_answered(clips):
    lifter, gone = made("videopose3d"), [7, 8, 9]
    numbers = [n for n in range(20) if n not in gone]
    whole = part(clips, slice(0, 20))
    keypoints, confidence = whole.keypoints.clone(), whole.confidence.clone()
    for n in gone:
        share = (n - 6) / 4
        sure = torch.minimum(confidence[6], confidence[10])
        keypoints[n] = torch.where(sure[:, None] > 0, (1 - share) * keypoints[6] + share * keypoints[10], 0.0)
        confidence[n] = 0.1 * sure
    filled = whole.with_keypoints(keypoints, confidence, "made")
    frames = [frame for frame in frames_of(whole) if frame.number in numbers]
    found = run(stream_of(lifter, whole), frames)
    assert [pose.number for pose in found] == numbers
    expected = lift_clips(lifter, filled).poses[numbers]
    torch.testing.assert_close(torch.stack([pose.pose for pose in found]), expected, rtol=1e-4, atol=0.02)


def test_buffers_stay_as_long_as_the_window_over_ten_thousand_frames(clips):
    lifter = made("videopose3d")
    lifter.lift_windows = counted = Counted(lifter)
    stream = stream_of(lifter, clips)
    stream._located = lambda seen, poses, sigma: seen  # where the root stands takes most of the time
    frames = frames_of(clips)
    answered = sum(len(stream.push(replace(frames[n % 30], number=n))) for n in range(10_000))
    assert answered == 10_000 - 4 and len(stream.buffer) == 9
    assert counted.most == 9  # frames that the lifter is shown


class Counted:
    """A lifter's answer without its arithmetic: this test is about memory."""

    def __init__(self, lifter):
        self.most = 0
        self.output = lifter.lift_windows(torch.zeros(9, 17, 2), torch.arange(9)[None])

    def __call__(self, frames, windows):
        self.most = max(self.most, len(frames))
        return self.output


class Learns:
    """An adapter that only takes notes."""

    def __init__(self, lifter):
        self.lift, self.notes = lifter.lift_windows, []

    def learn(self, keypoints, confidence):
        self.notes.append(tuple(keypoints.shape))

    def reset(self):
        self.notes.append("reset")


def test_an_adapter_sees_each_frame_and_each_reset(clips):
    lifter = made("simplebaseline")
    adapter = Learns(lifter)
    stream = PoseStream(lifter, clips.cameras[0], StreamConfig(jump=0, scale_jump=0), adapter=adapter)
    frames = frames_of(clips)
    run(stream, [frames[0], frames[1], replace(frames[2], number=20)])
    assert adapter.notes == [(17, 2), (17, 2), "reset", (17, 2), "reset"]


def test_frames_that_do_not_fit_are_refused_and_the_stream_goes_on(clips):
    stream = stream_of(made("simplebaseline"), clips)
    frames = frames_of(clips)
    stream.push(frames[3])
    with pytest.raises(DataError, match="frame 3 does not follow frame 3"):
        stream.push(frames[3])
    with pytest.raises(ShapeError, match="keypoints"):
        stream.push(StreamFrame(4, frames[4].keypoints[:16], frames[4].confidence))
    assert [pose.number for pose in stream.push(frames[4])] == [4]


@pytest.mark.parametrize("options", [{"jump": -1.0}, {"scale_jump": 0.5}, {"idle": -1.0}, {"latency": "full"}])
def test_options_that_make_no_sense_are_refused_in_one_line(options):
    with pytest.raises(ConfigError, match=next(iter(options))) as caught:
        StreamConfig(**options)
    assert "\n" not in str(caught.value)

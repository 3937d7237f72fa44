"""People kept apart, gaps, short sequences, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from poseda.data.detections import DetectionOptions, read_detections
from poseda.data.detections.tracking import MOST_PEOPLE, track
from poseda.errors import ConfigError, DataError
from tests.data.detections.conftest import SIZE, coco_entries, flat, write


@pytest.fixture
def read(tmp_path):
    """Detections of a list of entries."""

    def make(entries, **options):
        return read_detections(write(tmp_path / "clip.json", entries), DetectionOptions(**{**SIZE, **options}))

    return make


def without(entries, *frames):
    return [entry for entry in entries if entry["image_id"] not in frames]


def test_crossing_people_without_numbers_keep_their_tracks(read, person, joints_of, h36m):
    people = [person(30, x=150.0, speed=6.0), person(30, x=330.0, y=215.0, speed=-6.0)]
    lists = [coco_entries(joints_of(named, "coco17")) for named in people]
    entries = [lists[(t + who) % 2][t] for t in range(30) for who in (0, 1)]  # the order in a frame swaps
    result = read(entries)
    assert result.clips.bounds.tolist() == [0, 30, 60]
    expected = np.concatenate([h36m(named) for named in people])
    np.testing.assert_allclose(result.clips.keypoints, expected, atol=1e-3)


def test_the_detector_s_numbers_win_over_nearness(read, person, joints_of):
    near, far = (joints_of(person(10, x=x), "coco17") for x in (150.0, 450.0))
    jump = np.concatenate((near[:5], far[5:]))
    result = read(coco_entries(jump, track_id=7))
    assert result.clips.bounds.tolist() == [0, 10] and result.clips.subjects == ("clip/person7",)
    assert read(coco_entries(jump)).clips.bounds.tolist() == [0, 5, 10]


def test_numbers_that_repeat_in_a_frame_are_no_tracks(read, person, joints_of):
    entries = [
        {"image_id": f"{t}.jpg", "keypoints": flat(joints_of(person(x=x), "coco17")[t]), "score": 3.0, "idx": [0.0]}
        for t in range(8)
        for x in (150.0, 450.0)
    ]
    result = read(entries)
    assert result.clips.bounds.tolist() == [0, 8, 16]
    assert "the file's person numbers repeat within frames: people are tracked anew" in result.remarks
    assert "linked by nearness" in result.recognised


def test_some_people_without_a_number_are_tracked_anew(read, person, joints_of):
    entries = coco_entries(joints_of(person(), "coco17"), track_id=1)
    del entries[3]["track_id"]
    result = read(entries)
    assert result.clips.bounds.tolist() == [0, 8]
    assert "not everybody has a person number: people are tracked anew" in result.remarks


def test_a_rare_second_detection_of_a_number_is_left_out(read, person, joints_of, h36m):
    named = person(120, speed=1.0)
    entries = coco_entries(joints_of(named, "coco17"), track_id=1)
    worse = {**entries[60], "keypoints": flat(joints_of(named, "coco17")[60] + 30, 0.5)}
    result = read([worse, *entries])
    np.testing.assert_allclose(result.clips.keypoints, h36m(named), atol=1e-3)
    assert "1 second detection of a person in one frame left out" in result.remarks


@pytest.mark.parametrize("numbers", [{}, {"track_id": 5}])
def test_short_gaps_are_filled_and_long_ones_cut(read, person, joints_of, h36m, numbers):
    named = person(30, speed=1.0)
    entries = without(coco_entries(joints_of(named, "coco17"), 0.8, **numbers), 6, 7, 15, 16, 17, 18, 19)
    result = read(entries)
    clips, expected = result.clips, h36m(named)
    assert clips.bounds.tolist() == [0, 15, 25]
    seen = [t for t in range(15) if t not in (6, 7)]
    np.testing.assert_allclose(clips.keypoints[seen], expected[seen], atol=1e-3)
    line = expected[5] + (expected[8] - expected[5]) * np.array([1, 2])[:, None, None] / 3
    np.testing.assert_allclose(clips.keypoints[6:8], line, atol=1e-3)
    torch.testing.assert_close(clips.confidence[[5, 6, 7, 8], 0], torch.tensor([0.8, 0.08, 0.08, 0.8]))
    np.testing.assert_allclose(clips.keypoints[15:], expected[20:], atol=1e-3)
    assert "1 gap of up to 4 frames filled (2 frames, with 0.1 of the confidence)" in result.remarks
    if numbers:
        assert [s.name for s in clips.sequences] == ["clip/person5/0-14", "clip/person5/20-29"]
        assert len(clips.subjects) == 1 and "1 longer gap cut a track" in result.remarks
    else:
        assert clips.subjects == ("clip/person1", "clip/person2")


def test_a_joint_missing_beside_a_gap_stays_missing_in_it(read, person, joints_of):
    entries = without(coco_entries(joints_of(person(10), "coco17"), track_id=1), 4)
    entries[3]["keypoints"][3 * 9 + 2] = 0.0  # left wrist of frame 3
    clips = read(entries).clips
    wrist = clips.skeleton.index("lwrist")
    assert (clips.confidence[:, wrist] == 0).nonzero().flatten().tolist() == [3, 4]
    assert (clips.keypoints[3:5, wrist] == 0).all()


def test_max_gap_zero_cuts_at_every_gap(read, person, joints_of):
    entries = without(coco_entries(joints_of(person(12), "coco17"), track_id=1), 5)
    assert read(entries, max_gap=0).clips.bounds.tolist() == [0, 5, 11]


def test_short_sequences_are_left_out_and_counted(read, person, joints_of):
    long = coco_entries(joints_of(person(20), "coco17"), track_id=1)
    short = coco_entries(joints_of(person(3, x=500.0), "coco17"), track_id=2)
    result = read(long + short)
    assert result.clips.bounds.tolist() == [0, 20]
    assert "1 sequence of 3 frames left out as too short" in result.remarks
    assert read(long + short, min_frames=3).clips.bounds.tolist() == [0, 20, 23]
    with pytest.raises(DataError, match="no sequence has min_frames=50 frames, the longest has 20; lower it"):
        read(long, min_frames=50)


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        (0, float("nan"), "of 170 keypoints 170 are no place in an image .* and 0 have a confidence of 0 or less"),
        (0, 1e300, "170 are no place in an image"),
        (2, -1.0, "0 are no place in an image .* and 170 have a confidence of 0 or less"),
    ],
)
def test_nobody_is_seen_at_any_confidence(read, person, joints_of, place, value, match):
    entries = coco_entries(joints_of(person(10), "coco17"), track_id=1)
    for entry in entries:
        entry["keypoints"][place::3] = [value] * 17
    with pytest.raises(DataError, match=rf"nobody has 4 joints .*, nor at any: .*{match}") as caught:
        read(entries)
    assert "lower it" not in str(caught.value)


def test_who_is_taken(read, person, joints_of):
    one = coco_entries(joints_of(person(12), "coco17"), track_id=4)
    other = coco_entries(joints_of(person(9, x=450.0), "coco17"), track_id=8)
    assert read(one + other).clips.bounds.tolist() == [0, 12, 21]
    assert read(one + other, person="longest").clips.subjects == ("clip/person4",)
    assert read(one + other, person="8").clips.bounds.tolist() == [0, 9]
    with pytest.raises(ConfigError, match=r"There is no person '5'.* Known: 4, 8"):
        read(one + other, person="5")


def test_low_and_broken_keypoints_are_missing_and_counted(read, person, joints_of):
    entries = coco_entries(joints_of(person(10), "coco17"))
    for entry in entries[:4]:
        entry["keypoints"][3 * 15 + 2] = 0.15  # left ankle
    entries[5]["keypoints"][3 * 16] = float("nan")  # right ankle
    result = read(entries)
    skeleton = result.clips.skeleton
    hidden = {(f, skeleton.joints[j]) for f, j in (result.clips.confidence == 0).nonzero().tolist()}
    assert hidden == {(0, "lankle"), (1, "lankle"), (2, "lankle"), (3, "lankle"), (5, "rankle")}
    assert result.clips.keypoints.isfinite().all()
    assert "4 of 170 keypoints below 0.2 left out" in result.remarks
    assert "1 of 170 keypoints are no place in an image and left out" in result.remarks


def test_people_with_few_visible_joints_are_left_out_and_counted(read, person, joints_of):
    entries = coco_entries(joints_of(person(20), "coco17"), track_id=1)
    for index in range(3, 17):
        entries[7]["keypoints"][3 * index + 2] = 0.0
    result = read(entries)
    assert "1 detection with fewer than 4 visible joints left out" in result.remarks
    assert result.clips.bounds.tolist() == [0, 20]  # the gap is filled
    with pytest.raises(DataError, match=r"nobody has 4 joints at min_confidence=0\.95 or above"):
        read(entries, min_confidence=0.95)


def test_cocos_flags_become_confidences(read, person, joints_of):
    flags = np.where(np.arange(17) == 9, 1.0, 2.0)  # the left wrist is occluded
    result = read(coco_entries(joints_of(person(), "coco17"), flags))
    skeleton = result.clips.skeleton
    assert result.clips.confidence[:, skeleton.index("lwrist")].unique().tolist() == [0.5]
    assert result.clips.confidence[:, skeleton.index("rwrist")].unique().tolist() == [1.0]
    assert any("COCO's flags" in remark for remark in result.remarks)


def test_scores_above_one_are_scaled_and_said(read, person, joints_of):
    scores = np.linspace(1.0, 4.0, 17)
    result = read(coco_entries(joints_of(person(30), "coco17"), scores))
    ankle = result.clips.skeleton.index("rankle")
    assert result.clips.confidence[0, ankle] == 1.0
    assert result.clips.confidence[0, result.clips.skeleton.index("nose")] == pytest.approx(0.25, rel=1e-3)
    assert "scores reach 4: divided by 4 and cut at 1" in result.remarks


def test_scores_a_little_above_one_are_cut(read, person, joints_of):
    entries = coco_entries(joints_of(person(30), "coco17"), 0.9)
    entries[0]["keypoints"][2] = 1.02
    result = read(entries)
    assert result.clips.confidence.max() == 1.0 and "scores reach 1.02: cut at 1" in result.remarks


def test_tracks_are_numbered_in_each_video_by_appearance():
    pose = np.random.default_rng(0).uniform(0, 100, (17, 2))
    places = np.array([500.0, 0.0, 500.0, 0.0, 900.0, 0.0])
    points = pose + np.stack((places, np.zeros(6)), 1)[:, None]
    video, frame = np.array([0, 0, 0, 0, 1, 1]), np.array([3, 4, 4, 3, 0, 0])
    numbers = track(points, np.ones((6, 17)), video, frame, 4, "here")
    assert numbers.tolist() == [1, 2, 1, 2, 1, 2]


def test_a_crowd_that_cannot_be_told_apart_is_refused():
    count = MOST_PEOPLE + 1
    points = np.zeros((count, 17, 2))
    frame = np.full(count, 9)
    with pytest.raises(DataError, match=rf"here: frame 9 holds {count} people; at most {MOST_PEOPLE}"):
        track(points, np.ones((count, 17)), np.zeros(count, dtype=np.int64), frame, 4, "here")


def test_far_frame_numbers_cost_no_memory(read, person, joints_of):
    poses = joints_of(person(5), "coco17")
    entries = coco_entries(poses) + coco_entries(poses, first=10**15)
    assert read(entries).clips.bounds.tolist() == [0, 5, 10]

"""Recordings to clips: what cannot be used is dropped and counted, what is left is cut where frames are missing."""

from __future__ import annotations

import numpy as np
import pytest

from poseda.data.clean import clean_recordings, thin_recording, thinning
from poseda.data.clips import LabelledClips, Provenance, UnlabelledClips
from poseda.data.recordings import Recording
from poseda.errors import DataError
from poseda.geometry.camera import Camera
from poseda.skeleton import get_skeleton

SKELETON = get_skeleton("h36m17")
PROVENANCE = Provenance("raw", "real", "ours", "metric", "gt")
CAMERA = Camera.create(fx=1000.0, fy=1000.0, cx=500.0, cy=500.0, width=1000, height=1000)


def recording(frames=6, name="S1/walk", fps=50.0, **changes):
    random = np.random.default_rng(3)
    poses = random.normal(0, 300, (frames, 17, 3)) + np.array([0, 0, 4000])
    given = {"poses": poses, "keypoints": poses[..., :2] / poses[..., 2:] * 1000 + 500, **changes}
    return Recording(name, "S1", "walk", CAMERA, fps, **given)


def clean(*recordings, fps=50.0):
    return clean_recordings(recordings, SKELETON, fps, PROVENANCE)


def test_good_frames_come_through_bit_for_bit():
    one, two = recording(), recording(4, "S1/run")
    clips, counts = clean(one, two)
    assert isinstance(clips, LabelledClips) and counts.read == 10 and not counts.dropped
    np.testing.assert_array_equal(clips.poses.numpy(), np.concatenate([one.poses, two.poses]).astype(np.float32))
    assert clips.bounds.tolist() == [0, 6, 10] and [s.name for s in clips.sequences] == ["S1/walk", "S1/run"]
    assert [s.camera for s in clips.sequences] == [0, 1] and clips.confidence.min() == 1


def test_unusable_frames_are_counted_by_their_first_reason_and_cut_the_sequence():
    one = recording(12)
    one.poses[1, 4, 1] = np.nan
    one.poses[4, :, 2] -= 9000.0
    one.poses[6, 2] = one.poses[6, 1]
    one.keypoints[8, 1:] = np.nan
    keep = np.ones(12, bool)
    keep[[10, 1]] = False
    clips, counts = clean(Recording(**{**one.__dict__, "keep": keep}))
    assert counts.dropped == {
        "called invalid by the data set": 2,
        "fewer than two keypoints": 1,
        "a joint is behind the camera": 1,
        "a bone has no length": 1,
    }
    assert clips.bounds.tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert [s.name for s in clips.sequences][:2] == ["S1/walk/piece0", "S1/walk/piece1"]


def test_missing_keypoints_become_confidence_zero_and_given_confidence_is_kept():
    one = recording(confidence=np.full((6, 17), 0.4))
    one.keypoints[2, 3] = np.nan
    clips, _ = clean(one)
    assert clips.confidence[2, 3] == 0 and clips.keypoints[2, 3].tolist() == [0, 0]
    assert clips.confidence[2, 4] == pytest.approx(0.4)


def test_rates_are_thinned_by_whole_numbers_only():
    clips, counts = clean(recording(5), fps=25.0)
    assert clips.num_frames == 3 and clips.fps == 25
    assert counts.dropped == {"between frames of the archive's rate": 2}
    assert thinning(29.97, 30.0, "") == 1
    with pytest.raises(DataError, match=r"S1/walk: 50 frames/s cannot be thinned to 30"):
        clean(recording(), fps=30.0)


def test_without_labels_they_are_unlabelled_clips_and_mixtures_are_refused():
    bare = recording(poses=None)
    clips, _ = clean(bare)
    assert type(clips) is UnlabelledClips
    with pytest.raises(DataError, match="some recordings have 3D and some have none"):
        clean(bare, recording())


def test_nothing_left_is_none_and_wrong_shapes_name_the_recording():
    assert clean(recording(keep=np.zeros(6, bool)))[0] is None
    with pytest.raises(DataError, match=r"S1/walk: poses has shape \(6, 16, 3\); expected \(6, 17, 3\) \(h36m17\)"):
        clean(recording(poses=np.ones((6, 16, 3))))


def test_a_thinned_recording_keeps_every_second_of_everything():
    one = recording(5, confidence=np.full((5, 17), 0.5), scored=np.arange(5) > 1)
    thin = thin_recording(one, 25.0)
    assert thin.fps == 25 and thin.keep is None and thin.scored.tolist() == [False, True, True]
    np.testing.assert_array_equal(thin.poses, one.poses[::2])

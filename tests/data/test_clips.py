"""Clips: what they refuse, and that selecting, thinning and converting keep frames with their owners."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poseda.data.clips import UnlabelledClips, concatenate
from poseda.errors import DataError
from poseda.skeleton import get_skeleton


def test_unlabelled_clips_have_no_poses(make_clips):
    target = make_clips().unlabelled()
    assert isinstance(target, UnlabelledClips)
    assert not hasattr(target, "poses")
    assert target.num_frames == 12


def test_labelled_clips_are_not_unlabelled_clips(make_clips):
    assert not isinstance(make_clips(), UnlabelledClips)


def test_a_missing_keypoint_is_stored_as_zero(make_clips):
    clips = make_clips()
    keypoints, confidence = clips.keypoints.clone(), clips.confidence.clone()
    keypoints[6, 3], confidence[6, 3] = float("nan"), 0.0
    cleaned = replace(clips, keypoints=keypoints, confidence=confidence)
    assert cleaned.keypoints[6, 3].tolist() == [0.0, 0.0]
    assert not cleaned.visible[6, 3] and cleaned.visible.sum() == 12 * 17 - 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("keypoints", float("nan"), r"clip1, frame 1 has a 2D keypoint that is not finite.*\(1 such"),
        ("poses", float("inf"), "clip1, frame 1 has a 3D joint that is not finite"),
        ("confidence", 1.5, r"clip1, frame 1 has a confidence outside \[0, 1\]"),
        ("confidence", float("nan"), r"clip1, frame 1 has a confidence outside \[0, 1\]"),
    ],
)
def test_a_bad_number_names_its_sequence_and_frame(make_clips, field, value, message):
    clips = make_clips()
    broken = getattr(clips, field).clone()
    broken[6, 2] = value
    with pytest.raises(DataError, match=message):
        replace(clips, **{field: broken})


def test_a_bone_of_length_zero_is_refused(make_clips):
    clips = make_clips()
    poses = clips.poses.clone()
    poses[9, 16] = poses[9, 15]
    with pytest.raises(DataError, match=r"clip2, frame 1 has a bone of length zero"):
        replace(clips, poses=poses)


def test_metres_and_people_behind_the_camera_are_refused(make_clips):
    clips = make_clips()
    with pytest.raises(DataError, match=r"millimetres"):
        replace(clips, poses=clips.poses / 1000)
    with pytest.raises(DataError, match=r"clip0, frame 0 has a joint behind the camera"):
        replace(clips, poses=-clips.poses)


def test_a_sequence_without_two_visible_joints_is_refused(make_clips):
    clips = make_clips()
    confidence = clips.confidence.clone()
    confidence[5:8, 1:] = 0.0
    with pytest.raises(DataError, match=r"clip1 has fewer than two visible joints in every frame"):
        replace(clips, confidence=confidence)
    confidence[6, 1] = 0.5  # one usable frame is enough: the others are not drawn
    replace(clips, confidence=confidence)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skeleton": get_skeleton("h36m16")}, "17 joints; the skeleton h36m16 has 16"),
        ({"keypoints": torch.zeros(0, 17, 2)}, "no frame"),
        ({"keypoints": torch.zeros(12, 17, 3)}, "expected \\(frames, joints, 2\\)"),
        ({"confidence": torch.ones(12, 16)}, "confidence has shape"),
        ({"poses": torch.ones(12, 16, 3)}, "poses have shape"),
        ({"bounds": torch.tensor([0, 5, 5, 12])}, "sequence number 1 holds no frame"),
        ({"bounds": torch.tensor([0, 5, 8, 13])}, "expected 0 to 12"),
        ({"bounds": torch.tensor([0, 5, 12])}, "3 sequences ask for"),
        ({"bounds": torch.tensor([0.0, 5.0, 8.0, 12.0])}, "int64"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make_clips, changes, message):
    with pytest.raises(DataError, match=message):
        make_clips(**changes)


def test_a_camera_that_is_not_there_is_refused(make_clips):
    clips = make_clips()
    with pytest.raises(DataError, match=r"clip1 uses camera 1; there are 1"):
        replace(clips, cameras=clips.cameras[:1])


def test_each_frame_has_its_sequences_camera(make_clips):
    clips = make_clips()
    assert clips.camera_index.tolist() == [0] * 5 + [1] * 3 + [0] * 4
    assert clips.cameras_at(torch.tensor([0, 6])).fx.tolist() == [1000.0, 1200.0]


def test_select_keeps_frames_with_their_sequences(make_clips):
    clips = make_clips()
    kept = clips.select(lambda sequence: sequence.subject != "B")
    assert [s.name for s in kept.sequences] == ["clip0", "clip2"]
    assert kept.bounds.tolist() == [0, 5, 9]
    assert torch.equal(kept.poses, torch.cat([clips.poses[:5], clips.poses[8:]]))
    assert kept.camera_index.tolist() == [0] * 9
    with pytest.raises(DataError, match=r"no sequence of made is left"):
        clips.select(lambda sequence: False)


def test_subsample_restarts_in_each_sequence(make_clips):
    clips = make_clips()
    thin = clips.subsample(2)
    assert torch.equal(thin.keypoints, clips.keypoints[[0, 2, 4, 5, 7, 8, 10]])
    assert thin.bounds.tolist() == [0, 3, 5, 7] and thin.fps == 25.0
    with pytest.raises(DataError, match=r"every=0"):
        clips.subsample(0)


@pytest.mark.parametrize("most", [1, 2, 5, 7, 11, 12, 99])
def test_limit_keeps_the_first_part_of_sequences(make_clips, most):
    clips = make_clips()
    short = clips.limit(most)
    assert short.num_frames == min(most, 12)
    for sequence, low, high in zip(short.sequences, short.bounds[:-1], short.bounds[1:], strict=True):
        start = int(clips.bounds[clips.sequences.index(sequence)])
        assert torch.equal(short.poses[low:high], clips.poses[start : start + int(high - low)])


def test_convert_takes_joints_by_name(make_clips):
    clips = make_clips()
    converted = clips.convert(get_skeleton("3dhp17"))
    head, wrist = converted.skeleton.index("head"), converted.skeleton.index("lwrist")
    assert torch.equal(converted.poses[:, head], clips.poses[:, 10])
    assert torch.equal(converted.keypoints[:, wrist], clips.keypoints[:, 13])
    assert torch.equal(converted.confidence[:, wrist], clips.confidence[:, 13])


def test_convert_gives_a_made_joint_the_least_confidence_and_hides_it_when_a_part_is_missing(make_clips):
    clips = make_clips()
    skeleton = get_skeleton("coco17")
    confidence = clips.confidence.clone()
    left, right = skeleton.index("lhip"), skeleton.index("rhip")
    confidence[0, left] = 0.0
    coco = UnlabelledClips(
        clips.keypoints,
        confidence,
        clips.bounds,
        clips.sequences,
        clips.cameras,
        skeleton,
        50.0,
        clips.provenance,
    )
    converted = coco.convert(get_skeleton("h36m17"))
    expected = torch.minimum(confidence[:, left], confidence[:, right])
    assert torch.equal(converted.confidence[:, 0], expected)
    assert converted.keypoints[0, 0].tolist() == [0.0, 0.0]
    middle = (coco.keypoints[1, left] + coco.keypoints[1, right]) / 2
    assert torch.allclose(converted.keypoints[1, 0], middle)


def test_concatenate_shifts_cameras_and_bounds(make_clips):
    first, second = make_clips(), make_clips(lengths=(2,), subjects="D")
    both = concatenate([first, second])
    assert both.bounds.tolist() == [0, 5, 8, 12, 14]
    assert both.sequences[-1].camera == 2 and len(both.cameras) == 4
    assert torch.equal(both.poses[12:], second.poses)
    with pytest.raises(DataError, match=r"differ in skeleton or frame rate"):
        concatenate([first, make_clips(fps=25.0)])


def test_clips_are_moved_whole(make_clips):
    moved = make_clips().to("meta")
    assert {t.device.type for t in (moved.keypoints, moved.poses, moved.bounds, moved.cameras.fx)} == {"meta"}

"""What a user may get wrong ends in one line that says where and what to do; cameras and their assumptions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from poseda.data.detections import DetectionOptions, read_detections
from poseda.errors import ConfigError, DataError, MissingDataError, PosedaError
from tests.data.detections.conftest import SIZE, coco_entries, flat, write

OPTIONS = DetectionOptions(**SIZE)


@pytest.fixture
def entries(person, joints_of):
    return coco_entries(joints_of(person(), "coco17"))


def refused(path, kind=DataError, options=OPTIONS, **more):
    """The one line that reading `path` ends in."""
    with pytest.raises(kind, **more) as caught:
        read_detections(path, options)
    assert "\n" not in str(caught.value) and isinstance(caught.value, PosedaError)
    return str(caught.value)


def test_a_camera_is_estimated_from_the_image_and_said(tmp_path, entries):
    read = read_detections(write(tmp_path / "a.json", entries), OPTIONS)
    camera = read.clips.cameras
    assert camera.fx.item() == camera.fy.item() == math.hypot(640, 480) == 800
    assert (camera.cx.item(), camera.cy.item(), camera.width.item(), camera.height.item()) == (320, 240, 640, 480)
    field = math.degrees(2 * math.atan(400 / 800))
    assert f"{field:.0f} degrees" in " ".join(read.remarks)
    assert read.clips.fps == 30
    assert "53 degrees" in read.clips.provenance.notes
    assert "frame rate unknown: taken as 30 frames a second (fps= says better)" in read.remarks


def test_a_camera_can_be_said(tmp_path, entries):
    options = DetectionOptions(**SIZE, focal=(700.0, 710.0), centre=(300.0, 250.0), fps=25.0)
    read = read_detections(write(tmp_path / "a.json", entries), options)
    camera = read.clips.cameras
    values = [value.item() for value in (camera.fx, camera.fy, camera.cx, camera.cy)]
    assert values == [700, 710, 300, 250] and read.clips.fps == 25 and read.remarks == ()
    one = read_detections(tmp_path / "a.json", DetectionOptions(**SIZE, focal=(700.0,))).clips.cameras
    assert one.fx.item() == one.fy.item() == 700


def test_the_size_of_the_image_is_asked_for(tmp_path, entries):
    path = write(tmp_path / "a.json", entries)
    said = refused(path, ConfigError, DetectionOptions(height=480))
    assert said.endswith("does not say how large the image is: give width= in pixels.")
    assert "give height=" in refused(path, ConfigError, DetectionOptions(width=640))


def test_a_wrong_size_is_noticed(tmp_path, entries):
    path = write(tmp_path / "a.json", entries)
    options = DetectionOptions(width=100, height=100)
    refused(path, options=options, match=r"136 of 136 keypoints lie outside the image of 100 x 100 px and reach")


def test_normalised_coordinates_are_refused(tmp_path):
    pose = np.random.default_rng(0).uniform(0, 1, (25, 2))
    for t in range(6):
        write(tmp_path / f"{t}.json", {"people": [{"pose_keypoints_2d": flat(pose)}]})
    refused(tmp_path, match=r"all keypoints lie in \[-2, 2\]; pixels are needed \(OpenPose: --keypoint_scale 0\)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": -5}, "width=-5: give a number of at least 0"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"min_frames": 0}, "min_frames=0: give a number of at least 1"),
        ({"max_gap": 1000}, "max_gap=1000: give a number of at most 250"),
        ({"min_confidence": 1.5}, "min_confidence=1.5"),
        ({"focal": (0.0,)}, r"focal=\[0.0\]"),
        ({"focal": (1.0, 2.0, 3.0)}, "focal="),
        ({"centre": (1.0,)}, r"centre=\[1.0\]: give cx and cy"),
        ({"construction": "gat"}, "Did you mean 'gast'"),
    ],
)
def test_options_are_checked_when_made(change, message):
    with pytest.raises(ConfigError, match=message):
        DetectionOptions(**{**SIZE, **change})


def test_an_unknown_skeleton_is_named(tmp_path, entries):
    path = write(tmp_path / "a.json", entries)
    with pytest.raises(ConfigError, match="Did you mean 'h36m17'"):
        read_detections(path, OPTIONS, "h36m71")
    with pytest.raises(DataError, match="3dhp28 cannot be made from coco17"):
        read_detections(path, OPTIONS, "3dhp28")


def test_nothing_there(tmp_path):
    refused(tmp_path, MissingDataError, match=r"no \.json file in this folder")
    refused(tmp_path / "none.json", MissingDataError, match="there is no such file or folder")


@pytest.mark.parametrize("value", [[], {}, [{"frame_id": 0, "instances": []}], {"people": []}])
def test_nobody_there(tmp_path, value):
    refused(write(tmp_path / "a.json", value), match="no person was detected in any frame")


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (3, "holds a value of type int"),
        ([1, 2, 3], "a list of 3, the first a value of type int"),
        ({"images": [], "annotations": []}, "an object with keys images, annotations"),
        ([{"box": [1, 2]}], "a list of 1, the first an object with keys box"),
        ({"a\nb": 1}, "an object with keys a b"),
    ],
)
def test_an_unknown_structure_lists_the_known_ones(tmp_path, value, seen):
    said = refused(write(tmp_path / "a.json", value))
    assert seen in said
    assert all(title in said for title in ("COCO results", "OpenPose", "AlphaPose", "MMPose", "VideoPose3D"))


def test_no_json_at_all(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\x00\xff not json")
    refused(tmp_path / "a.json", match=r"a\.json")


def test_mixed_layouts_name_the_entry(tmp_path, entries):
    entries[5]["keypoints"] = [1.0] * 78
    refused(write(tmp_path / "a.json", entries), match=r"entry 5: keypoints have 78 numbers, those of the first .* 51")


@pytest.mark.parametrize("bad", ["1.0", None, [1.0], 10**400])
def test_what_is_no_number_names_the_entry(tmp_path, entries, bad):
    entries[4]["keypoints"][7] = bad
    (tmp_path / "a.json").write_text(json.dumps(entries))
    refused(tmp_path / "a.json", match="entry 4: keypoints are no list of numbers")


@pytest.mark.parametrize(
    ("field", "bad", "message"),
    [
        ("keypoints", "abc", "entry 2: keypoints are no list of numbers"),
        ("keypoints", [], "entry 2: keypoints have 0 numbers"),
        ("image_id", None, "entry 2: the image is named by NoneType"),
        ("image_id", 1.5, "entry 2: image number 1.5 is not a whole number"),
        ("image_id", 10**30, "entry 2: image number"),
        ("image_id", "9" * 40 + ".jpg", "entry 2: image number"),
        ("image_id", float("inf"), "entry 2: image number inf"),
        ("track_id", "seven", "entry 2: the person is named by str"),
    ],
)
def test_odd_fields_name_the_entry(tmp_path, entries, field, bad, message):
    entries[2][field] = bad
    refused(write(tmp_path / "a.json", entries), match=message)


def test_an_entry_that_is_no_object(tmp_path, entries):
    entries[1] = 5
    refused(write(tmp_path / "a.json", entries), match="entry 1: .*expected a dictionary")


def test_numbers_that_are_no_triplets(tmp_path):
    path = write(tmp_path / "a.json", [{"image_id": 1, "keypoints": [1.0] * 50}])
    refused(path, match="entry 0: 50 numbers are not x, y, confidence for each joint")


def test_3d_keypoints_are_refused(tmp_path):
    value = [{"keypoints": [[1.0, 2.0, 3.0]] * 17, "keypoint_scores": [1.0] * 17}]
    refused(write(tmp_path / "a.json", value), match=r"keypoints have 3 numbers each; 2D keypoints \(x, y\)")


def test_scores_that_do_not_fit(tmp_path):
    value = [{"keypoints": [[1.0, 2.0]] * 17, "keypoint_scores": [1.0] * 16}]
    refused(write(tmp_path / "a.json", value), match="16 scores for 17 keypoints")
    del value[0]["keypoint_scores"]
    refused(write(tmp_path / "b.json", [{"frame_id": 0, "instances": value}]), match="instance 0: scores are no list")


def test_two_videos_in_one_folder_are_not_mixed(tmp_path, entries):
    write(tmp_path / "a.json", entries)
    write(tmp_path / "b.json", entries)
    refused(tmp_path, match=r"b\.json: entry 0: image 0 is in .*a\.json too; read each video's file alone")


def custom(path, positions, metadata):
    np.savez(path, positions_2d=positions, metadata=metadata)
    return path


def test_videopose3d_files_of_a_data_set_are_pointed_elsewhere(tmp_path):
    path = custom(tmp_path / "d.npz", {"S1": {"Walking": [np.ones((5, 17, 2))]}}, {"layout_name": "h36m"})
    refused(path, match=r"positions_2d\['S1'\]: no 'custom' but Walking; .* read by prepare")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((5, 17, 4)), r"\(5, 17, 4\); expected \(frames, joints, 2 or 3\)"),
        (np.ones((0, 17, 2)), "positions_2d holds no frame"),
        (np.ones((5, 17)), r"\['custom'\]\[0\]"),
        (np.array([["a"]]), r"\['custom'\]\[0\]"),
    ],
)
def test_odd_videopose3d_arrays(tmp_path, array, message):
    refused(custom(tmp_path / "d.npz", {"v": {"custom": [array]}}, {}), match=message)


def test_odd_videopose3d_sizes(tmp_path, person, joints_of):
    poses = {"v": {"custom": [joints_of(person(), "coco17")]}}
    path = custom(tmp_path / "d.npz", poses, {"video_metadata": {"v": {"w": -640, "h": 480}}})
    refused(path, match=r"video_metadata\['v'\]: w=-640, h=480")
    path = custom(tmp_path / "e.npz", poses, {"layout_name": "coco"})
    refused(path, ConfigError, DetectionOptions(), match="give width= in pixels")


def test_another_npz_is_no_detection(tmp_path):
    np.savez(tmp_path / "x.npz", weights=np.ones(3))
    refused(tmp_path / "x.npz", match="holds arrays weights, no known detections")

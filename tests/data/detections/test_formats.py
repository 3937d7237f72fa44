"""Each published layout, written from known people, gives these people back by joint name."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from poseda.data.detections import DetectionOptions, list_formats, read_detections
from poseda.data.detections.found import Document
from poseda.skeleton import get_skeleton
from tests.data.detections.conftest import SIZE, coco_entries, flat, write

OPTIONS = DetectionOptions(**SIZE)
FEET = ("head", "thorax", "pelvis")


def same(clips, expected):
    """Clips hold these joints, (T, 17, 2), to float precision."""
    assert clips.skeleton == get_skeleton("h36m17")
    torch.testing.assert_close(clips.keypoints.double(), torch.from_numpy(expected), rtol=0, atol=1e-3)


def npz(path, positions, metadata):
    np.savez_compressed(path, positions_2d=positions, metadata=metadata)
    return path


def test_all_formats_are_found_by_their_files():
    assert list_formats() == ("alphapose", "coco", "mmpose", "openpose", "videopose3d")


ROW = [5.0, 6.0, 0.5] * 17
NESTED = {"keypoints": [[5.0, 6.0]] * 17, "keypoint_scores": [0.5] * 17}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coco", [{"image_id": 1, "category_id": 1, "keypoints": ROW, "score": 0.5}]),
        ("alphapose", [{"image_id": "1.jpg", "category_id": 1, "keypoints": ROW, "score": 0.5}]),
        ("alphapose", [{"image_id": 1, "category_id": 1, "keypoints": ROW, "idx": 0}]),
        ("alphapose", {"1.jpg": {"version": "AlphaPose v0.3", "people": [{"pose_keypoints_2d": ROW}]}}),
        ("alphapose", {"version": "AlphaPose v0.3", "bodies": [{"joints": ROW}]}),
        ("openpose", {"version": 1.3, "people": [{"pose_keypoints_2d": ROW}]}),
        ("openpose", {"version": 1.3, "people": []}),
        ("mmpose", [{"frame_id": 0, "instances": []}]),
        ("mmpose", {"meta_info": {}, "instance_info": []}),
        ("mmpose", [NESTED]),
        ("mmpose", [{**NESTED, "image_id": 3}]),
    ],
)
def test_each_structure_is_that_of_one_format(name, value):
    formats = [importlib.import_module(f"poseda.data.detections.{known}") for known in list_formats()]
    theirs = [form.__name__.rpartition(".")[2] for form in formats if form.recognises(Document("a", "a", value))]
    assert theirs == [name]


def test_coco_results(tmp_path, person, joints_of, h36m):
    named = person()
    path = write(tmp_path / "anything.json", coco_entries(joints_of(named, "coco17"), first=40))
    read = read_detections(path, OPTIONS)
    same(read.clips, h36m(named))
    assert read.recognised == "COCO results, COCO-17: 8 frames, one person in a frame, 1 track (linked by nearness)"
    assert [(s.name, s.subject) for s in read.clips.sequences] == [("anything/person1", "anything/person1")]
    provenance = read.clips.provenance
    assert (provenance.kind, provenance.keypoints, provenance.licence) == ("real", "COCO results", "the user's own")
    torch.testing.assert_close(read.clips.confidence, torch.full((8, 17), 0.9))


@pytest.mark.parametrize(
    ("layout", "extra", "title", "own"),
    [
        ("coco17", 0, "COCO-17", ()),
        ("halpe26", 0, "Halpe-26", FEET),
        ("halpe26", 110, "Halpe-26 of Halpe-136", FEET),
    ],
)
def test_alphapose_with_tracks(tmp_path, person, joints_of, h36m, layout, extra, title, own):
    people = [person(x=150.0), person(x=450.0, speed=-2.0)]
    entries = []
    for t in range(8):
        for number, named in enumerate(people):
            pose = np.concatenate((joints_of(named, layout)[t], np.full((extra, 2), 7.0)))
            entry = {"image_id": f"{t}.jpg", "category_id": 1, "keypoints": flat(pose), "score": 2.9}
            entries.append({**entry, "box": [1.0, 2.0, 3.0, 4.0], "idx": [[float(number + 3)]] if number else 3})
    read = read_detections(write(tmp_path / "alphapose-results.json", entries), OPTIONS)
    same(read.clips, np.concatenate([h36m(named, own) for named in people]))
    assert read.clips.subjects == ("alphapose-results/person3", "alphapose-results/person4")
    assert read.recognised.startswith(f"AlphaPose results, {title}: 8 frames, up to 2 people in a frame, 2 tracks")
    assert "numbered by the detector" in read.recognised


def test_halpe_turns_into_h36m_by_motionbert_s_index_list(tmp_path):
    halpe = np.random.default_rng(0).uniform(50, 400, (26, 2))
    entries = [{"image_id": f"{t}.jpg", "keypoints": flat(halpe), "score": 1.0, "idx": 1} for t in range(5)]
    rows = [19, 12, 14, 16, 11, 13, 15, 18, 18, 0, 17, 5, 7, 9, 6, 8, 10]
    expected = halpe[rows]
    expected[7] = (halpe[18] + halpe[19]) / 2
    same(read_detections(write(tmp_path / "a.json", entries), OPTIONS).clips, np.stack([expected] * 5))


@pytest.mark.parametrize("key", ["bodies", "people"])
@pytest.mark.parametrize("separate", [True, False])
def test_alphapose_in_the_form_of_cmu_or_openpose(tmp_path, person, joints_of, h36m, key, separate):
    named = person(12)
    row = {"bodies": "joints", "people": "pose_keypoints_2d"}[key]
    frames = {
        f"{t}.jpg": {"version": "AlphaPose v0.3", key: [{row: flat(pose)}]}
        for t, pose in enumerate(joints_of(named, "coco18"))
    }
    path = tmp_path if separate else write(tmp_path / "r.json", frames)
    if separate:
        for name, frame in frames.items():
            write(tmp_path / name.replace(".jpg", ".json"), frame)
    read = read_detections(path, OPTIONS)
    same(read.clips, h36m(named, ("thorax",)))
    assert "OpenPose's COCO-18: 12 frames" in read.recognised


@pytest.mark.parametrize(("layout", "own"), [("body25", ("thorax", "pelvis")), ("coco18", ("thorax",))])
def test_openpose_folder(tmp_path, person, joints_of, h36m, layout, own):
    named = person(11)
    for t, pose in enumerate(joints_of(named, layout)):
        body = {"person_id": [-1], "pose_keypoints_2d": flat(pose), "face_keypoints_2d": [], "pose_keypoints_3d": []}
        write(tmp_path / f"walk_2_{t:012d}_keypoints.json", {"version": 1.3, "people": [body]})
    write(tmp_path / f"walk_2_{11:012d}_keypoints.json", {"version": 1.3, "people": []})
    only_face = {"person_id": [-1], "pose_keypoints_2d": [], "face_keypoints_2d": [1.0, 2.0, 0.5]}
    write(tmp_path / f"walk_2_{12:012d}_keypoints.json", {"version": 1.3, "people": [only_face]})
    read = read_detections(tmp_path, OPTIONS)
    same(read.clips, h36m(named, own))
    assert "13 frames, one person in a frame, 1 track" in read.recognised
    assert read.clips.subjects == ("walk_2/person1",)


def test_openpose_absent_joints_are_missing(tmp_path, person, joints_of):
    poses = joints_of(person(), "body25")
    for t, pose in enumerate(poses):
        row = flat(pose)
        row[3 * 7 : 3 * 8] = [0, 0, 0]  # left wrist
        write(tmp_path / f"{t}.json", {"people": [{"pose_keypoints_2d": row}]})
    read = read_detections(tmp_path, OPTIONS)
    wrist = get_skeleton("h36m17").index("lwrist")
    assert (read.clips.confidence == 0).nonzero()[:, 1].unique().tolist() == [wrist]
    assert (read.clips.keypoints[:, wrist] == 0).all()
    assert "8 of 200 keypoints below 0.2 left out" in read.remarks


def instances(pose, scores=0.9):
    """What MMPose's split_instances gives: boxes are nested once more."""
    return {
        "keypoints": pose.tolist(),
        "keypoint_scores": [scores] * len(pose),
        "bbox": [[0.0, 0.0, 9.0, 9.0]],
        "bbox_score": 0.9,
    }


def test_mmpose_inferencer_video(tmp_path, person, joints_of, h36m):
    named = person()
    frames = [{"frame_id": t, "instances": [instances(p)]} for t, p in enumerate(joints_of(named, "coco17"))]
    read = read_detections(write(tmp_path / "clip.json", frames), OPTIONS)
    same(read.clips, h36m(named))
    assert read.recognised.startswith("MMPose predictions, COCO-17: 8 frames")


def test_mmpose_image_files_in_a_folder(tmp_path, person, joints_of, h36m):
    named = person()
    write(tmp_path / "img_000.json", [])
    for t, pose in enumerate(joints_of(named, "coco17"), start=1):
        write(tmp_path / f"img_{t:03d}.json", [instances(pose)])
    read = read_detections(tmp_path, OPTIONS)
    same(read.clips, h36m(named))
    assert "9 frames" in read.recognised


def named(text):
    """Names as MMPose's dataset_info has them."""
    return text.split()


H36M_NAMES = named(
    "root right_hip right_knee right_foot left_hip left_knee left_foot spine thorax neck_base head left_shoulder "
    "left_elbow left_wrist right_shoulder right_elbow right_wrist"
)
MPI3D_NAMES = named(
    "head_top neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
    "right_ankle left_hip left_knee left_ankle root spine head"
)
HALPE_NAMES = named(
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle head neck hip left_big_toe "
    "right_big_toe left_small_toe right_small_toe left_heel right_heel"
)
MPII_NAMES = named(
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top right_wrist "
    "right_elbow right_shoulder left_shoulder left_elbow left_wrist"
)


@pytest.mark.parametrize(
    ("names", "skeleton", "own", "title"),
    [
        (H36M_NAMES, "h36m17", (*FEET, "spine"), "Human3.6M-17 joints by name"),
        (MPI3D_NAMES, "3dhp17", (*FEET, "spine"), "Human3.6M-17 joints by name"),
        (HALPE_NAMES, "halpe26", FEET, "Halpe-26 joints by name"),
        (MPII_NAMES, "mpii16", FEET, "MPII-16 joints by name"),
    ],
)
@pytest.mark.parametrize("inverse", [True, False])
def test_mmpose_joint_names_are_believed(tmp_path, person, joints_of, h36m, names, skeleton, own, title, inverse):
    named = person()
    numbers = {str(i): name for i, name in enumerate(names)}
    meta = {"keypoint_name2id": {n: int(i) for i, n in numbers.items()}} if inverse else {"keypoint_id2name": numbers}
    frames = [{"frame_id": t + 1, "instances": [instances(p)]} for t, p in enumerate(joints_of(named, skeleton))]
    path = write(tmp_path / "results.json", {"meta_info": meta, "instance_info": frames})
    read = read_detections(path, OPTIONS)
    same(read.clips, h36m(named, own))
    assert title in read.recognised


def test_mmpose_demo_of_one_image(tmp_path, person, joints_of, h36m):
    named = person(1)
    value = {"meta_info": {}, "instance_info": [instances(joints_of(named, "coco17")[0])]}
    read = read_detections(write(tmp_path / "photo.json", value), DetectionOptions(**SIZE, min_frames=1))
    same(read.clips, h36m(named))


def test_videopose3d_custom(tmp_path, person, joints_of, h36m):
    first, second = person(9), person(6, x=900.0, y=500.0)
    positions = {
        "one": {"custom": [joints_of(first, "coco17").astype("float32")]},
        "two": {"custom": [joints_of(second, "coco17").astype("float32")]},
    }
    metadata = {
        "layout_name": "coco",
        "num_joints": 17,
        "keypoints_symmetry": [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]],
        "video_metadata": {"one": {"w": 640, "h": 480}, "two": {"w": 1920, "h": 1080}},
    }
    read = read_detections(npz(tmp_path / "data_2d_custom_mine.npz", positions, metadata))
    same(read.clips, np.concatenate((h36m(first), h36m(second))))
    assert [s.name for s in read.clips.sequences] == ["one/person0", "two/person0"]
    assert read.clips.cameras.width.tolist() == [640, 1920] and [s.camera for s in read.clips.sequences] == [0, 1]
    assert read.clips.bounds.tolist() == [0, 9, 15] and (read.clips.confidence == 1).all()
    assert "the file holds no scores: every keypoint in it counts as sure" in read.remarks


def test_another_joint_set_can_be_asked_for(tmp_path, person, joints_of):
    named = person()
    path = write(tmp_path / "a.json", coco_entries(joints_of(named, "coco17")))
    for skeleton, construction in (("coco17", "gast"), ("h36m16", "mmpose")):
        options = DetectionOptions(**SIZE, construction=construction)
        clips = read_detections(path, options, skeleton).clips
        assert clips.skeleton.name == skeleton
        torch.testing.assert_close(
            clips.keypoints[:, clips.skeleton.index("lknee")].double(),
            torch.from_numpy(named["lknee"]),
            rtol=0,
            atol=1e-3,
        )


def test_images_of_several_series_stay_apart(tmp_path, person, joints_of):
    poses = joints_of(person(), "coco17")
    entries = [
        {"image_id": f"{series}/frame_{t:04d}.png", "keypoints": flat(p), "score": 1.0}
        for series in ("left", "right")
        for t, p in enumerate(poses)
    ]
    read = read_detections(write(tmp_path / "a.json", entries), OPTIONS)
    assert read.clips.subjects == ("left/frame/person1", "right/frame/person1")


def test_the_same_in_any_order(tmp_path, person, joints_of):
    entries = coco_entries(joints_of(person(), "coco17")) + coco_entries(joints_of(person(x=400.0), "coco17"))
    one = read_detections(write(tmp_path / "a.json", entries), OPTIONS).clips
    other = read_detections(write(tmp_path / "b.json", entries[7::-1] + entries[:7:-1]), OPTIONS).clips
    assert torch.equal(one.keypoints, other.keypoints) and torch.equal(one.bounds, other.bounds)

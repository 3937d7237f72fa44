"""3DPW in its published layouts, made from known bodies, poses and cameras."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.data.clean import clean_recordings
from poseda.data.clips import Provenance
from poseda.data.raw._3dpw import open_raw
from poseda.data.raw._3dpw.rows import published_cameras
from poseda.data.recordings import RawOptions
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.skeleton import get_skeleton
from tests.data.smpl_bodies import SPIN_ORDER, dumps_python2, h36m_rows, make_body, pose_h36m, write_body

H36M = get_skeleton("h36m17")
FRAMES = 5
BODIES = {"f": make_body(seed=1), "m": make_body(seed=2)}
ROWS = h36m_rows(BODIES["f"])
PORTRAIT = np.array([[1961.853, 0, 540], [0, 1969.231, 960], [0, 0, 1.0]])
COCO18 = [
    "nose", "neck", "rshoulder", "relbow", "rwrist", "lshoulder", "lelbow", "lwrist", "rhip", "rknee", "rankle",
    "lhip", "lknee", "lankle", "reye", "leye", "rear", "lear",
]  # fmt: skip


def write_smpl(folder):
    """A folder with both body models and SPIN's regressor, legs left first."""
    write_body(folder / "basicModel_f_lbs_10_207_0_v1.0.0.pkl", BODIES["f"])
    write_body(folder / "basicmodel_m_lbs_10_207_0_v1.0.0.pkl", BODIES["m"])
    np.save(folder / "J_regressor_h36m.npy", ROWS[SPIN_ORDER])
    return str(folder)


@pytest.fixture
def smpl(tmp_path):
    return write_smpl(tmp_path / "smpl")


def walking(rng, frames=FRAMES):
    """Poses (T, 72) of somebody upright, whose knees are bent and who looks anywhere."""
    poses = rng.normal(0, 0.1, (frames, 72))
    poses[:, [3, 6]] = rng.uniform(-0.8, 0.1, (frames, 2))
    poses[:, [12, 15]] = rng.uniform(0.2, 1.2, (frames, 2))
    upright = Rotation.from_rotvec([np.pi, 0, 0])  # the camera's y points down
    poses[:, :3] = (upright * Rotation.from_rotvec(rng.uniform(-3, 3, (frames, 1)) * [0, 1, 0])).as_rotvec()
    return poses


def sequence(name, genders=("f", "m"), matrix=PORTRAIT, seed=0):
    """The fields of a sequence file, and what must come of each person: (T, 17, 3) mm in the camera."""
    rng = np.random.default_rng(seed)
    extrinsics = np.tile(np.eye(4), (FRAMES, 1, 1))
    extrinsics[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 1, (FRAMES, 3))).as_matrix()
    extrinsics[:, :3, 3] = rng.normal(0, 3, (FRAMES, 3))
    fields = {"sequence": name, "cam_poses": extrinsics, "cam_intrinsics": matrix, "genders": list(genders)}
    fields |= {key: [] for key in ("poses", "trans", "betas", "poses2d", "campose_valid", "jointPositions")}
    wanted = []
    for person, gender in enumerate(genders):
        seen = walking(rng)
        place = rng.uniform([-0.5, -0.3, 4 + person], [0.5, 0.3, 5 + person], (FRAMES, 3))
        betas = rng.normal(0, 1, 10)
        wanted.append(1000 * (pose_h36m(BODIES[gender], seen, betas, ROWS) + place[:, None]))
        # The body turns about its own root, not about its origin: the translation in the world makes up for it.
        back, root = extrinsics[:, :3, :3].transpose(0, 2, 1), _root(BODIES[gender], betas)
        world = seen.copy()
        world[:, :3] = Rotation.from_matrix(back @ Rotation.from_rotvec(seen[:, :3]).as_matrix()).as_rotvec()
        fields["poses"].append(world)
        fields["trans"].append(np.einsum("tab,tb->ta", back, place + root - extrinsics[:, :3, 3]) - root)
        fields["betas"].append(np.r_[betas, rng.normal(size=290)] if person else betas)
        fields["poses2d"].append(rng.uniform(1, 1000, (FRAMES, 3, 18)))
        fields["campose_valid"].append(np.arange(FRAMES) != 1)
        fields["jointPositions"].append(np.zeros((FRAMES, 72)))
    return fields, wanted


def _root(body, betas):
    return body["J_regressor"][0] @ (body["v_template"] + body["shapedirs"] @ betas)


def write_sequences(folder, **changes):
    """One sequence in each of train, validation and test; returns what must come of each."""
    wanted, names = {}, {"train": "courtyard_box_00", "validation": "stairs_01", "test": "walk_00"}
    for seed, (part, name) in enumerate(names.items()):
        fields, wanted[part] = sequence(name, seed=seed)
        (folder / "sequenceFiles" / part).mkdir(parents=True)
        (folder / "sequenceFiles" / part / f"{name}.pkl").write_bytes(dumps_python2(fields | changes))
    return wanted


def project(poses, matrix=PORTRAIT):
    homogeneous = poses / poses[..., 2:]
    return (homogeneous @ matrix.T)[..., :2]


def test_sequence_files_give_the_known_poses_of_every_person(tmp_path, smpl):
    wanted = write_sequences(tmp_path)
    data = open_raw(tmp_path, RawOptions(body_model=smpl))
    assert data.recognised == (
        "3DPW sequenceFiles (train 1, validation 1, test 1 sequences), SMPL with J_regressor_h36m.npy (left leg first)"
    )
    assert [(unit.name, unit.split) for unit in data.units] == [
        ("train/courtyard_box_00", "train"), ("validation/stairs_01", "train"), ("test/walk_00", "test")
    ]  # fmt: skip
    assert (data.skeleton, data.fps, data.keypoints, data.expected) == (H36M, 30.0, "gt", None)
    subjects = {}
    for unit, expected in zip(data.units, wanted.values(), strict=True):
        recordings = list(unit.read())
        subjects[unit.name] = {recording.subject for recording in recordings}
        name = unit.name.partition("/")[2]
        assert [recording.name for recording in recordings] == [f"{name}/person0", f"{name}/person1"]
        for recording, poses in zip(recordings, expected, strict=True):
            np.testing.assert_allclose(recording.poses, poses, atol=1e-8)
            np.testing.assert_allclose(recording.keypoints, project(poses), atol=1e-8)
            assert recording.keep.tolist() == [True, False, True, True, True]
            assert (float(recording.camera.width[0]), float(recording.camera.height[0])) == (1080, 1920)
    assert len(set.union(*subjects.values())) == 6
    assert recordings[0].action == "walk"


def test_sequences_pass_the_cleaning_and_lose_their_invalid_frames(tmp_path, smpl):
    wanted = write_sequences(tmp_path)
    data = open_raw(tmp_path / "sequenceFiles", RawOptions(body_model=smpl))
    provenance = Provenance("3dpw", "real", data.licence, "metric", "gt")
    clips, counts = clean_recordings(data.units[2].read(), data.skeleton, data.fps, provenance)
    assert counts.dropped == {"called invalid by the data set": 2}
    kept = np.concatenate([poses[[0, 2, 3, 4]] for poses in wanted["test"]])
    np.testing.assert_allclose(clips.poses.numpy(), kept, atol=1e-3)


def test_landscape_is_told_by_the_principal_point(tmp_path, smpl):
    matrix = np.array([[1969.231, 0, 960], [0, 1961.853, 540], [0, 0, 1.0]])
    write_sequences(tmp_path, cam_intrinsics=matrix)
    recording = next(iter(open_raw(tmp_path, RawOptions(body_model=smpl)).units[0].read()))
    assert (float(recording.camera.width[0]), float(recording.camera.height[0])) == (1920, 1080)


def test_detections_are_mapped_by_name(tmp_path, smpl):
    write_sequences(tmp_path)
    fields, _ = sequence("walk_00", seed=2)
    found = fields["poses2d"][0]
    found[:, 2] = np.random.default_rng(0).uniform(0.2, 1, (FRAMES, 18))
    found[0, :, COCO18.index("lwrist")] = 0
    (tmp_path / "sequenceFiles" / "test" / "walk_00.pkl").write_bytes(dumps_python2(fields))
    data = open_raw(tmp_path, RawOptions(body_model=smpl, keypoints="openpose"))
    assert data.keypoints == "openpose"
    recording = next(iter(data.units[2].read()))
    by_name = dict(zip(COCO18, np.moveaxis(found, 2, 0), strict=True))
    for joint in ("rhip", "rknee", "rankle", "lhip", "lelbow", "rshoulder", "rwrist", "nose"):
        np.testing.assert_array_equal(recording.keypoints[:, H36M.index(joint)], by_name[joint][:, :2])
        np.testing.assert_array_equal(recording.confidence[:, H36M.index(joint)], by_name[joint][:, 2])
    thorax = (by_name["lshoulder"] + by_name["rshoulder"])[:, :2] / 2
    np.testing.assert_allclose(recording.keypoints[:, H36M.index("thorax")], thorax)
    assert np.isnan(recording.keypoints[0, H36M.index("lwrist")]).all()
    assert recording.confidence[0, H36M.index("lwrist")] == 0


def test_without_the_regressor_it_stops(tmp_path, smpl):
    write_sequences(tmp_path)
    (tmp_path / "smpl" / "J_regressor_h36m.npy").unlink()
    with pytest.raises(MissingDataError, match=r"no J_regressor_h36m\*\.npy for this SMPL beside .*: put SPIN's"):
        open_raw(tmp_path, RawOptions(body_model=smpl))


def test_mistakes_end_in_one_line(tmp_path, smpl):
    with pytest.raises(MissingDataError, match="no 3DPW there; looked for sequenceFiles"):
        open_raw(tmp_path, RawOptions(body_model=smpl))
    write_sequences(tmp_path)
    with pytest.raises(ConfigError, match="body_model=<your SMPL file"):
        open_raw(tmp_path, RawOptions())
    with pytest.raises(ConfigError, match="keypoints=hrnet: 3DPW has gt and openpose"):
        open_raw(tmp_path, RawOptions(body_model=smpl, keypoints="hrnet"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trans": [np.zeros((2, 3))] * 2}, r"walk_00\.pkl: key trans, person 0: is float64 \(2, 3\); expected"),
        ({"betas": [np.zeros(10)]}, r"key betas: no person 1; it has 1"),
        ({"cam_poses": np.zeros((FRAMES, 3, 4))}, "key cam_poses: is float64"),
        ({"cam_intrinsics": np.zeros((3, 3))}, "key cam_intrinsics: focal lengths and principal point"),
    ],
)
def test_wrong_fields_are_named(tmp_path, smpl, changes, said):
    write_sequences(tmp_path, **changes)
    with pytest.raises(DataError, match=said):
        list(open_raw(tmp_path, RawOptions(body_model=smpl)).units[2].read())


def test_a_missing_field_is_named(tmp_path, smpl):
    fields, _ = sequence("a")
    del fields["campose_valid"]
    (tmp_path / "sequenceFiles" / "test").mkdir(parents=True)
    (tmp_path / "sequenceFiles" / "test" / "a.pkl").write_bytes(dumps_python2(fields))
    with pytest.raises(DataError, match=r"a\.pkl: no key campose_valid"):
        list(open_raw(tmp_path, RawOptions(body_model=smpl)).units[0].read())


BOX_JOINTS = [i for i, name in enumerate(H36M.joints) if name[0] in "lr" or name == "nose"]


def spin_rows(name, frames, gender, camera, seed):
    """Rows of SPIN's file for one person, and the absolute poses that filled their boxes."""
    rng = np.random.default_rng(seed)
    pose, betas = walking(rng, len(frames)), rng.normal(0, 1, 10)
    middle = 0.25 if camera else 0.0
    place = rng.uniform([middle, -0.2, 4], [middle + 0.2, 0.2, 5], (len(frames), 3))
    poses = 1000 * (pose_h36m(BODIES[gender], pose, betas, ROWS) + place[:, None])
    pixels = published_cameras()[camera].project(torch.from_numpy(poses)[None])[0].numpy()[:, BOX_JOINTS]
    low, high = pixels.min(1), pixels.max(1)
    rows = {
        "imgname": [f"imageFiles/{name}/image_{frame:05d}.jpg" for frame in frames],
        "center": (low + high) / 2,
        "scale": 1.2 * (high - low).max(-1) / 200,
        "pose": pose,
        "shape": np.tile(betas, (len(frames), 1)),
        "gender": [gender] * len(frames),
    }
    return rows, poses


def test_spins_rows_give_exact_relative_poses_where_the_box_is(tmp_path, smpl):
    given = [
        ("a_00", [3, 4, 7, 8], "f", 0, 1), ("a_00", [3, 4, 5], "m", 0, 2), ("b_01", [6, 7], "f", 1, 3),
    ]  # fmt: skip
    parts = [spin_rows(*row) for row in given]
    np.savez(tmp_path / "3dpw_test.npz", **{k: np.concatenate([rows[k] for rows, _ in parts]) for k in parts[0][0]})
    data = open_raw(tmp_path / "3dpw_test.npz", RawOptions(body_model=smpl))
    assert data.recognised == "SPIN's 3dpw_test.npz, SMPL with J_regressor_h36m.npy (left leg first)"
    assert data.expected == {"test": 35515}
    assert "the root stands where the person fills SPIN's box" in data.notes
    recordings = list(data.units[0].read())
    assert [recording.name for recording in recordings] == [
        "a_00/person0/3", "a_00/person0/7", "a_00/person1/3", "b_01/person0/6"
    ]  # fmt: skip
    poses = np.concatenate([recording.poses for recording in recordings])
    wanted = np.concatenate([known for _, known in parts])
    np.testing.assert_allclose(poses - poses[:, :1], wanted - wanted[:, :1], atol=1e-8)
    np.testing.assert_allclose(poses[:, 0], wanted[:, 0], atol=0.5)
    assert [float(recording.camera.width[0]) for recording in recordings] == [1080, 1080, 1080, 1920]
    np.testing.assert_allclose(recordings[0].keypoints, project(recordings[0].poses), atol=1e-8)


def test_spins_image_names_need_a_number(tmp_path, smpl):
    rows, _ = spin_rows("a_00", [1], "f", 0, 1)
    np.savez(tmp_path / "3dpw_test.npz", **rows | {"imgname": ["imageFiles/a_00/first.jpg"]})
    with pytest.raises(DataError, match=r"key imgname, row 0: 'imageFiles/a_00/first\.jpg' has no frame number"):
        list(open_raw(tmp_path, RawOptions(body_model=smpl)).units[0].read())
    with pytest.raises(ConfigError, match="only 3DPW's sequenceFiles hold detections"):
        open_raw(tmp_path, RawOptions(body_model=smpl, keypoints="openpose"))


LEGS_LEFT = [0, 4, 5, 6, 1, 2, 3, *range(7, 16)]
BOTH_SWAPPED = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 13, 14, 15, 10, 11, 12]


def sixteen_joints(seed):
    """Poses (T, 16, 3) mm in the camera, and the px of the upright and then of the lying phone."""
    rng = np.random.default_rng(seed)
    place = np.array([[0.1, 0.1, 4.0]]) + np.arange(2 * FRAMES)[:, None] * 0.01
    pose = np.repeat(walking(rng, 2), FRAMES, 0)
    poses = np.delete(1000 * (pose_h36m(BODIES["m"], pose, np.zeros(10), ROWS) + place[:, None]), 9, 1)
    halves = (poses[:FRAMES], poses[FRAMES:])
    pixels = [
        published_cameras()[index].project(torch.from_numpy(half)[None])[0].numpy() for index, half in enumerate(halves)
    ]
    return poses, np.concatenate(pixels)


def screen(pixels):
    width = np.repeat([1080.0, 1920.0], FRAMES)[:, None]
    height = np.repeat([1920.0, 1080.0], FRAMES)[:, None]
    return np.stack([pixels[..., 0] / width * 2 - 1, pixels[..., 1] / width * 2 - height / width], -1)


@pytest.mark.parametrize("order", [LEGS_LEFT, BOTH_SWAPPED, list(range(16))])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_adaptposes_rows_by_measured_sides(tmp_path, order, normalised, relative):
    for seed, part in enumerate(("train", "test")):
        poses, pixels = sixteen_joints(seed)
        stored = (poses - poses[:, :1] if relative else poses) / 1000
        points = screen(pixels) if normalised else pixels
        np.savez(tmp_path / f"data_3dpw_gt_{part}.npz", positions_3d=stored[:, order], positions_2d=points[:, order])
    data = open_raw(tmp_path, RawOptions())
    first = "right" if order == list(range(16)) else "left"
    assert data.recognised == (
        f"AdaptPose's data_3dpw_gt_test.npz ({first} leg first), data_3dpw_gt_train.npz ({first} leg first)"
    )
    assert [unit.split for unit in data.units] == ["test", "train"]
    assert data.skeleton == get_skeleton("h36m16")
    recordings = list(data.units[0].read())
    assert [float(recording.camera.width[0]) for recording in recordings] == [1080, 1920]
    np.testing.assert_allclose(np.concatenate([r.poses for r in recordings]), poses, atol=1e-4 if relative else 1e-8)
    np.testing.assert_allclose(np.concatenate([r.keypoints for r in recordings]), pixels, atol=1e-8)


def test_adaptposes_files_that_do_not_fit_are_refused(tmp_path):
    poses, pixels = sixteen_joints(0)
    path = tmp_path / "data_3dpw_gt_test.npz"
    np.savez(path, positions_3d=poses / 300, positions_2d=pixels)
    with pytest.raises(DataError, match=r"joints 1-2 and 4-5 are 1\.\d+ apart: no thighs in m or mm"):
        open_raw(tmp_path, RawOptions())
    np.savez(path, positions_3d=poses, positions_2d=pixels + 50)
    with pytest.raises(DataError, match=r"its 2D are 7\d px from the projection of its 3D through 3DPW's camera"):
        list(open_raw(path, RawOptions()).units[0].read())
    stiff = np.tile(poses[0], (3, 1, 1))
    stiff[:, [2, 5]] = (stiff[:, [1, 4]] + stiff[:, [3, 6]]) / 2
    np.savez(path, positions_3d=stiff, positions_2d=pixels[:3])
    with pytest.raises(DataError, match="left and right cannot be told apart"):
        open_raw(tmp_path, RawOptions())

"""AMASS in its two published layouts, made from known bodies and poses."""

from __future__ import annotations

import numpy as np
import pytest

from poseda.data.raw.amass import open_raw
from poseda.data.recordings import RawOptions, WorldTake
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.skeleton import get_skeleton
from tests.data.smpl_bodies import h36m_rows, make_body, pose_h36m, pose_mesh, write_body

H36M = get_skeleton("h36m17")
FRAMES = 4


def write_motion(path, columns, gender="female", seed=0, **changes):
    """A motion as AMASS writes it; returns its poses, shape and translation."""
    rng = np.random.default_rng(seed)
    poses, betas, trans = rng.normal(0, 0.4, (FRAMES, columns)), rng.normal(0, 1, 16), rng.normal(0, 2, (FRAMES, 3))
    rate = "mocap_framerate" if columns == 156 else "mocap_frame_rate"
    fields = {"poses": poses, "betas": betas, "trans": trans, "gender": np.array(gender), rate: np.array(120.0)}
    path.parent.mkdir(parents=True, exist_ok=True)
    fields |= {"dmpls": np.zeros((FRAMES, 8))} | changes
    np.savez(path, **{key: value for key, value in fields.items() if value is not None})
    return poses, betas, trans


def world(body, poses, betas, trans, rows):
    return 1000 * (pose_h36m(body, poses, betas, rows) + trans[:, None])


def write_smplh(folder):
    """SMPL+H of both genders as its makers pack it, and the regressor beside them."""
    bodies = {"female": make_body(52, shapes=16, seed=1), "male": make_body(52, shapes=16, seed=2)}
    for gender, body in bodies.items():
        write_body(folder / gender / "model.npz", body)
    np.save(folder / "J_regressor_h36m_correct.npy", h36m_rows(bodies["female"]))
    return str(folder), bodies


@pytest.fixture
def smplh(tmp_path):
    return write_smplh(tmp_path / "smplh")


def test_motions_of_a_tree_by_subject(tmp_path, smplh):
    place, bodies = smplh
    tree = tmp_path / "AMASS"
    given = {
        "CMU/01/01_01": write_motion(tree / "CMU/01/01_01_poses.npz", 156, seed=1),
        "CMU/01/01_02": write_motion(tree / "CMU/01/01_02_poses.npz", 156, gender=b"male", seed=2),
        "BMLrub/rub001/0000_treadmill": write_motion(
            tree / "BMLrub/rub001/0000_treadmill_poses.npz", 156, gender=np.array("male", dtype=object), seed=3
        ),
    }
    np.savez(tree / "CMU/01/shape.npz", betas=np.zeros(16))
    data = open_raw(tree, RawOptions(body_model=place))
    assert data.recognised == "AMASS, SMPL+H: motions 3, SMPL+H with J_regressor_h36m_correct.npy (right leg first)"
    assert (data.kind, data.fps, data.skeleton) == ("motion", 50.0, H36M)
    assert [(unit.name, unit.split) for unit in data.units] == [("BMLrub/rub001", None), ("CMU/01", None)]
    takes = [take for unit in data.units for take in unit.read()]
    assert all(isinstance(take, WorldTake) for take in takes)
    assert {take.name: take.subject for take in takes} == {name: name.rpartition("/")[0] for name in given}
    rows = h36m_rows(bodies["female"])
    for take in takes:
        body = bodies["female" if take.name == "CMU/01/01_01" else "male"]
        np.testing.assert_allclose(take.joints, world(body, *given[take.name], rows), atol=1e-8)
        assert take.fps == 120.0


def test_smpl_poses_smplh_motions_without_the_fingers(tmp_path):
    body = make_body(24, seed=1)
    write_body(tmp_path / "smpl" / "SMPL_NEUTRAL.pkl", body)
    np.save(tmp_path / "smpl" / "J_regressor_h36m.npy", h36m_rows(body))
    poses, betas, trans = write_motion(tmp_path / "a" / "x_poses.npz", 156)
    data = open_raw(tmp_path / "a", RawOptions(body_model=str(tmp_path / "smpl")))
    assert "SMPL poses SMPL+H's motions: its hands rest" in data.notes
    assert "no female body model: SMPL_NEUTRAL.pkl serves" in data.notes
    (take,) = data.units[0].read()
    assert (take.name, take.subject) == ("a/x", "a")
    wanted = world(body, np.c_[poses[:, :66], np.zeros((FRAMES, 6))], betas[:10], trans, h36m_rows(body))
    np.testing.assert_allclose(take.joints, wanted, atol=1e-8)


def test_smplx_motions_give_the_skeletons_own_joints(tmp_path):
    body = make_body(55, shapes=400)
    model = write_body(tmp_path / "m" / "SMPLX_NEUTRAL.npz", body)
    np.save(tmp_path / "m" / "J_regressor_h36m.npy", np.ones((17, 6890)))  # of SMPL's mesh, not of this one
    poses, betas, trans = write_motion(tmp_path / "s/1/General_A1_stageii.npz", 165, gender="neutral")
    np.savez(tmp_path / "s/1/neutral_stagei.npz", betas=betas)
    data = open_raw(tmp_path, RawOptions(body_model=str(model)))
    assert data.recognised == "AMASS, SMPL-X: motions 1, SMPL-X's own joints"
    assert "joints are those of SMPL-X's skeleton nearest to Human3.6M's" in data.notes
    (take,) = data.units[0].read()
    assert take.name == "s/1/General_A1"
    for pose, move, frame in zip(poses, trans, take.joints, strict=True):
        vertices, joints = pose_mesh(body, pose, betas)
        np.testing.assert_allclose(frame[H36M.index("head")], 1000 * (vertices[75] + move), atol=1e-8)
        for name, bone in {"pelvis": 0, "rknee": 5, "lankle": 7, "thorax": 12, "lshoulder": 16, "rwrist": 21}.items():
            np.testing.assert_allclose(frame[H36M.index(name)], 1000 * (joints[bone] + move), atol=1e-8)


def test_a_single_motion(tmp_path, smplh):
    write_motion(tmp_path / "CMU/01/01_01_poses.npz", 156)
    data = open_raw(tmp_path / "CMU/01/01_01_poses.npz", RawOptions(body_model=smplh[0]))
    assert [take.name for take in data.units[0].read()] == ["01/01_01"]


def test_mistakes_end_in_one_line(tmp_path, smplh):
    with pytest.raises(MissingDataError, match=r"no AMASS there; looked for <subset>/<subject>/<motion>_poses\.npz"):
        open_raw(tmp_path, RawOptions(body_model=smplh[0]))
    write_motion(tmp_path / "CMU/01/01_01_poses.npz", 156)
    with pytest.raises(ConfigError, match=r"this data needs a body model: body_model=<your SMPL\+H or SMPL file"):
        open_raw(tmp_path, RawOptions())
    write_motion(tmp_path / "CMU/01/01_01_stageii.npz", 165)
    with pytest.raises(DataError, match=r"SMPL\+H and SMPL-X motions, which may be the same ones; give a folder"):
        open_raw(tmp_path, RawOptions(body_model=smplh[0]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"poses": np.zeros((4, 165))}, r"key poses: 165 columns; the body model has 156 \(SMPL\+H 156, SMPL-X 165\)"),
        ({"trans": np.zeros((3, 3))}, r"key trans: is float64 \(3, 3\); expected"),
        ({"betas": None}, "key betas: not there; AMASS's motions have it"),
        ({"mocap_framerate": None}, "no key mocap_framerate or mocap_frame_rate"),
        ({"mocap_framerate": np.array(0.0)}, "0 frames/s is no motion capture's rate"),
    ],
)
def test_wrong_fields_are_named(tmp_path, smplh, changes, said):
    write_motion(tmp_path / "CMU/01/01_01_poses.npz", 156, **changes)
    with pytest.raises(DataError, match=said):
        list(open_raw(tmp_path, RawOptions(body_model=smplh[0])).units[0].read())

"""Linear blend skinning against vertex-by-vertex skinning with scipy's rotations, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from poseda.data import body_model
from poseda.data.body_model import BodyModel
from poseda.errors import DataError
from poseda.skeleton import get_skeleton
from tests.data.smpl_bodies import h36m_rows, make_body, pose_h36m, pose_mesh

JOINTS = get_skeleton("h36m17").joints


def model_of(body):
    parents = (-1, *body["kintree_table"][0, 1:].tolist())
    keys = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
    return BodyModel(*(body[key] for key in keys), parents)


def random_poses(bones, frames=4, seed=3):
    return np.random.default_rng(seed).normal(0, 0.6, (frames, 3 * bones))


BETAS = np.linspace(-2, 2, 10)


@pytest.mark.parametrize("bones", [24, 52, 55])
def test_joints_are_those_of_the_skinned_mesh(bones):
    body, poses = make_body(bones), random_poses(bones)
    rows = h36m_rows(body)
    joints = model_of(body).skin_rows(rows).joints(poses, BETAS)
    np.testing.assert_allclose(joints, pose_h36m(body, poses, BETAS, rows), atol=1e-12)


def test_rows_over_the_whole_mesh_that_do_not_sum_to_one():
    body, poses = make_body(), random_poses(24)
    rows = np.random.default_rng(5).normal(0, 0.1, (3, 120))
    joints = model_of(body).skin_rows(rows).joints(poses, BETAS)
    np.testing.assert_allclose(joints, pose_h36m(body, poses, BETAS, rows), atol=1e-12)


@pytest.mark.parametrize("bones", [24, 55])
def test_own_joints_are_the_skeletons_and_the_crown(bones):
    body, poses = make_body(bones), random_poses(bones)
    joints = model_of(body).skin_own(JOINTS).joints(poses, BETAS)
    assert joints.shape == (4, 17, 3)
    for pose, frame in zip(poses, joints, strict=True):
        vertices, skeleton = pose_mesh(body, pose, BETAS)
        np.testing.assert_allclose(frame[JOINTS.index("head")], vertices[75], atol=1e-12)
        for name, bone in {"pelvis": 0, "lhip": 1, "rknee": 5, "thorax": 12, "lwrist": 20, "relbow": 19}.items():
            np.testing.assert_allclose(frame[JOINTS.index(name)], skeleton[bone], atol=1e-12)


def test_rest_pose_is_the_shaped_template():
    body = make_body()
    rows = h36m_rows(body)
    joints = model_of(body).skin_rows(rows).joints(np.zeros((1, 72)), BETAS)[0]
    np.testing.assert_allclose(joints, rows @ (body["v_template"] + body["shapedirs"] @ BETAS), atol=1e-13)


def test_the_roots_rotation_turns_the_body_about_the_root():
    body = make_body()
    skinning, poses = model_of(body).skin_rows(h36m_rows(body)), random_poses(24)
    poses[:, :3] = 0
    still, turn = skinning.joints(poses, BETAS), Rotation.from_rotvec([0.4, -2.0, 0.9])
    poses[:, :3] = turn.as_rotvec()
    root = body["J_regressor"][0] @ (body["v_template"] + body["shapedirs"] @ BETAS)
    np.testing.assert_allclose(skinning.joints(poses, BETAS), (still - root) @ turn.as_matrix().T + root, atol=1e-12)


def test_a_bent_joint_moves_what_hangs_from_it_only():
    body = make_body() | {"posedirs": np.zeros((120, 3, 207)), "weights": np.repeat(np.eye(24), 5, 0)}
    skinning = model_of(body).skin_own(JOINTS)
    rest, pose = skinning.joints(np.zeros((1, 72)), BETAS)[0], np.zeros((1, 72))
    pose[0, 3 * 16 + 2] = -np.pi / 2  # the left shoulder, about the body's front: the arm hangs down
    joints = skinning.joints(pose, BETAS)[0]
    moved = {name for name, before, after in zip(JOINTS, rest, joints, strict=True) if not np.allclose(before, after)}
    assert moved == {"lelbow", "lwrist"}
    shoulder, wrist = JOINTS.index("lshoulder"), JOINTS.index("lwrist")
    x, y, z = rest[wrist] - rest[shoulder]
    np.testing.assert_allclose(joints[wrist] - joints[shoulder], [y, -x, z], atol=1e-12)


def test_translation_and_shapes_of_each_frame(monkeypatch):
    body, poses = make_body(), random_poses(24)
    skinning, rng = model_of(body).skin_rows(h36m_rows(body)), np.random.default_rng(1)
    betas, translation = rng.normal(size=(4, 10)), rng.normal(size=(4, 3))
    joints = skinning.joints(poses, betas, translation)
    alone = [skinning.joints(poses[[t]], betas[t], translation[[t]])[0] for t in range(4)]
    np.testing.assert_allclose(joints, alone, atol=1e-12)
    monkeypatch.setattr(body_model, "_CHUNK_BYTES", 1)
    np.testing.assert_allclose(skinning.joints(poses, betas, translation), joints, atol=1e-12)


def test_fewer_shape_coefficients_leave_the_others_zero():
    body, poses = make_body(), random_poses(24)
    skinning = model_of(body).skin_rows(h36m_rows(body))
    short = skinning.joints(poses, BETAS[:4])
    np.testing.assert_array_equal(short, skinning.joints(poses, np.r_[BETAS[:4], np.zeros(6)]))
    assert skinning.joints(np.zeros((0, 72)), BETAS).shape == (0, 17, 3)


def test_arrays_of_another_size_are_refused():
    body = make_body()
    skinning = model_of(body).skin_rows(h36m_rows(body))
    with pytest.raises(DataError, match=r"poses have shape \(4, 156\); this body model has 24 bones: \(T, 72\)"):
        skinning.joints(np.zeros((4, 156)), BETAS)
    with pytest.raises(DataError, match=r"betas have shape \(1, 11\); this body model takes at most 10 a frame"):
        skinning.joints(np.zeros((4, 72)), np.zeros(11))
    with pytest.raises(DataError, match=r"betas have shape \(3, 10\)"):
        skinning.joints(np.zeros((4, 72)), np.zeros((3, 10)))


def test_a_bone_before_its_parent_is_refused():
    body = make_body()
    body["kintree_table"][0, 4] = 9
    with pytest.raises(DataError, match="kintree_table: bone 4 hangs from 9; parents come first"):
        model_of(body)

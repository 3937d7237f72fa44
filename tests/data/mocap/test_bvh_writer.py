"""What is written as BVH is read back where it was."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from poseda.data.mocap.bvh import read_bvh
from poseda.data.mocap.bvh_writer import BVH_NAMES, write_bvh
from poseda.data.mocap.joint_names import find_joints
from poseda.errors import DataError
from poseda.skeleton import SKELETONS, Skeleton, get_skeleton

H36M = get_skeleton("h36m17")
# y up; the person's left is x, facing z. From each joint's parent, mm.
REST = {
    "rhip": (-130, 0, 0), "rknee": (0, -440, 10), "rankle": (0, -440, -20), "lhip": (130, 0, 0), "lknee": (0, -440, 10),
    "lankle": (0, -440, -20), "spine": (0, 230, -10), "thorax": (0, 250, 10), "nose": (0, 110, 30), "head": (0, 110, 0),
    "lshoulder": (150, -20, 0), "lelbow": (280, 0, 0), "lwrist": (250, 0, 0), "rshoulder": (-150, -20, 0),
    "relbow": (-280, 0, 0), "rwrist": (-250, 0, 0),
}  # fmt: skip


def moving(skeleton: Skeleton = H36M, frames: int = 60, seed: int = 0) -> np.ndarray:
    """(T, J, 3) mm, y up: every joint of a body turns smoothly, bones keep their lengths, a full turn about y."""
    random = np.random.default_rng(seed)
    times = np.linspace(0, 1, frames)
    points = np.zeros((frames, skeleton.num_joints, 3))
    turned = {}
    waiting = [skeleton.root]
    for joint in waiting:
        waiting += [child for parent, child in skeleton.bones if parent == joint]
        sway = np.sin(2 * np.pi * np.outer(times, random.uniform(0.5, 1.5, 3)) + random.uniform(0, 6, 3)) * 0.5
        turn = Rotation.from_rotvec(sway)
        parent = skeleton.parents[joint]
        if parent < 0:
            turned[joint] = Rotation.from_rotvec(np.outer(times, [0, 7.0, 0])) * turn
            points[:, joint] = np.add(np.outer(times, [900.0, 0, 300]), (10, 950, -20))
            continue
        turned[joint] = turned[parent] * turn
        offset = REST.get(skeleton.joints[joint], (40 * random.normal(), 100, 30))
        points[:, joint] = points[:, parent] + turned[joint].apply(offset)
    return points


def joints_of(path, skeleton: Skeleton) -> tuple[np.ndarray, float]:
    """(T, J, 3) mm, y up, in the skeleton's order, and the frame rate."""
    motion = read_bvh(path)
    places = [motion.index[BVH_NAMES.get(joint, joint)] for joint in skeleton.joints]
    return motion.positions()[:, places] * 10, motion.fps


@pytest.mark.parametrize(
    ("up", "to_file"),
    [
        ("y", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ("-y", [[1, 0, 0], [0, -1, 0], [0, 0, -1]]),
        ("z", [[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
    ],
)
def test_constant_bones_come_back_where_they_were(tmp_path, up, to_file):
    points = moving()
    write_bvh(tmp_path / "x.bvh", points @ np.linalg.inv(np.array(to_file, float)).T, H36M, 50.0, up=up)
    found, fps = joints_of(tmp_path / "x.bvh", H36M)
    assert np.abs(found - points).max() < 0.01
    assert fps == 50


@pytest.mark.parametrize("name", sorted(SKELETONS))
def test_every_skeleton_can_be_written(tmp_path, name):
    skeleton = get_skeleton(name)
    points = moving(skeleton)
    write_bvh(tmp_path / "x.bvh", points, skeleton, 30, up="y")
    assert np.abs(joints_of(tmp_path / "x.bvh", skeleton)[0] - points).max() < 0.01


def test_varying_bones_keep_direction_and_get_the_median_length(tmp_path):
    random = np.random.default_rng(1)
    points = moving() + random.normal(0, 5, (60, 17, 3))
    write_bvh(tmp_path / "x.bvh", points, H36M, 50, up="y")
    found, _ = joints_of(tmp_path / "x.bvh", H36M)
    assert np.abs(found[:, 0] - points[:, 0]).max() < 1e-4
    for parent, child in H36M.bones:
        before, after = points[:, child] - points[:, parent], found[:, child] - found[:, parent]
        length = np.linalg.norm(before, axis=-1)
        assert np.allclose(np.linalg.norm(after, axis=-1), np.median(length), atol=1e-3)
        assert np.allclose(after / np.median(length), before / length[:, None], atol=1e-4)


def test_angles_do_not_jump_over_a_full_turn(tmp_path):
    write_bvh(tmp_path / "x.bvh", moving(frames=200), H36M, 50, up="y")
    motion = read_bvh(tmp_path / "x.bvh")
    assert np.abs(np.diff(motion.values[:, 3:6], axis=0)).max() < 20
    yaw = motion.values[:, 5]
    assert abs(yaw[-1] - yaw[0]) > 360


def test_hips_turn_with_the_pelvis(tmp_path):
    """The root's rotation is the person's heading, and the rest pose stands upright facing z."""
    points = moving()
    write_bvh(tmp_path / "x.bvh", points, H36M, 50, up="y")
    motion = read_bvh(tmp_path / "x.bvh")
    turned = Rotation.from_euler("ZXY", motion.values[:, 3:6], degrees=True)
    left = points[:, H36M.index("lhip")] - points[:, H36M.index("rhip")]
    assert np.allclose(turned.apply([1, 0, 0]), left / np.linalg.norm(left, axis=-1, keepdims=True), atol=1e-6)
    assert motion.offsets[motion.index["LeftLeg"]][1] == pytest.approx(-44.01, abs=0.01)


def test_what_is_written_is_found_by_name(tmp_path):
    write_bvh(tmp_path / "x.bvh", moving(), H36M, 50, up="y")
    assert find_joints(read_bvh(tmp_path / "x.bvh")).missing == ()


def test_a_single_frame_and_joints_that_meet_in_a_frame(tmp_path):
    points = moving()
    points[3, H36M.index("rwrist")] = points[3, H36M.index("relbow")]  # no direction
    write_bvh(tmp_path / "x.bvh", points, H36M, 50, up="y")
    assert np.isfinite(read_bvh(tmp_path / "x.bvh").values).all()
    write_bvh(tmp_path / "x.bvh", points[:1], H36M, 50, up="y")
    assert np.abs(joints_of(tmp_path / "x.bvh", H36M)[0] - points[:1]).max() < 0.01


def test_wrong_positions_are_refused_and_leave_no_file(tmp_path):
    points = moving(frames=4)
    path = tmp_path / "x.bvh"
    with pytest.raises(DataError, match=r"x.bvh: positions have shape \(4, 16, 3\); h36m17 needs \(T, 17, 3\)"):
        write_bvh(path, points[:, :16], H36M, 50)
    points[2, 5, 1] = np.nan
    with pytest.raises(DataError, match=r"x.bvh: frame 2 has a position that is not finite"):
        write_bvh(path, points, H36M, 50)
    with pytest.raises(DataError, match=r"0 frames a second"):
        write_bvh(path, points, H36M, 0)
    with pytest.raises(DataError, match=r"the bone to 'rhip' has no length"):
        write_bvh(path, np.zeros((2, 17, 3)), H36M, 50)
    assert not path.exists()

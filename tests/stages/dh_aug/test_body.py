"""Forward kinematics with joint limits, against SciPy and plain anatomy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.skeleton import get_skeleton
from poseda.stages.dh_aug.body import GLOBAL, MOTIONS, REST, Body
from poseda.stages.dh_aug.stage import symmetric_lengths

SKELETON = get_skeleton("h36m17")
LENGTHS = torch.linspace(100.0, 400.0, 16)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def slot(body, bone, motion):
    """Place of a bone's motion among the D angles; bone None is the body."""
    row = 0 if bone is None else 1 + SKELETON.bone_names.index(bone)
    return int(body.slots.view(-1, 3)[row, motion])


def pose(body, **angles):
    """Joint name -> place (mm) with these angles in degrees and all others 0, all bones 100 mm."""
    values = torch.zeros(1, body.count)
    for name, (motion, degrees) in angles.items():
        values[0, slot(body, None if name == "whole" else name, motion)] = np.radians(degrees)
    joints = body(values, torch.full((1, 16), 100.0))[0]
    return {name: joints[i].numpy() for i, name in enumerate(SKELETON.joints)}


def test_kinematics_agree_with_scipy_going_down_the_tree():
    body = Body(SKELETON, 0.0).double()
    angles = torch.randn(5, body.count, generator=draws(), dtype=torch.float64)
    made = body(angles, LENGTHS.double().expand(5, 16)).numpy()
    place = {child: bone for bone, (_, child) in enumerate(SKELETON.bones)}
    slots, axes = body.slots.view(-1, 3), body.axes.numpy()
    for b in range(5):
        def local(row, b=b):
            turns = [
                Rotation.from_rotvec(axes[row, k] * float(angles[b, slots[row, k]]))
                for k in range(3) if int(slots[row, k]) < body.count
            ]
            whole = Rotation.identity()
            for one in turns:
                whole = whole * one
            return whole

        frames, joints = {0: local(0)}, {0: np.zeros(3)}
        for child, parent in enumerate(SKELETON.parents):
            if parent >= 0:
                frames[child] = frames[parent] * local(1 + place[child])
                bone = frames[child].apply(body.rest[place[child]].numpy()) * float(LENGTHS[place[child]])
                joints[child] = joints[parent] + bone
        np.testing.assert_allclose(made[b], np.stack([joints[j] for j in range(17)]), atol=1e-4)


@pytest.mark.parametrize("name", ["h36m17", "h36m16", "3dhp17"])
def test_values_of_any_size_stay_within_the_limits_and_reach_them(name):
    body = Body(get_skeleton(name), 20.0)
    angles = body.angles(torch.tensor([[-50.0], [0.0], [50.0]]).expand(3, body.count))
    torch.testing.assert_close(angles[0], body.low)
    torch.testing.assert_close(angles[2], body.high)
    assert bool((body.low < body.high).all())
    assert body.count == 28


def test_slack_widens_each_range_at_both_ends_but_for_a_full_turn():
    narrow, wide = Body(SKELETON, 0.0), Body(SKELETON, 20.0)
    turn = slot(narrow, None, 2)
    kept = torch.arange(narrow.count) != turn
    torch.testing.assert_close((wide.high - narrow.high)[kept], torch.full((27,), float(np.radians(20))))
    torch.testing.assert_close((wide.low - narrow.low)[kept], torch.full((27,), -float(np.radians(20))))
    assert float(wide.high[turn]) == pytest.approx(np.pi)


def test_a_person_at_rest_stands_upright_and_faces_the_camera():
    at = pose(Body(SKELETON, 0.0))
    assert at["lankle"][1] > at["lknee"][1] > at["lhip"][1] > at["spine"][1] > at["thorax"][1] > at["head"][1]
    assert at["lhip"][0] > 0 > at["rhip"][0]
    np.testing.assert_allclose(at["lwrist"] * (-1, 1, 1), at["rwrist"], atol=1e-4)


@pytest.mark.parametrize(
    ("bone", "motion", "degrees", "joint", "axis", "sign"),
    [
        ("lknee", 0, 90, "lknee", 2, -1),  # the hip flexes: the thigh goes forwards, towards the camera
        ("rknee", 0, 90, "rknee", 2, -1),
        ("lankle", 0, 90, "lankle", 2, 1),  # the knee flexes: the shank goes backwards
        ("lknee", 1, 40, "lknee", 0, 1),  # abduction: away from the middle
        ("rknee", 1, 40, "rknee", 0, -1),
        ("lelbow", 0, 90, "lelbow", 2, -1),
        ("relbow", 1, 90, "relbow", 0, -1),
        ("lwrist", 0, 90, "lwrist", 2, -1),  # the elbow flexes: the forearm goes forwards
        ("spine", 0, 40, "thorax", 2, -1),  # the trunk bows
        ("nose", 0, 40, "nose", 2, -1),  # the head bows
    ],
)
def test_joints_move_the_way_anatomy_says(bone, motion, degrees, joint, axis, sign):
    body = Body(SKELETON, 0.0)
    rest, moved = pose(body), pose(body, **{bone: (motion, degrees)})
    assert sign * (moved[joint] - rest[joint])[axis] > 30


def test_both_sides_mirror_each_other():
    body = Body(SKELETON, 0.0)
    for bone, motions in (("knee", 3), ("ankle", 1), ("elbow", 3), ("wrist", 1)):
        for motion in range(motions):
            angles = {f"{side}{bone}": (motion, 35.0) for side in "lr"}
            bend = {f"{side}wrist": (0, 60.0) for side in "lr"} if bone == "elbow" else {}
            at = pose(body, **(angles | bend))
            for joint in ("ankle", "knee", "wrist", "elbow"):
                np.testing.assert_allclose(at["l" + joint] * (-1, 1, 1), at["r" + joint], atol=1e-3)


def test_every_bone_has_a_direction_of_length_1_and_ranges_that_rise():
    assert all(np.linalg.norm(direction) == 1 for direction in REST.values())
    for motions in (*MOTIONS.values(), GLOBAL):
        assert all(low < high and np.linalg.norm(axis) == 1 for axis, low, high in motions)


def test_lengths_are_the_sources_mean_alike_on_both_sides(tiny_clips):
    source = tiny_clips[0]
    lengths = symmetric_lengths(source)
    bones = torch.stack([(source.poses[:, c] - source.poses[:, p]).norm(dim=-1).mean() for p, c in SKELETON.bones])
    for members in SKELETON.bone_groups.values():
        torch.testing.assert_close(lengths[list(members)], bones[list(members)].mean().expand(len(members)))


def test_gradients_of_a_pose_are_those_of_finite_differences():
    body = Body(SKELETON, 20.0).double()
    angles = (0.3 * torch.randn(2, body.count, generator=draws(), dtype=torch.float64)).requires_grad_(True)
    lengths = LENGTHS.double().expand(2, 16)
    assert torch.autograd.gradcheck(lambda a: body(a, lengths)[:, ::4], (angles,), eps=1e-5, atol=1e-4)

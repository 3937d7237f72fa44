"""Joint sets: trees, mirroring, matrices, conversion by name."""

import dataclasses

import pytest
import torch

from poseda.errors import ConfigError, DataError, ShapeError
from poseda.skeleton import (
    SKELETONS,
    Skeleton,
    conversion_matrix,
    convert_confidence,
    convert_joints,
    convert_visibility,
    get_skeleton,
    index_tensor,
)

ALL = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS.keys())
H36M = SKELETONS["h36m17"]


def random_joints(skeleton: Skeleton, *batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*batch, skeleton.num_joints, 3, generator=generator, dtype=torch.float64) * 500


def test_human36m_tree_is_the_published_one():
    assert H36M.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    assert H36M.left == (4, 5, 6, 11, 12, 13)
    assert H36M.right == (1, 2, 3, 14, 15, 16)
    assert H36M.root == 0


def test_3dhp17_tree_has_its_root_at_14_and_published_sides():
    skeleton = SKELETONS["3dhp17"]
    assert skeleton.root == 14
    assert skeleton.left == (5, 6, 7, 11, 12, 13)
    assert skeleton.right == (2, 3, 4, 8, 9, 10)


def test_humaneva_sides_are_the_published_ones():
    skeleton = SKELETONS["humaneva15"]
    assert skeleton.left == (2, 3, 4, 8, 9, 10)
    assert skeleton.right == (5, 6, 7, 11, 12, 13)


def test_coco_sides_are_the_published_ones():
    skeleton = SKELETONS["coco17"]
    assert skeleton.left == tuple(range(1, 17, 2))
    assert skeleton.right == tuple(range(2, 17, 2))


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("3dhp28", [4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16]),
        ("3dhp17", [14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]),
    ],
)
def test_3dhp_turns_into_h36m_by_the_published_index_list(source, rows):
    joints = random_joints(SKELETONS[source], 2, 3)
    assert torch.equal(convert_joints(joints, SKELETONS[source], H36M), joints[..., rows, :])


def test_3dhp28_turns_into_3dhp17_by_the_published_index_list():
    rows = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
    joints = random_joints(SKELETONS["3dhp28"])
    converted = convert_joints(joints, SKELETONS["3dhp28"], SKELETONS["3dhp17"])
    assert torch.equal(converted, joints[rows])


def test_h36m16_is_h36m17_without_the_nose():
    joints = random_joints(H36M)
    keep = [row for row in range(17) if row != 9]
    assert torch.equal(convert_joints(joints, H36M, SKELETONS["h36m16"]), joints[keep])


@ALL
def test_mirror_is_an_involution_that_swaps_names_and_keeps_the_tree(skeleton):
    mirror = skeleton.mirror
    assert [mirror[mirror[joint]] for joint in range(skeleton.num_joints)] == list(range(skeleton.num_joints))
    for joint, other in enumerate(mirror):
        name, opposite = skeleton.joints[joint], skeleton.joints[other]
        assert name == opposite or ({name[0], opposite[0]} == {"l", "r"} and name[1:] == opposite[1:])
        parent, other_parent = skeleton.parents[joint], skeleton.parents[other]
        assert (mirror[parent] if parent >= 0 else -1) == other_parent
    assert sorted(skeleton.left + skeleton.right) == [j for j in range(skeleton.num_joints) if mirror[j] != j]
    assert skeleton.mirror_index(torch.zeros(1)).tolist() == list(mirror)


@ALL
def test_mirroring_a_symmetric_pose_and_flipping_x_changes_nothing(skeleton):
    joints = random_joints(skeleton)
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    symmetric = (joints + joints[list(skeleton.mirror)] * flip) / 2
    torch.testing.assert_close(symmetric[list(skeleton.mirror)] * flip, symmetric)


@ALL
def test_bones_are_ordered_by_child_and_matrices_agree_with_a_walk_up_the_tree(skeleton):
    joints = random_joints(skeleton, 2)
    bones = skeleton.bone_matrix(joints) @ joints
    children = [child for _, child in skeleton.bones]
    assert children == sorted(children) and len(children) == skeleton.num_joints - 1
    for bone, (parent, child) in enumerate(skeleton.bones):
        torch.testing.assert_close(bones[:, bone], joints[:, child] - joints[:, parent])
    rebuilt = skeleton.path_matrix(joints) @ bones
    torch.testing.assert_close(rebuilt, joints - joints[:, skeleton.root : skeleton.root + 1])


@ALL
def test_every_bone_is_in_one_group_and_pairs_share_a_group(skeleton):
    grouped = sorted(bone for group in skeleton.bone_groups.values() for bone in group)
    assert grouped == list(range(len(skeleton.bones)))
    for left, right in skeleton.bone_pairs:
        assert skeleton.bone_names[left][1:] == skeleton.bone_names[right][1:]
        assert any({left, right} <= set(group) for group in skeleton.bone_groups.values())
    assert len(skeleton.bone_pairs) == len(skeleton.left)


def test_h36m_bone_groups_have_their_anatomical_names():
    assert set(H36M.bone_groups) == {
        "hip", "thigh", "shank", "spine", "torso", "neck", "head", "shoulder", "upper_arm", "forearm",
    }  # fmt: skip
    assert [H36M.bone_names[bone] for bone in H36M.bone_groups["upper_arm"]] == ["lelbow", "relbow"]


def test_matrices_are_cached_per_dtype_and_skeleton():
    like = torch.zeros(1, dtype=torch.float64)
    assert H36M.path_matrix(like) is H36M.path_matrix(like)
    assert H36M.bone_matrix(like).dtype == torch.float64
    assert H36M.bone_matrix().dtype == torch.float32
    assert index_tensor((1, 2), torch.device("cpu")) is index_tensor((1, 2), torch.device("cpu"))


def test_a_matrix_first_asked_for_in_inference_mode_still_works_with_autograd():
    skeleton = dataclasses.replace(H36M, name="seen first in inference mode")
    with torch.inference_mode():
        skeleton.path_matrix()
    bones = torch.randn(16, 3, requires_grad=True)
    (skeleton.path_matrix() @ bones).sum().backward()
    assert bones.grad is not None


def test_coco_turns_into_h36m_as_mmpose_constructs_it():
    joints = random_joints(SKELETONS["coco17"])
    h36m = convert_joints(joints, SKELETONS["coco17"], H36M)
    pelvis, thorax = (joints[11] + joints[12]) / 2, (joints[5] + joints[6]) / 2
    expected = torch.zeros(17, 3, dtype=torch.float64)
    expected[[1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16]] = joints[[12, 14, 16, 11, 13, 15, 5, 7, 9, 6, 8, 10]]
    expected[0], expected[8], expected[7] = pelvis, thorax, (pelvis + thorax) / 2
    expected[10], expected[9] = (joints[1] + joints[2]) / 2, joints[0]
    torch.testing.assert_close(h36m, expected)


def test_h36m16_nose_lies_between_thorax_and_head():
    source = SKELETONS["h36m16"]
    joints = random_joints(source)
    nose = convert_joints(joints, source, H36M)[9]
    torch.testing.assert_close(nose, (joints[source.index("thorax")] + joints[source.index("head")]) / 2)


@pytest.mark.parametrize("source", ["h36m16", "coco17", "lsp14", "humaneva15", "3dhp17", "3dhp28"])
@pytest.mark.parametrize("target", ["h36m17", "h36m16", "3dhp17", "lsp14", "humaneva15"])
def test_conversion_matrix_has_unit_rows_and_agrees_with_convert_joints(source, target):
    source, target = SKELETONS[source], SKELETONS[target]
    matrix = conversion_matrix(source, target).double()
    torch.testing.assert_close(matrix.sum(-1), torch.ones(target.num_joints, dtype=torch.float64))
    joints = random_joints(source, 2, 3)
    torch.testing.assert_close(convert_joints(joints, source, target), matrix @ joints)


def test_conversion_names_the_joints_that_cannot_be_had():
    with pytest.raises(DataError, match="coco17 cannot be made from h36m17: no leye, reye, lear, rear"):
        conversion_matrix(H36M, SKELETONS["coco17"])


def test_a_midpoint_is_visible_only_with_all_its_parts():
    coco = SKELETONS["coco17"]
    visible = torch.ones(17, dtype=torch.bool)
    visible[coco.index("lhip")] = False
    seen = convert_visibility(visible, coco, H36M)
    hidden = {name for name, flag in zip(H36M.joints, seen.tolist(), strict=True) if not flag}
    assert hidden == {"lhip", "pelvis", "spine"} and seen.dtype == torch.bool


def test_confidence_of_a_midpoint_is_the_least_of_its_parts():
    coco = SKELETONS["coco17"]
    confidence = torch.linspace(0.1, 0.9, 17).expand(4, 17)
    converted = convert_confidence(confidence, coco, H36M)
    assert converted.shape == (4, 17)
    torch.testing.assert_close(converted[:, H36M.index("thorax")], confidence[:, coco.index("lshoulder")])
    torch.testing.assert_close(converted[:, H36M.index("pelvis")], confidence[:, coco.index("lhip")])


def test_a_missing_joint_spoils_only_what_is_made_of_it():
    coco = SKELETONS["coco17"]
    joints = random_joints(coco)
    joints[coco.index("leye")] = torch.nan
    broken = convert_joints(joints, coco, H36M).isnan().any(-1)
    assert [name for name, flag in zip(H36M.joints, broken.tolist(), strict=True) if flag] == ["head"]


@pytest.mark.parametrize("parents", [(-1, -1), (1, 0), (-1, 2), (-1,)])
def test_a_tree_that_is_none_is_refused(parents):
    with pytest.raises(DataError, match="two"):
        Skeleton("two", ("a", "b"), parents)


def test_a_circle_is_refused():
    with pytest.raises(DataError, match="'b' does not lead to the root"):
        Skeleton("circle", ("a", "b", "c"), (-1, 2, 1))


def test_unknown_names_get_the_nearest_one():
    with pytest.raises(ConfigError, match="Did you mean 'h36m17'"):
        get_skeleton("h36m18")
    with pytest.raises(ConfigError, match="Did you mean 'lwrist'"):
        H36M.index("lwris")
    assert get_skeleton("lsp14") is SKELETONS["lsp14"]


def test_a_wrong_number_of_joints_is_refused():
    with pytest.raises(ShapeError, match=r"17 joints \(h36m17\)"):
        convert_joints(torch.zeros(16, 3), H36M, SKELETONS["h36m16"])

"""Bones and the way back to joints, for every joint set."""

import pytest
import torch

from poseda.geometry.bones import bone_lengths, bone_vectors, joints_from_bones, unit_bones, with_bone_lengths
from poseda.skeleton import SKELETONS

ALL = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS.keys())


def joints_of(skeleton, *batch):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*batch, skeleton.num_joints, 3, generator=generator, dtype=torch.float64) * 300 + 4000


@ALL
def test_joints_survive_the_way_through_bones(skeleton):
    joints = joints_of(skeleton, 3, 2)
    bones = bone_vectors(joints, skeleton)
    torch.testing.assert_close(joints_from_bones(bones, skeleton, joints[..., skeleton.root, :]), joints)
    relative = joints_from_bones(bones, skeleton)
    assert torch.equal(relative[..., skeleton.root, :], torch.zeros(3, 2, 3, dtype=torch.float64))


@ALL
def test_bone_vectors_agree_with_a_loop_and_with_the_matrix(skeleton):
    joints = joints_of(skeleton, 4)
    expected = torch.stack([joints[:, c] - joints[:, p] for p, c in skeleton.bones], 1)
    assert torch.equal(bone_vectors(joints, skeleton), expected)
    torch.testing.assert_close(skeleton.bone_matrix(joints) @ joints, expected)
    torch.testing.assert_close(bone_lengths(joints, skeleton), expected.square().sum(-1).sqrt())


def test_bone_lengths_ignore_rotation_and_translation():
    skeleton = SKELETONS["h36m17"]
    joints = joints_of(skeleton)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    moved = joints @ rotation.T + 100
    torch.testing.assert_close(bone_lengths(moved, skeleton), bone_lengths(joints, skeleton))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
def test_given_lengths_keep_directions_and_root(skeleton):
    draws = torch.Generator().manual_seed(0)
    joints = 500 * torch.randn(4, 2, skeleton.num_joints, 3, dtype=torch.float64, generator=draws)
    lengths = 100 + 300 * torch.rand(4, 1, len(skeleton.bones), dtype=torch.float64, generator=draws)
    made = with_bone_lengths(joints, lengths, skeleton)
    torch.testing.assert_close(made[..., skeleton.root, :], joints[..., skeleton.root, :])
    before, after = (bone_vectors(some, skeleton) for some in (joints, made))
    torch.testing.assert_close(after.norm(dim=-1), lengths.expand(4, 2, -1))
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_unit_bones_have_length_one_and_a_zero_bone_has_a_finite_gradient():
    bones = torch.tensor([[3.0, 0, 4], [0, 0, 0]], requires_grad=True)
    units = unit_bones(bones)
    torch.testing.assert_close(units, torch.tensor([[0.6, 0, 0.8], [0, 0, 0]]))
    units.sum().backward()
    assert bones.grad.isfinite().all()


def test_gradients_agree_with_finite_differences():
    skeleton = SKELETONS["h36m17"]
    joints = joints_of(skeleton).requires_grad_()

    def way_and_back(joints):
        bones = bone_vectors(joints, skeleton)
        return joints_from_bones(unit_bones(bones) * 100, skeleton, joints[0])

    assert torch.autograd.gradcheck(way_and_back, joints, eps=1e-3)


def test_autocast_costs_no_digits():
    skeleton = SKELETONS["h36m17"]
    joints = joints_of(skeleton, 2).float()
    with torch.autocast("cpu", torch.bfloat16):
        rebuilt = joints_from_bones(bone_vectors(joints, skeleton), skeleton, joints[:, 0])
    torch.testing.assert_close(rebuilt, joints)

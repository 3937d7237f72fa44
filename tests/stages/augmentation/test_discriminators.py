"""Features of discriminators by brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.skeleton import get_skeleton
from poseda.stages.augmentation.discriminators import (
    KCS,
    PARTS,
    PartDiscriminator,
    PartLinear,
    PlainDiscriminator,
    keypoint_features,
    pair_features,
    screen_features,
    swap_bone_lengths,
)

SKELETON = get_skeleton("h36m17")


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def bones_of(poses, skeleton=SKELETON):
    poses = poses.detach().numpy()
    return np.stack([poses[..., c, :] - poses[..., p, :] for c, p in enumerate(skeleton.parents) if p >= 0], -2)


def gram_pairs(skeleton, poses):
    """Pair -> cosines (B,), by PoseAug's way: the masked Gram matrix of each part, its upper triangle."""
    bones = bones_of(poses, skeleton)
    unit = bones / np.linalg.norm(bones, axis=-1, keepdims=True)
    found = []
    for part in PARTS:
        mask = np.array([[float(name in part)] for name in skeleton.bone_names])
        gram = np.einsum("bec,bfc->bef", unit * mask, unit * mask)
        inside = np.flatnonzero(mask[:, 0])
        found.append({(a, b): gram[:, a, b] for a, b in combinations(inside.tolist(), 2)})
    return found


def test_kcs_is_the_upper_triangle_of_the_gram_matrices_each_pair_once(random_people):
    poses = random_people(4, seed=8)
    expected = {pair: values for part in gram_pairs(SKELETON, poses) for pair, values in part.items()}
    kcs = KCS(SKELETON).double()
    assert kcs.pairs == sorted(expected)
    np.testing.assert_allclose(kcs(poses).numpy(), np.stack([expected[p] for p in sorted(expected)], 1), atol=1e-12)


def test_poseaugs_16_joints_have_its_45_informative_pairs():
    assert len(KCS(get_skeleton("h36m16")).pairs) == 45


def test_each_part_is_scored_by_its_own_pairs_alone(random_people):
    poses = random_people(3, seed=2).float()
    judge, kcs = PartDiscriminator(SKELETON, hidden=4), KCS(SKELETON)
    scores = judge(kcs(poses))
    assert scores.shape == (3, len(PARTS))
    for p, part in enumerate(gram_pairs(SKELETON, poses)):
        features = torch.tensor(np.stack([part[pair] for pair in sorted(part)], 1), dtype=torch.float32)
        x = torch.nn.functional.pad(features, (0, judge.slots.shape[1] - features.shape[1]))
        for layer in judge.score:
            x = x @ layer.weight[p] + layer.bias[p] if isinstance(layer, PartLinear) else layer(x)
        torch.testing.assert_close(scores[:, p], x[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["h36m16", "lsp14", "coco17"])
def test_parts_work_for_skeletons_that_lack_some_of_their_bones(name):
    skeleton = get_skeleton(name)
    poses = torch.randn(3, skeleton.num_joints, 3, generator=draws()) * 300
    score = PartDiscriminator(skeleton, hidden=4)(KCS(skeleton)(poses))
    assert score.shape[0] == 3
    assert bool(score.isfinite().all())


def test_pose_scores_do_not_change_when_the_body_turns_moves_or_grows(random_people):
    pose = random_people(3, seed=9).float()
    judge, kcs = PartDiscriminator(SKELETON, hidden=8), KCS(SKELETON)
    turn = torch.from_numpy(Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()).float()
    torch.testing.assert_close(judge(kcs(1.3 * pose @ turn.T + 500.0)), judge(kcs(pose)), rtol=1e-3, atol=1e-4)


def test_part_linear_is_one_linear_layer_a_part():
    layer, features = PartLinear(3, 5, 2), torch.randn(7, 3, 5, generator=draws())
    with torch.no_grad():
        layer.bias.normal_(generator=draws(1))
    out = layer(features).detach().numpy()
    for p in range(3):
        expected = features[:, p].numpy() @ layer.weight[p].detach().numpy() + layer.bias[p].detach().numpy()
        np.testing.assert_allclose(out[:, p], expected, rtol=1e-5, atol=1e-6)


def test_swapped_poses_have_their_own_directions_and_root_and_the_other_lengths(random_people):
    pose, other = random_people(4, seed=1) + 300.0, random_people(4, seed=2, size=1.2)
    swapped = swap_bone_lengths(pose, other, SKELETON)
    mine, theirs, made = (bones_of(p) for p in (pose, other, swapped))
    lengths = np.linalg.norm(theirs, axis=-1, keepdims=True)
    np.testing.assert_allclose(made, mine / np.linalg.norm(mine, axis=-1, keepdims=True) * lengths, atol=1e-6)
    torch.testing.assert_close(swapped[:, 0], pose[:, 0])
    clip = swap_bone_lengths(pose[:, None].expand(4, 3, 17, 3), other[:, None], SKELETON)
    torch.testing.assert_close(clip, swapped[:, None].expand(4, 3, 17, 3))


def test_pairs_are_in_metres_and_know_no_place(random_people):
    anchor, made = random_people(3, seed=1), random_people(3, seed=2)
    features = pair_features(anchor + 500.0, made - 70.0, 0)
    torch.testing.assert_close(features, torch.stack([anchor, made], 1) / 1000)
    assert PlainDiscriminator(6 * 17, hidden=4)(features.float()).shape == (3, 1)


def test_keypoint_features_know_neither_place_nor_size_nor_missing_joints():
    points = torch.randn(5, 17, 2, generator=draws())
    visible = torch.rand(5, 17, generator=draws(1)) > 0.2
    visible[:, 0], visible[4, 0] = True, False
    features = keypoint_features(points, visible, 0)
    moved = 0.3 * points + torch.tensor([0.5, -0.2])
    torch.testing.assert_close(keypoint_features(moved, visible, 0), features)
    broken = points.masked_fill(~visible.unsqueeze(-1), 77.0)
    torch.testing.assert_close(keypoint_features(broken, visible, 0)[:4], features[:4])
    assert bool((features[~visible] == 0).all())
    assert bool((features[4] == 0).all())  # without a root there is nothing to be relative to
    side = np.ptp(points[0, visible[0]].numpy(), axis=0).mean()
    np.testing.assert_allclose(features[0, 9], (points[0, 9] - points[0, 0]) / side * visible[0, 9], rtol=1e-5)


def test_screen_features_know_the_place_hold_far_joints_in_and_leave_missing_ones_out():
    points = 0.5 * torch.randn(5, 17, 2, generator=draws())
    points[1, 4] = torch.tensor([900.0, -0.1])
    visible = torch.rand(5, 17, generator=draws(1)) > 0.2
    visible[:, 0], visible[4, 0], visible[1, 4] = True, False, True
    features = screen_features(points, visible, 0)
    assert float(features.abs().max()) <= 2.0
    torch.testing.assert_close(features[0, 0], 2 * torch.tanh(points[0, 0] / 2))
    assert not torch.equal(screen_features(points + 0.1, visible, 0)[0], features[0])
    torch.testing.assert_close(screen_features(points.masked_fill(~visible.unsqueeze(-1), 77.0), visible, 0), features)
    assert bool((features[4] == 0).all())
    hidden = (~visible[0]).nonzero().flatten()
    torch.testing.assert_close(features[0, hidden], features[0, :1].expand(len(hidden), 2))

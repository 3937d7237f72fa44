"""Feedback of the lifter: errors by a loop, a lifter that stays as it is, gradients by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from poseda.skeleton import get_skeleton
from poseda.stages.augmentation.augmentor import feedback_loss
from poseda.stages.augmentation.feedback import FLOOR, dead_zone, group_errors, group_joints, hardness

SKELETON = get_skeleton("h36m17")


def windows(random_people, seed):
    poses = random_people(5, seed=seed)[:, None].float() + torch.tensor([0.0, 0.0, 4000.0])
    return poses[..., :2] / poses[..., 2:] * 2, poses


def test_groups_are_near_further_and_far_from_the_trunk():
    groups = [[SKELETON.joints[j] for j in group] for group in group_joints(SKELETON)]
    assert sorted(groups[0]) == ["lhip", "lshoulder", "rhip", "rshoulder"]
    assert sorted(groups[1]) == ["head", "lelbow", "lknee", "relbow", "rknee"]
    assert sorted(groups[2]) == ["lankle", "lwrist", "rankle", "rwrist"]


def test_ratios_are_those_of_a_loop_and_the_lifter_stays_as_it_is(random_people, small_lifter):
    lifter = small_lifter().train()
    before = {name: value.clone() for name, value in lifter.state_dict().items()}
    made, plain = windows(random_people, 1), windows(random_people, 2)
    ratios = hardness(lifter, made, plain)
    assert lifter.training and all(p.grad is None and p.requires_grad for p in lifter.parameters())
    assert all(torch.equal(value, before[name]) for name, value in lifter.state_dict().items())
    lifter.eval()
    errors = []
    for keypoints, poses in (made, plain):
        lifted, true = lifter(keypoints).pose[:, 0].detach().numpy(), (poses - poses[:, :, :1])[:, 0].numpy()
        squares = ((lifted - true) ** 2).sum(-1) / 1e6
        errors.append(np.stack([squares[:, list(group)].mean(1) for group in group_joints(SKELETON)], 1))
    np.testing.assert_allclose(ratios.detach(), errors[0] / np.maximum(errors[1], FLOOR), rtol=1e-4)


def test_the_gradient_of_an_error_is_that_of_finite_differences(random_people, small_lifter):
    lifter = small_lifter().double()
    keypoints, poses = (value[:2].double() for value in windows(random_people, 3))
    keypoints.requires_grad_(True)
    (slope,) = torch.autograd.grad(group_errors(lifter, keypoints, poses).sum(), keypoints)
    for place in ((0, 0, 3, 0), (1, 0, 12, 1)):
        step = torch.zeros_like(keypoints)
        step[place] = 1e-5
        high, low = (float(group_errors(lifter, keypoints + sign * step, poses).detach().sum()) for sign in (1, -1))
        assert float(slope[place]) == pytest.approx((high - low) / 2e-5, rel=1e-4, abs=1e-7)


def test_the_dead_zone_costs_nothing_inside_and_the_square_outside():
    values = torch.tensor([[1.0, 2.9], [5.1, 3.0]])
    assert float(dead_zone(values, 3.0, 2.0)) == pytest.approx(2.1**2 / 4)


def test_poseaugs_feedback_leaves_out_what_is_not_in_the_image(random_people, small_lifter):
    lifter, plain = small_lifter(), windows(random_people, 2)
    keypoints, poses = windows(random_people, 1)
    bent = windows(random_people, 3)
    seen = torch.tensor([True, False, True, True, False])
    keypoints.requires_grad_(True)
    loss, harder = feedback_loss(lifter, bent, (keypoints, poses), plain, seen, 0.5)
    (slope,) = torch.autograd.grad(loss, keypoints)
    assert bool((slope[~seen] == 0).all())
    ratios = hardness(lifter, (keypoints, poses), plain).detach()
    expected = 0.1 * dead_zone(hardness(lifter, bent, plain), 4.0, 2.0) + 0.01 * dead_zone(ratios[seen], 17.0, 15.0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(harder, ratios[seen].mean())
    nobody, none = feedback_loss(lifter, bent, (keypoints, poses), plain, torch.zeros_like(seen), 0.5)
    assert bool(nobody.isfinite()) and float(none) == 0.0

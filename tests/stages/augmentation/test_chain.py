"""PoseAug's chain: its links, its limits, its places, and what the camera sees of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from poseda.skeleton import get_skeleton
from poseda.stages.augmentation.augmentor import difference_loss
from poseda.stages.augmentation.chain import ChainGenerator, before_camera, inside_image, mean_place, project_screen

SKELETON = get_skeleton("h36m17")
PLACE = torch.tensor([200.0, -100.0, 4000.0])


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def bones_of(poses):
    poses = poses.detach().numpy()
    return np.stack([poses[..., c, :] - poses[..., p, :] for c, p in enumerate(SKELETON.parents) if p >= 0], -2)


@pytest.fixture(scope="module")
def windows(random_people):
    people = torch.stack([random_people(8, seed=s, bend=0.3) for s in range(3)], 1).float()
    return people + torch.tensor([300.0, 0.0, 5000.0])


@pytest.fixture(params=["additive", "axis_angle"])
def chain(request, windows):
    torch.manual_seed(0)
    generator = ChainGenerator(SKELETON, PLACE, form=request.param, hidden=16)
    return generator(windows, draws())


def test_each_link_changes_what_it_is_there_for_and_nothing_else(chain, windows):
    old, bent, grown, placed = (bones_of(p) for p in (windows, chain.bent, chain.grown, chain.placed))
    lengths = [np.linalg.norm(bones, axis=-1) for bones in (old, bent, grown, placed)]
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-3)
    np.testing.assert_allclose(lengths[3], lengths[2], rtol=1e-3)
    ratio = lengths[2] / lengths[1]
    assert 0.01 < np.abs(ratio - 1).max() <= 0.2 + 1e-3
    torso = SKELETON.bone_groups["torso"]
    np.testing.assert_allclose(ratio[..., list(torso)], 1, rtol=1e-4)
    for left, right in SKELETON.bone_pairs:
        np.testing.assert_allclose(ratio[..., left], ratio[..., right], rtol=1e-3)
    trunk = [SKELETON.bone_names.index(name) for name in ("spine", "thorax")]
    np.testing.assert_allclose(bent[..., trunk, :], old[..., trunk, :], atol=0.01)
    assert np.abs(bent - old).max() > 10
    torch.testing.assert_close(chain.grown[:, :, 0], windows[:, :, 0])


def test_the_first_people_stand_round_the_place_that_is_given(chain):
    roots = chain.placed[:, 1, 0].detach()
    assert float((roots.mean(0) - PLACE).norm()) < 1500
    assert float(roots[:, 2].min()) > 300


def test_gradients_reach_all_four_heads(windows):
    torch.manual_seed(0)
    generator = ChainGenerator(SKELETON, PLACE, form="axis_angle", hidden=16)
    generator(windows, draws()).placed[..., 1:, :].square().mean().backward()
    for head in (generator.angle_head, generator.length_head, generator.rotation_head, generator.place_head):
        assert all(float(p.grad.abs().sum()) > 0 for p in head.parameters() if p.ndim > 1)


def test_people_before_the_lens_are_put_30_cm_before_the_camera(windows):
    behind = windows - torch.tensor([0.0, 0.0, 8000.0])
    made = before_camera(behind)
    torch.testing.assert_close(made[..., 2].flatten(1).amin(1), torch.full((8,), 300.0), rtol=0, atol=0.01)
    torch.testing.assert_close(made[..., :2], behind[..., :2])
    torch.testing.assert_close(before_camera(windows), windows)


def test_windows_count_as_seen_when_every_joint_of_every_frame_is_in_the_image(windows, straight_camera):
    cameras = straight_camera.expand(8)
    poses = windows.clone()
    poses[1, 2, 5, 0] += 9000.0  # leaves on the right
    poses[2, 0, 5, 0] -= 9000.0  # on the left
    poses[3, 0, 5, 1] -= 9000.0  # above
    poses[4] = before_camera(poses[4:5] - torch.tensor([0.0, 0.0, 9000.0]))[0]
    assert inside_image(poses, project_screen(poses, cameras)).tolist() == [True] + 4 * [False] + 3 * [True]


def test_the_mean_place_is_that_of_the_roots(tiny_clips):
    source = tiny_clips[0]
    np.testing.assert_allclose(mean_place(source), source.poses[:, 0].numpy().mean(0), rtol=1e-5)


def test_bounds_of_poseaug_are_its_dead_zones():
    turns = torch.tensor([[0.5, 0.5], [0.2, 0.3]])  # means 0.5: beyond 0.37; 0.25: inside
    lengths = torch.tensor([[0.05, -0.15], [0.1, 0.0]])
    expected = (0.5 - 0.205) ** 2 / 2 + 0.15**2 / 4
    assert float(difference_loss(SimpleNamespace(turns=turns, lengths=lengths))) == pytest.approx(expected, rel=1e-5)

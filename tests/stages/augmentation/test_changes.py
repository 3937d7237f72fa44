"""Changes of poses against loops over windows, frames and bones with SciPy's rotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.errors import ConfigError
from poseda.skeleton import get_skeleton
from poseda.stages.augmentation.changes import (
    bend,
    bone_turns,
    free_groups,
    group_index,
    move,
    ramp,
    stretch,
    turn,
)

SKELETON = get_skeleton("h36m17")


def bones_of(poses):
    poses = poses.detach().numpy()
    return np.stack([poses[..., c, :] - poses[..., p, :] for c, p in enumerate(SKELETON.parents) if p >= 0], -2)


@pytest.fixture(scope="module")
def windows(random_people):
    """(4, 5, 17, 3) float64 windows with motion, in the camera frame."""
    people = torch.stack([random_people(4, seed=s, bend=0.3) for s in range(5)], 1)
    drift = 40.0 * torch.arange(5, dtype=torch.float64).view(1, 5, 1, 1) * torch.tensor([1.0, 0.2, -0.6])
    return people + torch.tensor([200.0, -100.0, 4000.0], dtype=torch.float64) + drift


@pytest.fixture(scope="module")
def angles():
    return 0.4 * torch.randn(4, 16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("clip", ["constant", "ramp"])
def test_bones_turn_by_rotation_vectors(windows, angles, clip):
    made, old = bones_of(bend(windows, angles, SKELETON, "axis_angle", clip)), bones_of(windows)
    for b in range(4):
        for t in range(5):
            share = 1.0 if clip == "constant" else t / 2
            for e in range(16):
                expected = Rotation.from_rotvec(share * angles[b, e].numpy()).apply(old[b, t, e])
                np.testing.assert_allclose(made[b, t, e], expected, atol=1e-6)


@pytest.mark.parametrize("clip", ["constant", "ramp"])
def test_additive_turns_are_added_to_the_direction_and_keep_the_length(windows, angles, clip):
    made, old = bones_of(bend(windows, angles, SKELETON, "additive", clip)), bones_of(windows)
    lengths = np.linalg.norm(old, axis=-1, keepdims=True)
    share = np.ones(5) if clip == "constant" else np.arange(5) / 2
    moved = old / lengths + share[None, :, None, None] * angles.numpy()[:, None]
    np.testing.assert_allclose(made, moved / np.linalg.norm(moved, axis=-1, keepdims=True) * lengths, atol=1e-6)


def test_a_ramp_grows_evenly_and_is_1_in_the_middle():
    like = torch.zeros(1, dtype=torch.float64)
    assert ramp(1, like).tolist() == [1.0]
    assert ramp(2, like).tolist() == [0.0, 1.0]
    steps = ramp(9, like)
    assert steps[4] == 1.0
    torch.testing.assert_close(steps.diff().diff(), torch.zeros(7, dtype=torch.float64))


@pytest.mark.parametrize("form", ["axis_angle", "additive"])
def test_the_measure_of_a_turn_is_the_cosine_between_old_and_new_bones(windows, angles, form):
    pose = windows[:, :1]
    old, new = (bones_of(p)[:, 0] for p in (pose, bend(pose, angles, SKELETON, form)))
    cosine = (old * new).sum(-1) / np.linalg.norm(old, axis=-1) / np.linalg.norm(new, axis=-1)
    measured = bone_turns(pose[:, 0], angles, SKELETON, form).numpy()
    if form == "additive":
        np.testing.assert_allclose(measured, 1 - cosine, atol=1e-9)
    else:  # a bone that lies along the axis does not move, however far it is turned
        assert (measured >= 1 - cosine - 1e-9).all()
        np.testing.assert_allclose(measured, 1 - np.cos(np.linalg.norm(angles.numpy(), axis=-1)))


def test_bones_are_stretched_alike_in_all_frames_and_roots_stay(windows):
    ratios = torch.linspace(-0.3, 0.4, 16, dtype=torch.float64).expand(4, 16)
    made = stretch(windows, ratios, SKELETON)
    np.testing.assert_allclose(bones_of(made), bones_of(windows) * (1 + ratios.numpy())[:, None, :, None], atol=1e-6)
    torch.testing.assert_close(made[:, :, 0], windows[:, :, 0])


def test_the_body_turns_about_the_middle_root_and_moves_to_its_place(windows):
    rotations = Rotation.from_rotvec(np.random.default_rng(0).normal(size=(4, 3)))
    made = turn(windows, torch.from_numpy(rotations.as_matrix()), SKELETON).numpy()
    for b in range(4):
        pivot = windows[b, 2, 0].numpy()
        for t in range(5):
            np.testing.assert_allclose(made[b, t], rotations[b].apply(windows[b, t].numpy() - pivot) + pivot, atol=1e-6)
    place = torch.tensor([[100.0, 50.0, 3000.0]] * 4, dtype=torch.float64)
    moved = move(windows, place, SKELETON)
    torch.testing.assert_close(moved[:, 2, 0], place)
    torch.testing.assert_close(moved - moved[:, 2:3, :1], windows - windows[:, 2:3, :1])


def test_groups_are_held_by_name():
    free = free_groups(SKELETON, ("spine", "forearm"), "lpa.frozen_angles")
    names = list(SKELETON.bone_groups)
    assert [name for name, value in zip(names, free, strict=True) if value == 0] == ["spine", "forearm"]
    assert group_index(SKELETON)[SKELETON.bone_names.index("lwrist")] == names.index("forearm")
    assert bool(free_groups(get_skeleton("lsp14"), ("spine",), "x").all()), "a group that is not there holds nothing"
    with pytest.raises(ConfigError, match=r"lpa\.frozen_angles 'tigh'\. Did you mean 'thigh'"):
        free_groups(SKELETON, ("tigh",), "lpa.frozen_angles")

"""Limbs of one pose on the body of another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseda.stages.lpa.crossover import LIMBS, Crossover
from tests.stages.lpa.people import SKELETON, bones_of, draws, walking


@pytest.fixture(scope="module")
def windows(random_people):
    return walking(random_people)


def girdle_cosines(pose, limb):
    """Cosines of a limb's two bones with the line across its girdle and with the spine, by NumPy: (2, 2)."""
    at = {name: pose[i].numpy() for i, name in enumerate(SKELETON.joints)}
    leg = limb[0].endswith("knee")
    across = at["lhip"] - at["rhip"] if leg else at["lshoulder"] - at["rshoulder"]
    spine = at["thorax"] - at["pelvis"]
    side = limb[0][0]
    start = at[side + ("hip" if leg else "shoulder")]
    bones = [at[limb[0]] - start, at[limb[1]] - at[limb[0]]]
    across = across / np.linalg.norm(across)
    up = spine - (spine @ across) * across
    axes = [across, up / np.linalg.norm(up)]
    return np.array([[bone @ axis / np.linalg.norm(bone) for axis in axes] for bone in bones])


def test_exchanged_limbs_keep_their_angles_to_the_girdle_and_take_the_lengths_of_the_new_body(windows):
    swap = Crossover(SKELETON).double()
    made = swap(windows, 1.0, draws())
    before, after = (np.linalg.norm(bones_of(p), axis=-1) for p in (windows, made))
    np.testing.assert_allclose(after, before, rtol=1e-9)
    for b in range(6):
        for t in (0, 3):
            for limb in LIMBS:
                expected = girdle_cosines(windows[(b - 1) % 6, t], limb)
                np.testing.assert_allclose(girdle_cosines(made[b, t], limb), expected, atol=1e-9)
    limbs = [SKELETON.index(joint) for limb in LIMBS for joint in limb]
    trunk = [joint for joint in range(17) if joint not in limbs]
    torch.testing.assert_close(made[:, :, trunk], windows[:, :, trunk])
    assert float((made - windows)[:, :, limbs].norm(dim=-1).mean()) > 50


def test_a_limb_of_the_same_pose_turned_elsewhere_fits_as_it_is(windows):
    """Window b is window 0, turned as a whole: each takes over the limbs that it has already."""
    turns = torch.from_numpy(Rotation.from_rotvec(np.random.default_rng(0).normal(0, 1, (6, 3))).as_matrix())
    same_pose = (windows[:1] - windows[:1, 2:3, :1]) @ turns.mT.unsqueeze(1)
    torch.testing.assert_close(Crossover(SKELETON).double()(same_pose, 1.0, draws()), same_pose, rtol=0, atol=1e-6)


def test_limbs_are_exchanged_with_the_given_probability_by_the_generator_passed(random_people):
    poses = random_people(400, seed=5)[:, None]
    swap = Crossover(SKELETON).double()
    torch.testing.assert_close(swap(poses, 0.0, draws()), poses, rtol=0, atol=1e-6)
    made = swap(poses, 0.3, draws(1))
    changed = (made - poses).norm(dim=-1)[:, 0] > 1.0
    for limb in LIMBS:
        assert 0.2 < float(changed[:, SKELETON.index(limb[1])].double().mean()) < 0.4
    torch.manual_seed(9)
    assert torch.equal(swap(poses, 0.3, draws(1)), made)
    assert not torch.equal(swap(poses, 0.3, draws(2)), made)

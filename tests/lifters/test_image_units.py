"""Poses in image units get back the perspective of a camera and the size of a body."""

import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.image_units import as_metres
from poseda.skeleton import get_skeleton
from tests.lifters.batch_norms import awake
from tests.lifters.published import check_lifter, stirred

HUMAN = get_skeleton("h36m17")
FOCAL, BONES_MM = 2.0, 4150.0


def seen(poses, depth):
    """Poses (N, 17, 3) in camera axes with their root at `depth` (N,), as image units, and the root's place."""
    poses = poses + depth[:, None, None] * torch.tensor([0.1, -0.2, 1.0], dtype=torch.float64)
    plane = FOCAL * poses[..., :2] / poses[..., 2:]
    behind = (poses[..., 2:] - poses[:, :1, 2:]) * (FOCAL / poses[:, :1, 2:])
    return torch.cat([plane - plane[:, :1], behind], -1), plane[:, :1]


def bodies(count=4):
    """Root-relative poses (N, 17, 3) in metres whose bones sum to BONES_MM."""
    poses = torch.randn(count, 17, 3, dtype=torch.float64)
    poses = poses - poses[:, :1]
    total = (HUMAN.bone_matrix(poses) @ poses).norm(dim=-1).sum(-1)
    return poses * (BONES_MM / 1000 / total)[:, None, None]


def test_a_body_of_that_size_is_recovered_wherever_it_stands():
    poses = bodies()
    values, place = seen(poses, torch.tensor([3.0, 4.0, 6.0, 20.0], dtype=torch.float64))
    torch.testing.assert_close(as_metres(values, place, HUMAN, BONES_MM, FOCAL), poses)
    torch.testing.assert_close(as_metres(values, place, HUMAN, BONES_MM / 2, FOCAL), poses / 2)


def test_coordinates_in_the_image_give_the_same_as_relative_ones():
    values, place = seen(bodies(), torch.full((4,), 5.0, dtype=torch.float64))
    moved = values + torch.randn(4, 1, 3, dtype=torch.float64)
    expected = as_metres(values, place, HUMAN, BONES_MM, FOCAL)
    torch.testing.assert_close(as_metres(moved, place, HUMAN, BONES_MM, FOCAL), expected)


def test_a_very_long_lens_leaves_only_the_scale():
    poses = bodies()
    found = as_metres(poses, torch.zeros(4, 1, 2), HUMAN, BONES_MM, 1e4)
    torch.testing.assert_close(found, poses, rtol=0, atol=1e-4)


def test_a_pose_without_extent_gives_finite_values_and_gradients():
    values = torch.zeros(1, 17, 3, requires_grad=True)
    metres = as_metres(values, torch.zeros(1, 1, 2), HUMAN, BONES_MM, FOCAL)
    metres.sum().backward()
    assert bool(metres.isfinite().all()) and bool(values.grad.isfinite().all())


SMALL = {"frames": 5, "dim": 16, "heads": 2, "dim_rep": 6, "units": "image"}
LIFTERS = {
    "motionbert": {"depth": 2},
    "motionagformer": {"layers": 2},
    "hot_motionbert": {"depth": 2, "max_frames": 5, "tokens": 3},
    "hot_motionagformer": {"layers": 2, "tokens": 4, "layer": 1},
}


@pytest.mark.parametrize("name", LIFTERS)
def test_lifters_in_image_units_are_lifters_that_keep_the_size(name):
    lifter = awake(stirred(name, **SMALL, **LIFTERS[name]))
    check_lifter(lifter)
    pose = lifter(torch.rand(2, 5, 17, 2) - 0.5).pose
    total = (lifter.skeleton.bone_matrix(pose) @ pose).norm(dim=-1).sum(-1)
    torch.testing.assert_close(total, torch.full_like(total, 4150.0))


@pytest.mark.parametrize("name", LIFTERS)
def test_refining_the_latent_does_not_move_the_root(name):
    lifter = stirred(name, **SMALL, **LIFTERS[name])
    latent = lifter.encode(torch.rand(2, 5, 17, 2)).detach().requires_grad_()
    assert latent.shape == (2, 5, 17, 8)
    lifter.decode(latent).pose.square().sum().backward()
    assert float(latent.grad[..., -2:].abs().max()) == 0 < float(latent.grad[..., :-2].abs().min())


@pytest.mark.parametrize("name", LIFTERS)
@pytest.mark.parametrize("options", [{"units": "pixels"}, {"bones_mm": 0.0}, {"focal": 0.0}])
def test_options_that_mean_nothing_are_refused(name, options):
    with pytest.raises(ConfigError, match=r"unit of network outputs 'pixels'|bones_mm=0.0|focal=0.0"):
        create_lifter(name, **options)

"""Root positions against SciPy's least squares, ground truth, and awkward input."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from poseda.errors import ShapeError
from poseda.geometry.root import place_by_keypoints, root_from_keypoints

F64 = torch.float64


def scene(count=20, noise=0.0, seed=0):
    """Root-relative poses (N, 17, 3) mm, rays (N, 17, 2) plus noise, and true roots (N, 3) mm."""
    generator = torch.Generator().manual_seed(seed)
    pose = torch.randn(count, 17, 3, generator=generator, dtype=F64) * 350
    pose[:, 0] = 0
    root = torch.rand(count, 3, generator=generator, dtype=F64) * torch.tensor([2000.0, 1000, 3000])
    root = root + torch.tensor([-1000.0, -500, 3000])
    points = pose + root[:, None]
    rays = points[..., :2] / points[..., 2:]
    return pose, rays + noise * torch.randn(rays.shape, generator=generator, dtype=F64), root


def residuals(root, pose, rays):
    """Sideways distance (J, 2) in mm of each joint from its ray."""
    place = pose + root
    return place[:, :2] - rays * place[:, 2:]


def test_noise_free_keypoints_give_the_true_root():
    pose, rays, truth = scene()
    root, valid = root_from_keypoints(pose, rays)
    torch.testing.assert_close(root, truth, rtol=0, atol=1e-6)
    assert valid.all()


def test_float32_is_right_to_a_hundredth_of_a_percent():
    pose, rays, truth = scene()
    root, valid = root_from_keypoints(pose.float(), rays.float())
    assert valid.all() and ((root.double() - truth).abs() / truth[:, 2:]).max() < 1e-4


def test_plain_solution_agrees_with_scipys_least_squares_with_weights():
    pose, rays, truth = scene(6, noise=0.01)
    weights = torch.rand(6, 17, generator=torch.Generator().manual_seed(5), dtype=F64)
    weights[:, 3] = 0
    root, _ = root_from_keypoints(pose, rays, weights, iterations=0)
    for n in range(6):
        scale = weights[n].sqrt().numpy()[:, None]
        fit = least_squares(
            lambda x, n=n, scale=scale: (scale * residuals(x, pose[n].numpy(), rays[n].numpy())).ravel(),
            x0=truth[n].numpy(),
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        np.testing.assert_allclose(root[n].numpy(), fit.x, rtol=1e-6)


def test_robust_solution_is_a_minimum_of_scipys_cauchy_loss():
    pose, rays, _ = scene(6, noise=0.004)
    rays[:, 5] += 0.05
    root, _ = root_from_keypoints(pose, rays, iterations=300)
    for n in range(6):
        p, r = pose[n].numpy(), rays[n].numpy()
        distance = np.linalg.norm(residuals(root[n].numpy(), p, r), axis=1)
        fit = least_squares(
            lambda x, p=p, r=r: np.linalg.norm(residuals(x, p, r), axis=1),
            x0=root[n].numpy() + 5,
            loss="cauchy",
            f_scale=1.5 * np.median(distance),
            xtol=1e-13,
            ftol=1e-14,
            gtol=1e-13,
        )
        np.testing.assert_allclose(root[n].numpy(), fit.x, rtol=1e-4, atol=0.2)


def test_reweighting_resists_a_wild_joint():
    pose, rays, truth = scene(50, noise=0.002)
    rays[:, 16] += 0.3
    plain = (root_from_keypoints(pose, rays, iterations=0)[0] - truth).norm(dim=-1).mean()
    robust = (root_from_keypoints(pose, rays)[0] - truth).norm(dim=-1).mean()
    assert robust < plain / 5


def test_missing_joints_are_not_read():
    pose, rays, truth = scene()
    weights = torch.ones(20, 17, dtype=F64)
    weights[:, [2, 7, 9]] = 0
    pose[:, 7], rays[:, 2], rays[:, 9] = torch.nan, torch.nan, 1e6
    root, valid = root_from_keypoints(pose, rays, weights)
    torch.testing.assert_close(root, truth, rtol=0, atol=1e-6)
    assert valid.all()


def test_each_sample_is_solved_by_itself():
    pose, rays, _ = scene(30, noise=0.01)
    together, _ = root_from_keypoints(pose, rays)
    alone = torch.cat([root_from_keypoints(pose[n : n + 1], rays[n : n + 1])[0] for n in range(30)])
    torch.testing.assert_close(together, alone)
    windows, valid = root_from_keypoints(pose.reshape(5, 6, 17, 3), rays.reshape(5, 6, 17, 2))
    torch.testing.assert_close(windows.reshape(30, 3), together)
    assert valid.shape == (5, 6)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_samples_without_an_answer_are_flagged_and_zero(dtype):
    pose, rays, truth = (value.to(dtype) for value in scene(6))
    weights = torch.ones(6, 17, dtype=dtype)
    weights[0] = 0
    weights[1, 1:] = 0
    rays[2] = torch.tensor([0.2, -0.1])
    rays[3] = -rays[3]
    pose[4, 5, 2] = -truth[4, 2] * 1.2
    rays[4, 5] = (pose[4, 5, :2] + truth[4, :2]) / (pose[4, 5, 2] + truth[4, 2])
    root, valid = root_from_keypoints(pose, rays, weights)
    assert valid.tolist() == [False] * 5 + [True]
    assert torch.equal(root[:5], torch.zeros(5, 3, dtype=dtype))


def test_a_pose_is_placed_at_its_root_or_where_its_projection_is_finite():
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(3, 17, 3, generator=generator, dtype=torch.float64) * 200
    at = pose + torch.tensor([100.0, -50.0, 4000.0], dtype=torch.float64)
    rays, weights = at[..., :2] / at[..., 2:], torch.ones(3, 17, dtype=torch.float64)
    weights[1] = 0
    root, valid, place = place_by_keypoints(pose, rays, weights)
    assert valid.tolist() == [True, False, True]
    torch.testing.assert_close(place[::2], at[::2])
    torch.testing.assert_close(root[0], at[0, 0] - pose[0, 0])
    assert place[1].tolist() == [[0.0, 0.0, 1000.0]] * 17


def test_gradient_agrees_with_finite_differences_when_not_reweighted():
    pose, rays, _ = scene(2, noise=0.01)
    weights = torch.ones(2, 17, dtype=F64)
    weights[0, 4] = 0

    def root(pose, rays):
        return root_from_keypoints(pose, rays, weights, iterations=0)[0]

    assert torch.autograd.gradcheck(root, (pose.requires_grad_(), rays.requires_grad_()), atol=1e-3)


def test_gradients_stay_finite_beside_flagged_samples():
    pose, rays, _ = (value.float() for value in scene(4))
    weights = torch.ones(4, 17)
    weights[0], weights[1, 1:] = 0, 0
    rays[2] = 0.1
    pose.requires_grad_(), rays.requires_grad_()
    root_from_keypoints(pose, rays, weights)[0].sum().backward()
    assert pose.grad.isfinite().all() and rays.grad.isfinite().all()
    assert pose.grad[3].abs().sum() > 0 and pose.grad[:3].abs().sum() == 0


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match=r"got \(17, 3\) and \(16, 2\)"):
        root_from_keypoints(torch.zeros(17, 3), torch.zeros(16, 2))
    with pytest.raises(ShapeError, match=r"Expected weights"):
        root_from_keypoints(torch.zeros(17, 3), torch.zeros(17, 2), torch.ones(1))

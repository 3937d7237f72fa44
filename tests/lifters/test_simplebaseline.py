"""SimpleBaseline against published parameter counts, key names and a float64 forward in NumPy."""

import numpy as np
import pytest
import torch

from poseda.errors import ConfigError, ShapeError
from poseda.geometry.camera import Camera
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter


def small(**options) -> Lifter:
    return create_lifter("simplebaseline", seed=0, **{"hidden": 16, **options}).eval()


def shake(lifter: Lifter) -> None:
    """Batch norms away from their start, where a wrong wiring would not show."""
    generator = torch.Generator().manual_seed(1)
    for key, value in lifter.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) - (0.0 if "running_var" in key else 0.4))


@pytest.mark.parametrize(("root_output", "count"), [(True, 4_291_632), (False, 4_288_557)])
def test_parameter_count_is_the_published_one(root_output, count):
    lifter = create_lifter("simplebaseline", skeleton="h36m16", sigma=False, root_output=root_output)
    assert sum(p.numel() for p in lifter.parameters()) == count


def test_keys_are_those_of_the_official_port():
    keys = set(small(sigma=False, blocks=1).state_dict())
    norms = ("batch_norm1", "linear_stages.0.batch_norm1", "linear_stages.0.batch_norm2")
    values = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    layers = ("w1", "linear_stages.0.w1", "linear_stages.0.w2", "w2")
    expected = {f"{n}.{v}" for n in norms for v in values} | {f"{n}.{v}" for n in layers for v in values[:2]}
    assert keys == expected


def reference(state: dict[str, np.ndarray], keypoints: np.ndarray, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Martinez et al.: poses of single frames (N, J, 2) in metres without root, and log scales."""

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def hidden(layer, norm, x):
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        x = (linear(layer, x) - mean) / np.sqrt(var + 1e-5) * state[f"{norm}.weight"] + state[f"{norm}.bias"]
        return np.maximum(x, 0)

    x = hidden("w1", "batch_norm1", keypoints.reshape(len(keypoints), -1))
    for s in range(blocks):
        y = hidden(f"linear_stages.{s}.w1", f"linear_stages.{s}.batch_norm1", x)
        x = x + hidden(f"linear_stages.{s}.w2", f"linear_stages.{s}.batch_norm2", y)
    return linear("w2", x).reshape(len(x), -1, 3), linear("w_sigma", x)


@pytest.mark.parametrize("root_output", [True, False])
def test_forward_agrees_with_a_float64_reference(root_output):
    lifter = small(blocks=2, root_output=root_output)
    shake(lifter)
    keypoints = torch.rand(3, 2, 17, 2) - 0.5
    state = {key: value.numpy().astype(np.float64) for key, value in lifter.state_dict().items()}
    metres, log_metres = reference(state, keypoints.double().numpy().reshape(6, 17, 2), 2)
    output = lifter(keypoints)
    assert output.pose.shape == (3, 2, 17, 3)
    expected = 1000 * metres[:, -16:].reshape(3, 2, 16, 3)
    np.testing.assert_allclose(output.pose[:, :, 1:].detach().numpy(), expected, rtol=1e-4, atol=1e-2)
    log_mm = log_metres.reshape(3, 2, 16) + np.log(1000)
    np.testing.assert_allclose(output.log_sigma[:, :, 1:].detach().numpy(), log_mm, rtol=1e-4, atol=1e-4)
    assert (output.pose[:, :, 0] == 0).all()
    assert (output.log_sigma[:, :, 0] == 0).all()


def test_root_row_is_where_the_skeleton_has_its_root():
    lifter = small(skeleton="3dhp17")
    shake(lifter)
    pose = lifter(torch.rand(2, 1, 17, 2)).pose
    assert [j for j in range(17) if (pose[:, :, j] == 0).all()] == [lifter.skeleton.root] == [14]


def test_fresh_scale_head_says_100_mm_for_every_joint():
    sigma = small()(torch.rand(4, 1, 17, 2)).log_sigma.exp()
    torch.testing.assert_close(sigma[:, :, 1:], torch.full((4, 1, 16), 100.0))


def test_without_scale_head_there_is_no_sigma():
    lifter = small(sigma=False)
    assert not lifter.has_sigma
    assert lifter(torch.rand(1, 1, 17, 2)).log_sigma is None


def test_frames_are_lifted_independently():
    lifter, keypoints = small(), torch.rand(2, 5, 17, 2)
    together = lifter(keypoints).pose
    alone = torch.cat([lifter(keypoints[:, t : t + 1]).pose for t in range(5)], 1)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-2)


def test_forward_is_decode_of_encode():
    lifter, keypoints = small(), torch.rand(2, 1, 17, 2)
    torch.testing.assert_close(lifter.decode(lifter.encode(keypoints)).pose, lifter(keypoints).pose)


def test_lift_normalises_pixels_by_each_camera():
    cameras = Camera.create(fx=[900.0, 900.0], fy=900.0, cx=500.0, cy=500.0, width=[1000, 2000], height=[1002, 1000])
    pixels = torch.rand(2, 1, 17, 2) * 1000
    scale = torch.tensor([1000.0, 2000.0])
    shift = torch.tensor([[1.0, 1.002], [1.0, 0.5]])
    screen = pixels / scale.view(2, 1, 1, 1) * 2 - shift.view(2, 1, 1, 2)
    torch.testing.assert_close(small().lift(pixels, cameras).pose, small()(screen).pose, rtol=1e-4, atol=1e-3)


def test_gradient_reaches_keypoints_and_all_weights():
    lifter, keypoints = small(), torch.rand(3, 1, 17, 2, requires_grad=True)
    output = lifter(keypoints)
    (output.pose.square().sum() + output.log_sigma.square().sum()).backward()
    assert keypoints.grad.abs().sum() > 0
    assert all(p.grad is not None for p in lifter.parameters())


@pytest.mark.parametrize("shape", [(1, 1, 16, 2), (1, 17, 2), (1, 1, 17, 3), (1, 0, 17, 2)])
def test_wrong_keypoints_are_refused_with_both_shapes(shape):
    with pytest.raises(ShapeError, match=r"\(B, T, 17, 2\).*got \("):
        small()(torch.zeros(shape))


@pytest.mark.parametrize("options", [{"hidden": 0}, {"dropout": 1.0}, {"blocks": -1}])
def test_option_out_of_range_is_refused(options):
    with pytest.raises(ConfigError, match=f"option {next(iter(options))}="):
        create_lifter("simplebaseline", **options)

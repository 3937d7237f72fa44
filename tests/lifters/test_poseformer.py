"""PoseFormer: published parameter counts and checkpoint layout, and the order of its tokens."""

import numpy as np
import pytest
import torch
from scipy.special import erf

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from tests.lifters.published import check_lifter, count, layout, shapes, stirred


@pytest.mark.parametrize(("frames", "number"), [(9, 9_563_645), (27, 9_573_455), (81, 9_602_885)])
def test_parameter_count_is_the_published_one(frames, number):
    assert count("poseformer", frames=frames) == number


def test_state_has_the_published_names_and_shapes():
    config, keys = layout("poseformer")
    options = {"frames": config["T"], "dim": config["dim"], "depth": config["depth"], "heads": config["heads"]}
    assert shapes(create_lifter("poseformer", sigma=False, **options)) == keys


def test_a_frame_token_is_its_joints_side_by_side():
    lifter = stirred("poseformer", frames=3, dim=8, depth=1, heads=2)
    keypoints = torch.randn(2, 3, 17, 2)
    with torch.no_grad():
        tokens = []
        for t in range(3):
            joints = lifter.Spatial_patch_to_embedding(keypoints[:, t]) + lifter.Spatial_pos_embed[0]
            joints = lifter.Spatial_norm(lifter.Spatial_blocks[0](joints[:, None])[:, 0])
            tokens.append(torch.cat([joints[:, j] for j in range(17)], -1) + lifter.Temporal_pos_embed[0, t])
        mixed = lifter.Temporal_norm(lifter.blocks[0](torch.stack(tokens, 1)[:, :, None])[:, :, 0])
        weight = lifter.weighted_mean.weight[0, :, 0]
        expected = sum(weight[t] * mixed[:, t] for t in range(3)) + lifter.weighted_mean.bias
        torch.testing.assert_close(lifter.encode(keypoints)[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_it_lifts_the_centre_of_windows():
    check_lifter(stirred("poseformer", frames=5, dim=4, depth=2, heads=2))


def test_windows_without_centre_are_refused():
    with pytest.raises(ConfigError, match="frames=8 must be odd"):
        create_lifter("poseformer", frames=8)


def test_forward_agrees_with_a_float64_reference():
    lifter = stirred("poseformer", frames=3, dim=4, depth=2, heads=2).double()
    w = {key: value.numpy() for key, value in lifter.state_dict().items()}
    keypoints = torch.randn(2, 3, 17, 2, dtype=torch.float64)
    with torch.no_grad():
        found = lifter(keypoints).pose.numpy()
    for window, pose in zip(keypoints.numpy(), found, strict=True):
        tokens = []
        for frame in window:
            x = linear(frame, w, "Spatial_patch_to_embedding") + w["Spatial_pos_embed"][0]
            for i in range(2):
                x = transformer_block(x, w, f"Spatial_blocks.{i}")
            tokens.append(norm(x, w, "Spatial_norm", 1e-6).reshape(-1))
        x = np.stack(tokens) + w["Temporal_pos_embed"][0]
        for i in range(2):
            x = transformer_block(x, w, f"blocks.{i}")
        x = norm(x, w, "Temporal_norm", 1e-6)
        mean = sum(w["weighted_mean.weight"][0, t, 0] * x[t] for t in range(3)) + w["weighted_mean.bias"]
        joints = linear(norm(mean, w, "head.0", 1e-5), w, "head.1").reshape(17, 3)
        np.testing.assert_allclose(pose[0, 1:], 1000 * joints[1:], rtol=1e-9, atol=1e-6)


def linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(x, w, name, eps):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def transformer_block(x, w, name):
    """Pre-norm block of two heads on tokens (N, C): rows of qkv are queries, keys, values, head by head."""
    q, k, v = np.split(linear(norm(x, w, f"{name}.norm1", 1e-6), w, f"{name}.attn.qkv"), 3, -1)
    width, heard = x.shape[-1] // 2, np.zeros_like(x)
    for part in (slice(0, width), slice(width, None)):
        scores = np.exp(q[:, part] @ k[:, part].T / np.sqrt(width))
        heard[:, part] = scores / scores.sum(-1, keepdims=True) @ v[:, part]
    x = x + linear(heard, w, f"{name}.attn.proj")
    hidden = linear(norm(x, w, f"{name}.norm2", 1e-6), w, f"{name}.mlp.fc1")
    return x + linear(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, w, f"{name}.mlp.fc2")

"""GUMLP against the published count and keys, and a forward written out in NumPy float64."""

import math

import numpy as np
import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.graphs import skeleton_partitions
from poseda.skeleton import get_skeleton
from tests.lifters.published import check_lifter, layout, shapes, stirred


def small(**options) -> Lifter:
    return stirred("gumlp", **{"channels": 8, "blocks": 2, **options})


def test_parameter_count_is_the_published_one():
    with torch.device("meta"):
        lifter = create_lifter("gumlp")
    assert sum(p.numel() for p in lifter.parameters()) == 4_509_059


def test_keys_and_shapes_are_the_official_ones():
    with torch.device("meta"):
        assert shapes(create_lifter("gumlp")) == layout("uao")[1]


@pytest.mark.parametrize("skeleton", ["h36m17", "3dhp17", "h36m16"])
def test_outputs_root_row_batches_and_gradients(skeleton):
    check_lifter(small(skeleton=skeleton))


def reference(state: dict[str, np.ndarray], keypoints: np.ndarray, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Means (J, 3) and log scales (J,) in metres of one frame (J, 2)."""
    graphs = skeleton_partitions(get_skeleton("h36m17")).double().numpy()

    def linear(name, x):
        return x @ state[f"{name}.weight"].squeeze().T.reshape(x.shape[-1], -1) + state[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def dense(name, x):
        x = linear(f"{name}.linear.0", x)
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2

    x = linear("encoder.fc5", linear("encoder.fc1", keypoints))  # (J, C)
    for i in range(blocks):
        b = f"GCN_MLP.blocks.{i}."
        subsets = np.split(linear(b + "gcn1.conv1d", norm(b + "norm1", x.T).T), 4, axis=1)
        x = x + sum(graph.T @ subset for graph, subset in zip(graphs, subsets, strict=True))
        c = dense(b + "channel_mlp.linear_down", norm(b + "norm2", x))
        c = dense(b + "channel_mlp.linear_up", c + dense(b + "channel_mlp.linear_mid", c))
        s = norm(b + "norm3", x.T)
        s = dense(b + "spatial_mlp.linear_up2", dense(b + "spatial_mlp.linear_up1", s))
        s = s + dense(b + "spatial_mlp.linear_mid", s)
        s = dense(b + "spatial_mlp.linear_down2", dense(b + "spatial_mlp.linear_down1", s))
        x = x + c + s.T
    heads = [linear(f"pred_{h}.fc5", linear(f"pred_{h}.fc1", norm(f"GCN_MLP.norm_{h}", x))) for h in ("mu", "s")]
    return heads[0], heads[1][:, 0]


def test_forward_agrees_with_a_float64_reference():
    lifter = small()
    keypoints = torch.randn(17, 2)
    state = {key: value.double().numpy() for key, value in lifter.state_dict().items()}
    metres, log_metres = reference(state, keypoints.double().numpy(), 2)
    output = lifter(keypoints.view(1, 1, 17, 2))
    np.testing.assert_allclose(output.pose[0, 0, 1:].detach().numpy() / 1000, metres[1:], rtol=1e-4, atol=1e-4)
    log_mm = output.log_sigma[0, 0, 1:].detach().numpy()
    np.testing.assert_allclose(log_mm, log_metres[1:] + math.log(1000), rtol=1e-4, atol=1e-4)


def test_fresh_scale_head_says_100_mm_for_every_joint():
    sigma = create_lifter("gumlp", seed=0, channels=8).eval()(torch.rand(1, 1, 17, 2)).log_sigma.exp()
    torch.testing.assert_close(sigma[:, :, 1:], torch.full((1, 1, 16), 100.0))


def test_without_scale_head_there_are_no_weights_for_it():
    lifter = small(sigma=False)
    assert lifter(torch.rand(1, 1, 17, 2)).log_sigma is None
    assert not any("pred_s" in key or "norm_s" in key for key in lifter.state_dict())


def test_training_skips_whole_blocks_of_single_frames():
    lifter = small(drop_path=0.9, channel_dropout=0.0, spatial_dropout=0.0).train()
    keypoints = torch.rand(1, 1, 17, 2).expand(20, 5, 17, 2)
    poses = lifter(keypoints).pose.flatten(0, 1).detach()
    kinds = {tuple(pose.flatten().mul(10).round().tolist()) for pose in poses}
    assert 1 < len(kinds) <= 4  # of the last block: neither branch, one, the other, both


@pytest.mark.parametrize("options", [{"channels": 7}, {"blocks": 0}, {"spatial_dropout": 1.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=f"option {next(iter(options))}="):
        create_lifter("gumlp", **options)

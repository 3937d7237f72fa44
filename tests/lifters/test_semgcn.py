"""SemGCN against outputs and keys of the original network, published counts and float64 loops."""

import numpy as np
import pytest
import torch

from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.semgcn import NonLocal, SemGraphConv, joint_groups
from poseda.skeleton import get_skeleton
from tests.lifters.batch_norms import awake
from tests.lifters.published import check_lifter, count, layout, parity, shapes, stirred


def small(**options) -> Lifter:
    return awake(stirred("semgcn", **{"channels": 8, "blocks": 2, "non_local": True, **options}))


@pytest.mark.parametrize(("non_local", "expected"), [(False, 267_343), (True, 434_703)])
def test_parameter_count_is_the_published_one(non_local, expected):
    assert count("semgcn", skeleton="h36m16", non_local=non_local) == expected


@pytest.mark.parametrize("name", ["semgcn", "semgcn_nl"])
def test_keys_and_shapes_are_the_official_ones(name):
    config, official = layout(name)
    lifter = create_lifter("semgcn", skeleton="h36m16", non_local=config["non_local"], sigma=False)
    assert shapes(lifter) == official


def test_outputs_are_those_of_the_original_network():
    config, tensors, weights = parity("semgcn")
    options = {"channels": config["dim"], "blocks": config["layers"], "sigma": False}
    lifter = create_lifter("semgcn", skeleton="h36m16", **options).eval()
    lifter.load_state_dict(weights)
    keypoints, expected = tensors["input"].unsqueeze(1), tensors["output.0"]
    with torch.no_grad():
        metres = lifter.gconv_output(lifter.encode(keypoints)[:, 0])  # with the root, which a pose does not show
        torch.testing.assert_close(metres, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(lifter(keypoints).pose[:, 0, 1:] / 1000, expected[:, 1:], rtol=0, atol=1e-5)


def test_graph_convolution_agrees_with_a_float64_loop():
    skeleton = get_skeleton("h36m17")
    layer = SemGraphConv(3, 4, skeleton).double()
    torch.nn.init.normal_(layer.e)
    x = torch.randn(2, 17, 3, dtype=torch.float64)
    weight, e, bias = (p.detach().numpy() for p in (layer.W, layer.e[0], layer.bias))
    expected, place = np.zeros((2, 17, 4)), 0
    for j in range(17):
        near = sorted({j, skeleton.parents[j], *(c for c in range(17) if skeleton.parents[c] == j)} - {-1})
        share = np.exp(e[place : place + len(near)])
        place += len(near)
        for k, s in zip(near, share / share.sum(), strict=True):
            expected[:, j] += s * (x[:, k].numpy() @ weight[int(k != j)])
    assert place == len(e) == 49
    np.testing.assert_allclose(layer(x).detach().numpy(), expected + bias, atol=1e-12)


def test_non_local_layer_agrees_with_a_float64_loop():
    skeleton = get_skeleton("h36m16")
    layer = NonLocal(6, skeleton).double().eval()
    torch.nn.init.normal_(layer.W[1].weight)
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    pairs = [[2, 3], [5, 6], [1, 4], [0, 7], [8, 9], [14, 15], [11, 12], [10, 13]]
    theta, phi, g = layer.theta(x), layer.phi(x), layer.g(x)
    project = layer.concat_project[0].weight.flatten()
    heard = torch.zeros(2, 3, 16, dtype=torch.float64)
    for n in range(2):
        for i in range(16):
            for a, b in pairs:
                key, value = torch.maximum(phi[n, :, a], phi[n, :, b]), torch.maximum(g[n, :, a], g[n, :, b])
                heard[n, :, i] += torch.relu(torch.cat([theta[n, :, i], key]) @ project) / 8 * value
    torch.testing.assert_close(layer(x), x + layer.W(heard))


@pytest.mark.parametrize("skeleton", ["h36m17", "h36m16", "3dhp28", "coco17"])
def test_every_joint_is_pooled_in_exactly_one_group(skeleton):
    groups = joint_groups(get_skeleton(skeleton))
    assert sorted(j for group in groups for j in set(group)) == list(range(get_skeleton(skeleton).num_joints))


@pytest.mark.parametrize("options", [{}, {"skeleton": "3dhp17"}, {"non_local": False, "skeleton": "h36m16"}])
def test_outputs_root_row_batches_and_gradients(options):
    check_lifter(small(**options))


def test_frames_are_lifted_alone():
    lifter, keypoints = small(), torch.rand(3, 2, 17, 2)
    torch.testing.assert_close(lifter(keypoints[:1, 1:]).pose, lifter(keypoints).pose[:1, 1:], rtol=1e-4, atol=1e-2)


def test_fresh_scale_head_says_100_mm_for_every_joint():
    sigma = create_lifter("semgcn", seed=0, channels=8).eval()(torch.rand(1, 1, 17, 2)).log_sigma.exp()
    torch.testing.assert_close(sigma[:, :, 1:], torch.full((1, 1, 16), 100.0))

"""ST-GCN against the published count and keys, and a forward written as float64 loops over parts and joints."""

import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.stgcn import Block, NonLocal
from poseda.skeleton import get_skeleton
from tests.lifters.batch_norms import awake
from tests.lifters.published import check_lifter, count, layout, shapes, stirred

PARTS = [range(11, 14), range(14, 17), range(4, 7), range(1, 4), [0, 7, 8, 9, 10]]


def small(**options) -> Lifter:
    return awake(stirred("stgcn", **{"channels": 8, **options}))


def test_parameter_count_is_the_published_one():
    assert count("stgcn", skeleton="h36m16") == 3_627_847


def test_keys_and_shapes_are_those_of_poseaug():
    assert shapes(create_lifter("stgcn", skeleton="h36m16", sigma=False)) == layout("stgcn")[1]


@pytest.mark.parametrize("skeleton", ["h36m17", "h36m16", "3dhp17"])
def test_outputs_root_row_batches_and_gradients(skeleton):
    check_lifter(small(skeleton=skeleton))


def tokens(x):
    """The layout of the published layers, (N, C, 1, V), as ours, (N, V, C)."""
    return x.squeeze(2).transpose(1, 2)


def image(x):
    """And back."""
    return x.transpose(1, 2).unsqueeze(2)


def test_a_block_is_a_sum_over_subsets_then_a_pointwise_layer_and_the_residual():
    block = Block(3, 4, 0.0).double().eval()
    x, adjacency = torch.randn(2, 3, 1, 5).double(), torch.rand(4, 5, 5).double()
    mixed = torch.zeros(2, 4, 1, 5).double()
    per_subset = block.gcn.conv(x).reshape(2, 4, 4, 5)
    for subset in range(4):
        for w in range(5):
            for v in range(5):
                mixed[:, :, 0, w] += per_subset[:, subset, :, v] * adjacency[subset, v, w]
    expected = torch.relu(block.tcn(mixed) + block.residual(x))
    torch.testing.assert_close(image(block(tokens(x), adjacency)), expected)


def test_non_local_layer_agrees_with_a_float64_loop():
    layer = NonLocal(6).double().eval()
    torch.nn.init.normal_(layer.W[1].weight)
    x = torch.randn(2, 6, 1, 5).double()
    theta, phi, g = layer.theta(x), layer.phi(x), layer.g(x)
    heard = torch.zeros_like(g)
    for n in range(2):
        for i in range(5):
            scores = torch.stack([theta[n, :, 0, i] @ phi[n, :, 0, j] for j in range(5)]).exp()
            heard[n, :, 0, i] = sum(scores[j] / scores.sum() * g[n, :, 0, j] for j in range(5))
    torch.testing.assert_close(image(layer(tokens(x))), x + layer.W(heard))


def test_network_agrees_with_loops_over_parts_and_joints():
    lifter = small().double()
    net, keypoints = lifter.stgcn, torch.randn(3, 17, 2).double()
    norm = net.data_bn
    flat = keypoints.reshape(3, 34)
    flat = (flat - norm.running_mean) / (norm.running_var + 0.1).sqrt() * norm.weight + norm.bias
    x = torch.stack([flat[:, 0::2], flat[:, 1::2]], 1).unsqueeze(2)  # (N, 2, 1, 17)
    for block in net.st_gcn_networks:
        x = image(block(tokens(x), net.joint_graph))
    parts = torch.stack([x[..., list(part)].max(-1).values for part in PARTS], -1)
    for block in net.st_gcn_pool:
        parts = image(block(tokens(parts), net.part_graph))
    body = net.conv4(parts.max(-1, keepdim=True).values)
    back = torch.zeros(3, 16, 1, 17).double()
    for p, part in enumerate(PARTS):
        for joint in part:
            back[..., joint] = net.conv2(torch.cat([body, parts[..., p : p + 1]], 1))[..., 0]
    torch.testing.assert_close(net(keypoints), net.non_local(tokens(torch.cat([x, back], 1))))


def test_the_nose_that_h36m16_lacks_is_the_mean_of_thorax_and_head():
    sixteen = small(skeleton="h36m16", sigma=False)
    seventeen = small(sigma=False)
    seventeen.load_state_dict(sixteen.state_dict())
    keypoints = torch.randn(2, 1, 16, 2)
    nose = keypoints[:, :, 8:10].mean(2, keepdim=True)
    whole = torch.cat([keypoints[:, :, :9], nose, keypoints[:, :, 9:]], 2)
    kept = [j for j in range(17) if j != 9]
    torch.testing.assert_close(sixteen(keypoints).pose, seventeen(whole).pose[:, :, kept])


def test_the_order_of_the_joints_does_not_matter():
    human, other = get_skeleton("h36m17"), get_skeleton("3dhp17")
    order = [human.index(joint) for joint in other.joints]
    keypoints = torch.randn(2, 1, 17, 2)
    expected = small()(keypoints).pose[:, :, order]
    torch.testing.assert_close(small(skeleton="3dhp17")(keypoints[:, :, order]).pose, expected)


def test_dropout_is_the_papers_unless_one_rate_is_given():
    def rates(lifter):
        return {m.p for m in lifter.modules() if isinstance(m, torch.nn.Dropout)}

    assert rates(small()) == {0.05, 0.25, 0.1}
    assert rates(small(dropout=0.0)) == {0.0}


@pytest.mark.parametrize("options", [{"dropout": -0.5}, {"channels": 0}, {"skeleton": "coco17"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=f"option {next(iter(options))}="):
        create_lifter("stgcn", **options)

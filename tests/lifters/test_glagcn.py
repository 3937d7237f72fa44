"""GLA-GCN against published counts and keys, and its graph unit against a float64 loop."""

import pytest
import torch

from poseda.errors import ConfigError, ShapeError
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.glagcn import GLAGCNConfig, GraphUnit
from poseda.lifters.graphs import directed_adjacency
from poseda.skeleton import get_skeleton
from tests.lifters.batch_norms import awake
from tests.lifters.published import check_lifter, count, layout, shapes, stirred


def small(**options) -> Lifter:
    return awake(stirred("glagcn", **{"channels": 8, "frames": 9, **options}))


@pytest.mark.parametrize(
    ("frames", "skeleton", "expected"),
    [(27, "h36m17", 844_076), (243, "h36m17", 1_348_856), (27, "humaneva15", 842_724)],
)
def test_parameter_count_is_the_published_one(frames, skeleton, expected):
    assert count("glagcn", frames=frames, skeleton=skeleton) == expected


@pytest.mark.parametrize(("name", "skeleton"), [("gla_gcn", "h36m17"), ("gla_gcn_he27", "humaneva15")])
def test_keys_and_shapes_are_the_official_ones(name, skeleton):
    config, official = layout(name)
    with torch.device("meta"):
        lifter = create_lifter("glagcn", frames=config["T"], skeleton=skeleton, sigma=False)
    assert shapes(lifter) == official


@pytest.mark.parametrize("options", [{}, {"frames": 3}, {"skeleton": "3dhp17"}])
def test_outputs_root_row_batches_and_gradients(options):
    check_lifter(small(**options))


@pytest.mark.parametrize("inputs", [2, 8])
def test_graph_unit_agrees_with_a_float64_loop(inputs):
    skeleton = get_skeleton("h36m17")
    unit = GraphUnit(inputs, GLAGCNConfig(channels=8), skeleton).double().eval()
    torch.nn.init.normal_(unit.PA)
    x, fixed = torch.randn(2, inputs, 5, 17).double(), directed_adjacency(skeleton).double()
    z = torch.zeros(2, 8, 5, 17).double()
    for subset in range(3):
        query, key = unit.conv_a[subset](x), unit.conv_b[subset](x)
        for n in range(2):
            heard = torch.zeros(1, inputs, 5, 17).double()
            for w in range(17):
                scores = torch.stack([(query[n, :, :, v] * key[n, :, :, w]).sum() / (2 * 5) for v in range(17)])
                share = scores.exp() / scores.exp().sum() + fixed[subset, :, w] + unit.PA[subset, :, w]
                heard[0, :, :, w] = sum(share[v] * x[n, :, :, v] for v in range(17))
            z[n] += unit.conv_d[subset](heard)[0]
    torch.testing.assert_close(unit(x.mT).mT, torch.relu(unit.bn(z) + unit.down(x)))


def test_the_input_norm_has_one_channel_per_coordinate_of_a_joint():
    lifter = small()
    keypoints = torch.rand(2, 9, 17, 2)
    norm = lifter.data_bn
    norm.running_mean.zero_(), norm.running_var.fill_(1 - norm.eps), norm.weight.data.fill_(1), norm.bias.data.zero_()
    shift = torch.rand(17, 2)
    expected = lifter(keypoints + shift).pose
    norm.bias.data.copy_(shift.flatten())
    torch.testing.assert_close(lifter(keypoints).pose, expected, rtol=1e-4, atol=1e-1)


def test_a_fresh_network_is_almost_its_residual_path():
    unit = create_lifter("glagcn", seed=0, channels=8, frames=3).eval().layers_tcngcn[0].gcn1
    x = torch.rand(2, 8, 17, 3)
    torch.testing.assert_close(unit(x), x, rtol=0, atol=1e-4)


def test_momentum_reaches_every_batch_norm():
    lifter = small(momentum=0.02)
    norms = [m for m in lifter.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.02}


def test_only_whole_windows_are_lifted():
    with pytest.raises(ShapeError, match="T 9, got"):
        small()(torch.rand(1, 10, 17, 2))


@pytest.mark.parametrize("options", [{"frames": 28}, {"channels": 10}, {"dropout": 1.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=f"option {next(iter(options))}="):
        create_lifter("glagcn", **options)


def test_each_level_leaves_a_third_of_the_frames_and_adds_the_middle_of_each_three():
    lifter = stirred("glagcn", frames=9, channels=8).double()
    keypoints = torch.randn(2, 9, 17, 2, dtype=torch.float64)
    with torch.no_grad():
        coordinates = lifter.data_bn(keypoints.reshape(2, 9, 34).transpose(1, 2))
        x = lifter.expand_gcn(coordinates.view(2, 17, 2, 9).transpose(1, 2))
        for plain, strided in zip(lifter.layers_tcngcn[::2], lifter.layers_tcngcn[1::2], strict=True):
            y = strided(plain(x))
            assert y.shape[3] == x.shape[3] // 3
            x = torch.stack([y[..., t] + x[..., 3 * t + 1] for t in range(y.shape[3])], 3)
        metres = torch.stack([lifter.fc.weight[:, :, 0] @ x[b, :, :, 0] for b in range(2)]) + lifter.fc.bias[:, None]
        found = lifter(keypoints).pose[:, 0]
    torch.testing.assert_close(found[:, 1:], 1000 * metres.transpose(1, 2)[:, 1:], rtol=1e-9, atol=1e-6)

"""MotionAGFormer: published parameter counts and checkpoint layout, and its graphs against loops."""

import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.motionagformer import SpatialGraph, TemporalGraph, bone_graph
from poseda.skeleton import get_skeleton
from tests.lifters.published import check_lifter, count, layout, shapes, stirred

PUBLISHED_GRAPH = {
    0: {1, 7}, 1: {0, 2}, 2: {1, 3}, 3: {2}, 4: {0, 5}, 5: {4, 6}, 6: {5}, 7: {0, 8}, 8: {7, 9}, 9: {8, 10},
    10: {9}, 11: {8, 12}, 12: {11, 13}, 13: {12}, 14: {8, 15}, 15: {14, 16}, 16: {15},
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"variant": "xs"}, 2_241_531),
        ({"variant": "s"}, 4_817_119),
        ({"variant": "b"}, 11_723_811),
        ({"variant": "b", "frames": 81}, 11_718_627),
        ({"variant": "l"}, 19_007_111),
        ({"variant": "l", "frames": 81}, 18_998_687),
    ],
)
def test_parameter_count_is_the_published_one(options, number):
    assert count("motionagformer", **options) == number


def test_state_has_the_published_names_and_shapes():
    config, keys = layout("motionagformer")
    options = {"frames": config["T"], "layers": config["n_layers"], "dim": config["dim"], "dim_rep": config["dim_rep"]}
    assert shapes(create_lifter("motionagformer", sigma=False, **options)) == keys


def test_bone_graph_is_the_published_one_with_its_missing_edges():
    graph = bone_graph(get_skeleton("h36m17"))
    for joint, around in PUBLISHED_GRAPH.items():
        for other in range(17):
            degrees = len(around) * len(PUBLISHED_GRAPH[other])
            expected = degrees**-0.5 if other in around else 0.0
            assert graph[joint, other].item() == pytest.approx(expected)


def test_other_joint_sets_have_the_full_bone_graph():
    skeleton = get_skeleton("h36m16")
    graph = bone_graph(skeleton)
    assert torch.equal(graph, graph.T)
    assert int((graph > 0).sum()) == 2 * len(skeleton.bones)


def stirred_graph(layer):
    with torch.no_grad():
        for value in (layer.batch_norm.running_mean, layer.batch_norm.weight, layer.batch_norm.bias):
            value.add_(torch.rand_like(value))
    return layer.double().eval()


def normalised(layer, y, node):
    norm = layer.batch_norm
    scaled = (y - norm.running_mean[node]) / (norm.running_var[node] + 1e-5).sqrt()
    return scaled * norm.weight[node] + norm.bias[node]


def test_temporal_graph_joins_each_frame_with_its_most_similar():
    layer = stirred_graph(TemporalGraph(4, frames=6, neighbours=2))
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    found = layer(x)
    for b in range(2):
        for j in range(3):
            track = x[b, :, j]
            similarity = track @ track.T
            joined = (similarity >= similarity.sort(-1, descending=True).values[:, 1:2]).double()
            scale = joined.sum(1).rsqrt().diag()
            y = scale @ joined @ scale @ layer.V(track) + layer.U(track)
            for t in range(6):
                torch.testing.assert_close(found[b, t, j], torch.relu(track[t] + normalised(layer, y[t], t)))


def test_spatial_graph_normalises_each_joint():
    layer = stirred_graph(SpatialGraph(4, bone_graph(get_skeleton("h36m17"))))
    x = torch.randn(2, 3, 17, 4, dtype=torch.float64)
    found = layer(x)
    y = torch.einsum("ij,btjc->btic", layer.adjacency, layer.V(x)) + layer.U(x)
    for j in range(17):
        expected = torch.relu(x[:, :, j] + normalised(layer, y[:, :, j], j))
        torch.testing.assert_close(found[:, :, j], expected)


def test_a_fresh_stream_is_almost_the_identity_and_both_have_one_half():
    lifter = create_lifter("motionagformer", seed=0, frames=3, layers=1, dim=8, dim_rep=6).eval()
    x = torch.randn(1, 3, 17, 8)
    torch.testing.assert_close(lifter.layers[0](x), x, rtol=0, atol=1e-3)
    assert {m.eps for m in lifter.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}


def test_two_channels_are_read_at_full_confidence():
    lifter = stirred("motionagformer", frames=3, layers=1, dim=8, dim_rep=6)
    keypoints = torch.randn(2, 3, 17, 2)
    with_confidence = torch.cat([keypoints, torch.ones(2, 3, 17, 1)], -1)
    torch.testing.assert_close(lifter.encode(keypoints), lifter.represent(with_confidence))


def test_it_lifts_windows():
    check_lifter(stirred("motionagformer", frames=5, layers=2, dim=16, heads=2, dim_rep=6))


def test_unknown_variant_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="xs"):
        create_lifter("motionagformer", variant="m")


def test_a_layer_weighs_attention_first_and_graph_second_both_of_the_same_input():
    layer = stirred("motionagformer", dim=8, layers=1, heads=2, frames=4).layers[0].double()
    x = torch.randn(2, 4, 17, 8, dtype=torch.float64)
    with torch.no_grad():
        streams = []
        for kind in ("att", "graph"):
            y = x
            for axis in ("spatial", "temporal"):
                branch = getattr(layer, f"{kind}_{axis}")
                y = y + branch.layer_scale_1 * branch.mixer(branch.norm1(y))
                y = y + branch.layer_scale_2 * branch.mlp(branch.norm2(y))
            streams.append(y)
        scores = torch.cat(streams, -1) @ layer.fusion.weight.T + layer.fusion.bias
        shares = scores.exp() / scores.exp().sum(-1, keepdim=True)
        expected = shares[..., :1] * streams[0] + shares[..., 1:] * streams[1]
        torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)

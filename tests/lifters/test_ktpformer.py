"""KTPFormer: published parameter counts and checkpoint layout, and its graph layers against loops."""

import numpy as np
import pytest
import torch

from poseda.lifters import create_lifter
from poseda.lifters.ktpformer import KTPFormer
from poseda.lifters.priors import GraphConv, GraphLayer, normalise_graph
from poseda.skeleton import get_skeleton
from tests.lifters.published import check_lifter, count, layout, shapes, stirred


@pytest.mark.parametrize(("frames", "number"), [(27, 34_765_014), (81, 34_859_622), (243, 35_213_430)])
def test_parameter_count_is_the_published_one(frames, number):
    assert count("ktpformer", frames=frames) == number


def test_state_has_the_published_names_and_shapes():
    config, keys = layout("ktpformer")
    lifter = create_lifter("ktpformer", frames=config["T"], dim=config["dim"], depth=config["depth"], sigma=False)
    assert shapes(lifter) == keys


@pytest.mark.parametrize("axis", ["joints", "frames"])
def test_graph_convolution_is_the_written_formula(axis):
    skeleton = get_skeleton("h36m17")
    nodes = 17 if axis == "joints" else 5
    edges = list(skeleton.bones) if axis == "joints" else [(t, t + 1) for t in range(4)]
    layer = GraphConv(3, 4, normalise_graph(edges, nodes), axis).double()
    with torch.no_grad():
        layer.adj2.add_(0.1 * torch.randn(nodes, nodes))
        layer.M.add_(0.1 * torch.randn(nodes, 4))
    x = torch.randn(2, 5, 17, 3, dtype=torch.float64)
    plain = np.zeros((nodes, nodes))
    for a, b in edges:
        plain[a, b] = plain[b, a] = 1
    plain /= plain.sum(1, keepdims=True)
    np.fill_diagonal(plain, 1)
    weights = [p.detach().numpy() for p in (layer.W, layer.M, layer.adj2, layer.bias)]
    found = layer(x).detach().numpy()
    for fixed in range(5 if axis == "joints" else 17):
        tokens = x[:, fixed] if axis == "joints" else x[:, :, fixed]
        got = found[:, fixed] if axis == "joints" else found[:, :, fixed]
        for b in range(2):
            np.testing.assert_allclose(got[b], by_formula(tokens[b].numpy(), plain + 0, *weights), atol=1e-7)


def by_formula(x, adjacency, w, m, learned, bias):
    """(S o I)(M o x W0) + (S o (1 - I))(M o x W1) + b with S the symmetric part of the edges."""
    edges = adjacency + learned
    edges = (edges + edges.T) / 2
    eye = np.eye(len(edges))
    return (edges * eye) @ (m * (x @ w[0])) + (edges * (1 - eye)) @ (m * (x @ w[1])) + bias


def test_graph_layer_normalises_each_channel_over_batch_frames_and_joints():
    layer = GraphLayer(2, 3, normalise_graph([(0, 1)], 2), "joints").train()
    x = torch.randn(4, 5, 2, 2)
    y = layer.gconv(x)
    mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2), correction=0)
    torch.testing.assert_close(layer(x), torch.relu((y - mean) / (variance + 1e-5).sqrt()), rtol=1e-4, atol=1e-5)


def test_prior_blocks_have_no_stochastic_depth_and_the_pairs_share_the_rest():
    lifter = create_lifter("ktpformer", frames=3, dim=8, depth=4, heads=2, drop_path=0.4)
    assert isinstance(lifter, KTPFormer)
    assert [block.drop_path.rate for block in lifter.STEblocks] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_norms_have_the_published_epsilons():
    lifter = create_lifter("ktpformer", frames=3, dim=8, depth=1, heads=2)
    for prior in (lifter.kpattention, lifter.tpattention):
        assert (prior.attn.norm1.eps, prior.norm2.eps) == (1e-5, 1e-6)
    assert (lifter.Spatial_norm.eps, lifter.STEblocks[0].norm1.eps, lifter.head[0].eps) == (1e-6, 1e-6, 1e-5)


def test_it_lifts_windows():
    check_lifter(stirred("ktpformer", frames=5, dim=16, depth=2, heads=2))

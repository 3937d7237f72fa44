"""ConvFormer against the counts of its paper, and its attention against a float64 loop."""

import math

import pytest
import torch
from torch import nn

from poseda.errors import ConfigError, ShapeError
from poseda.lifters import create_lifter
from poseda.lifters.base import Lifter
from poseda.lifters.convformer import ConvAttention, ConvFormerConfig, MixedConv
from tests.lifters.published import check_lifter, count, stirred


def small(**options) -> Lifter:
    return stirred("convformer", **{"frames": 5, "dim": 8, "heads": 2, "kernels": "3,5", **options})


@pytest.mark.parametrize(
    ("frames", "millions"), [(9, 2.5616), (27, 2.6547), (81, 3.4317), (143, 5.2444), (243, 10.2417)]
)
def test_parameter_count_is_that_of_the_paper(frames, millions):
    assert count("convformer", frames=frames) / 1e6 == pytest.approx(millions, abs=5e-5)


@pytest.mark.parametrize("options", [{}, {"skeleton": "3dhp17", "mixing": "sum"}, {"padding": "circular"}])
def test_outputs_root_row_batches_and_gradients(options):
    check_lifter(small(**options))


@pytest.mark.parametrize("mixing", ["softmax", "sum"])
@pytest.mark.parametrize("padding", ["zeros", "replicate", "circular"])
def test_kernels_summed_first_give_the_sum_of_the_convolutions(padding, mixing):
    layer = MixedConv(4, ConvFormerConfig(kernels="3,7,1", padding=padding, mixing=mixing)).double()
    nn.init.uniform_(layer.eta, 0.1, 1.0)
    share = layer.eta.exp() / layer.eta.exp().sum() if mixing == "softmax" else layer.eta / layer.eta.sum()
    x = torch.randn(2, 4, 9).double()
    expected = 0
    for i, size in enumerate((3, 7, 1)):
        same = nn.Conv1d(4, 4, size, padding=size // 2, padding_mode=padding).double()
        same.load_state_dict(layer.convs[i].state_dict())
        expected = expected + share[i] * same(x)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("over_joints", [True, False])
@pytest.mark.parametrize("scale", ["head", "width"])
def test_attention_agrees_with_a_float64_loop(over_joints, scale):
    tokens, width, heads = 5, 8, 2
    config = ConvFormerConfig(frames=5, dim=8, heads=heads, kernels="3", scale=scale)
    layer = ConvAttention(width if over_joints else tokens, width, over_joints, config).double().eval()
    x = torch.randn(2, tokens, width).double()

    def convolved(mix: MixedConv, z: torch.Tensor) -> torch.Tensor:
        """(tokens, width): the filter slides over the tokens or over the features."""
        z = z.T if over_joints else z
        weight, out = mix.convs[0].weight, torch.zeros_like(z)
        for at in range(z.shape[1]):
            out[:, at] = mix.convs[0].bias
            for tap in range(3):
                if 0 <= at + tap - 1 < z.shape[1]:
                    out[:, at] += weight[:, :, tap] @ z[:, at + tap - 1]
        return out.T if over_joints else out

    for n in range(2):
        q, k, v = (convolved(mix, x[n]) for mix in (layer.q, layer.k, layer.v))
        y = torch.zeros(tokens, width).double()
        for h in range(heads):
            part = slice(h * 4, h * 4 + 4)
            scores = q[:, part] @ k[:, part].T / math.sqrt(4 if scale == "head" else 8)
            y[:, part] = (scores.exp() / scores.exp().sum(1, keepdim=True)) @ v[:, part]
        weight, bias = layer.proj.weight, layer.proj.bias
        expected = y @ weight.T + bias if over_joints else weight @ y + bias[:, None]
        torch.testing.assert_close(layer(x)[n], expected)


def test_only_whole_windows_are_lifted():
    with pytest.raises(ShapeError, match="T 5, got"):
        small()(torch.rand(1, 6, 17, 2))


def test_training_draws_dropout_and_depth():
    lifter, keypoints = small(dropout=0.5).train(), torch.rand(1, 5, 17, 2)
    assert not torch.equal(lifter(keypoints).pose, lifter(keypoints).pose)
    still = small(dropout=0.0, drop_path=0.0).train()
    torch.testing.assert_close(still(keypoints).pose, still(keypoints).pose)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": 8}, "odd number of frames, got 8"),
        ({"dim": 12, "heads": 8}, "got 12 and 8"),
        ({"kernels": "3,4"}, "kernels=3,4"),
        ({"kernels": "3;5"}, "kernels=3;5"),
        ({"padding": "zero"}, "zeros"),
        ({"mixing": "softmx"}, "softmax"),
        ({"kernels": "3,37", "padding": "circular"}, "kernels=3,37 .* wider than 35.* 17 joints of h36m17"),
        ({"dropout": 1.0}, "option dropout="),
    ],
)
def test_options_that_make_no_network_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        create_lifter("convformer", **options)


@pytest.mark.parametrize("options", [{"kernels": "35", "padding": "circular"}, {"kernels": "41"}])
def test_kernels_as_wide_as_their_padding_allows_lift(options):
    assert small(**options)(torch.rand(1, 5, 17, 2)).pose.isfinite().all()

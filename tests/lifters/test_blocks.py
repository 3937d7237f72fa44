"""The shared transformer block against loops in double precision."""

import math

import numpy as np
import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import blocks
from poseda.lifters.blocks import Attention, Block, DropPath, check_heads, check_odd, drop_rates


def attend(tokens, weight, bias, proj, proj_bias, heads):
    """Self-attention of tokens (N, C), one query and one head at a time."""
    count, dim = tokens.shape
    each = dim // heads
    q, k, v = np.split(tokens @ weight.T + bias, 3, axis=1)
    out = np.zeros((count, dim))
    for h in range(heads):
        part = slice(h * each, (h + 1) * each)
        for i in range(count):
            score = [math.exp(q[i, part] @ k[j, part] / math.sqrt(each)) for j in range(count)]
            out[i, part] = sum(s * v[j, part] for j, s in enumerate(score)) / sum(score)
    return out @ proj.T + proj_bias


@pytest.mark.parametrize("axis", ["joints", "frames"])
def test_attention_is_that_of_a_loop_over_queries(axis):
    layer = Attention(12, 3, axis).double()
    x = torch.randn(2, 5, 4, 12, dtype=torch.float64)
    with torch.no_grad():
        found = layer(x).numpy()
    weights = [p.detach().numpy() for p in (layer.qkv.weight, layer.qkv.bias, layer.proj.weight, layer.proj.bias)]
    expected = np.zeros(x.shape)
    for b in range(2):
        if axis == "joints":
            for t in range(5):
                expected[b, t] = attend(x[b, t].numpy(), *weights, heads=3)
        else:
            for j in range(4):
                expected[b, :, j] = attend(x[b, :, j].numpy(), *weights, heads=3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_attention_without_bias_is_attention_with_zero_bias():
    plain, biased = Attention(8, 2, "frames", bias=False), Attention(8, 2, "frames")
    biased.load_state_dict({**plain.state_dict(), "qkv.bias": torch.zeros(24)})
    x = torch.randn(1, 4, 3, 8)
    torch.testing.assert_close(plain(x), biased(x))


@pytest.mark.parametrize("axis", ["joints", "frames"])
def test_a_batch_beyond_what_kernels_take_is_attended_in_pieces(axis, monkeypatch):
    layer, x = Attention(8, 2, axis), torch.randn(5, 4, 3, 8)
    whole = layer(x)
    monkeypatch.setattr(blocks, "MAX_BATCH", 3)
    torch.testing.assert_close(layer(x), whole)


@pytest.mark.parametrize("width", [4, 16, 64])
def test_short_attention_written_out_for_a_gpu_is_the_fused_one(width):
    q, k, v = torch.randn(3, 5, 2, 17, width)
    for scale in (width**-0.5, 0.3):
        exact = (scale * q.double() @ k.double().mT).softmax(-1) @ v.double()
        torch.testing.assert_close(blocks._attend_short(q, k, v, scale), exact.float(), rtol=1e-5, atol=1e-5)


def test_short_attention_of_narrow_heads_is_written_out_in_half_precision_too():
    q, k, v = torch.randn(3, 5, 2, 17, 4).bfloat16()
    exact = (0.5 * q.double() @ k.double().mT).softmax(-1) @ v.double()
    torch.testing.assert_close(blocks._attend_short(q, k, v, 0.5).double(), exact, rtol=0.05, atol=0.05)


def test_block_normalises_before_each_branch_with_its_own_epsilon():
    block = Block(8, 2, 2.0, "joints", eps=1e-2).double()
    x = 0.1 * torch.randn(2, 3, 4, 8, dtype=torch.float64)

    def norm(y):
        return (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-2).sqrt()

    middle = x + block.attn(norm(x))
    inner = norm(middle) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    gelu = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    expected = middle + gelu @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(("axis", "along"), [("joints", 2), ("frames", 1)])
def test_drop_path_drops_whole_frames_or_tracks_and_keeps_the_mean(axis, along):
    layer = DropPath(0.25, axis).train()
    dropped = layer(torch.ones(40, 20, 20, 2))
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (dropped == dropped.select(along, 0).unsqueeze(along)).all()
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.06)
    x = torch.randn(2, 3, 4, 5)
    assert layer.eval()(x) is x


def test_drop_rates_grow_from_zero():
    assert drop_rates(0.1, 3) == pytest.approx([0.0, 0.05, 0.1])
    assert drop_rates(0.1, 1) == [0.0]


def test_widths_that_heads_cannot_share_and_windows_without_centre_are_refused():
    with pytest.raises(ConfigError, match=r"dim=10 .*heads=4"):
        check_heads(10, 4)
    with pytest.raises(ConfigError, match="frames=8 must be odd"):
        check_odd("frames", 8)

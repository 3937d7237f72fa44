"""The pre-norm transformer block of the transformer lifters, on tokens (B, T, J, C) along joints or frames.

Leaf names are those of the published checkpoints: norm1, attn.qkv, attn.proj, norm2, mlp.fc1, mlp.fc2.
Tokens stay in one layout throughout: only views of queries, keys and values are transposed, and the fused
attention writes its result in the order that the next layer reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from poseda.errors import ConfigError
from poseda.lifters import gpu
from poseda.lifters.base import LifterConfig, check_range, init_sigma_head
from poseda.lifters.gpu import LayerNorm, Linear
from poseda.lifters.matmul import writes_attention

Axis = Literal["joints", "frames"]
BLOCK_EPS = 1e-6
"""Epsilon of the layer norms inside the published blocks; their heads keep PyTorch's 1e-5."""


MAX_BATCH = 65535
"""Largest batch of PyTorch's fused attention kernels for CUDA (its issue 146704)."""


@dataclass(frozen=True)
class TransformerConfig(LifterConfig):
    """Options that windowed transformer lifters share."""

    skeleton: str = "h36m17"
    """Joint set of input and output."""
    frames: int = 27
    """Frames of a window."""
    dim: int = 512
    """Channels of each token."""
    depth: int = 8
    """Blocks of each kind."""
    heads: int = 8
    """Attention heads."""
    mlp_ratio: float = 2.0
    """Width of the hidden layers over the tokens'."""
    drop_path: float = 0.1
    """Stochastic depth of the last block of each kind; it grows linearly from 0."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        check_range("frames", self.frames, 1, 4096)
        check_range("depth", self.depth, 1, 256)
        check_range("mlp_ratio", self.mlp_ratio, 0.01, 64.0)
        check_range("drop_path", self.drop_path, 0.0, 0.99)
        check_heads(self.dim, self.heads)


class Attends(nn.Module):
    """Base of the modules that call `attend`: an exported program takes no more than its kernels do."""


class Attention(Attends):
    """Multi-head self-attention of the tokens (B, T, J, C) of each frame, or of each joint's track."""

    def __init__(self, dim: int, heads: int, axis: Axis, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.axis = heads, axis
        self.qkv = Linear(dim, 3 * dim, bias=bias)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        q, k, v = self._by_joint(x) if self.axis == "joints" else self._by_frame(x)
        y = attend(q, k, v).transpose(1, 2).reshape(x.shape)
        projected: Tensor = self.proj(y)
        return projected

    def _by_joint(self, x: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values (B·T, heads, J, C/heads)."""
        parts: Tensor = self.qkv(x).flatten(0, 1).unflatten(-1, (3, self.heads, -1))
        return parts.permute(2, 0, 3, 1, 4).unbind(0)

    def _by_frame(self, x: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values (B, J·heads, T, C/heads): three products, so that joints and heads merge."""
        weights = self.qkv.weight.chunk(3)
        biases = (None,) * 3 if self.qkv.bias is None else self.qkv.bias.chunk(3)
        return [
            split_heads(gpu.linear(x, weight, bias), self.heads) for weight, bias in zip(weights, biases, strict=True)
        ]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """softmax(scale q k^T) v of (N, heads, L, D), in pieces where N is more than a GPU kernel takes.

    `scale` is 1 / sqrt(D) where it is not given.
    """
    if writes_attention(q):
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        return (scale * q @ k.mT).softmax(-1) @ v
    if q.is_cuda and not torch.compiler.is_compiling():
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        y = gpu.attention(q, k, v, scale)
        if y is not None:
            return y
        if gpu.is_short(q):
            return _attend_short(q, k, v, scale)
    return _attend_fused(q, k, v, scale)


def _attend_short(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attention of few tokens in many heads, on a GPU."""
    if q.dtype == torch.float32 or q.shape[-1] % 8:  # the latter is not a width of the kernel below
        scores = (scale * q) @ k.mT if q.shape[-1] < q.shape[-2] else scale * (q @ k.mT)
        return scores.softmax(-1) @ v
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        return _attend_fused(q, k, v, scale)


def _attend_fused(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    if q.shape[0] <= MAX_BATCH:  # not len(q), which makes a number of the batch of an exported program
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    pieces = zip(*(torch.split(x, MAX_BATCH) for x in (q, k, v)), strict=True)
    return torch.cat([F.scaled_dot_product_attention(q, k, v, scale=scale) for q, k, v in pieces])


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, J, C) -> (B, J·heads, T, C/heads), a view of contiguous input."""
    return x.reshape(*x.shape[:2], x.shape[2] * heads, -1).transpose(1, 2)


class DropPath(nn.Module):
    """Stochastic depth: drops a whole branch of random frames (or tracks), and scales up the others'."""

    def __init__(self, rate: float, axis: Axis) -> None:
        super().__init__()
        self.rate, self.axis = rate, axis

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        if not self.training or self.rate == 0.0:
            return x
        batch, frames, joints, _ = x.shape
        shape = (batch, frames, 1, 1) if self.axis == "joints" else (batch, 1, joints, 1)
        return x * F.dropout(x.new_ones(shape), self.rate)


class Mlp(nn.Module):
    """Linear, GELU, linear on the last axis."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """x + attention(norm1 x), then x + mlp(norm2 x), each with stochastic depth."""

    def __init__(
        self, dim: int, heads: int, mlp_ratio: float, axis: Axis, drop_path: float = 0.0, eps: float = BLOCK_EPS
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, axis)
        self.drop_path = DropPath(drop_path, axis)
        self.norm2 = LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class Representation(nn.Module):
    """Linear and tanh: the published "motion representation"."""

    def __init__(self, dim: int, dim_rep: int) -> None:
        super().__init__()
        self.fc = Linear(dim, dim_rep)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., dim_rep) in [-1, 1]."""
        return torch.tanh(self.fc(x))


def fuse(weigh: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """Mean of two streams (B, T, J, C), weighted for each token by a softmax of `weigh` (2C -> 2)."""
    share: Tensor = weigh(torch.cat([first, second], -1)).softmax(-1)
    return torch.lerp(second, first, share[..., :1].to(first))  # autocast leaves it in half on a CPU, and lerp refuses


def even_fusion(dim: int) -> nn.Linear:
    """The two streams' weighing, at first one half each."""
    layer = nn.Linear(2 * dim, 2)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, 0.5)
    return layer


def block_stack(count: int, dim: int, heads: int, mlp_ratio: float, axis: Axis, drop_path: float) -> nn.ModuleList:
    """`count` blocks whose stochastic depth grows linearly from 0 to `drop_path`."""
    return nn.ModuleList(Block(dim, heads, mlp_ratio, axis, rate) for rate in drop_rates(drop_path, count))


def drop_rates(last: float, count: int) -> list[float]:
    """`count` rates from 0 to `last` in equal steps."""
    return [last * i / max(count - 1, 1) for i in range(count)]


def sigma_head(dim: int, outputs: int, wanted: bool) -> nn.Linear | None:
    """A fresh scale head, or None where none is wanted."""
    if not wanted:
        return None
    head = nn.Linear(dim, outputs)
    init_sigma_head(head)
    return head


def joint_scales(head: nn.Linear | None, features: Tensor, root: int) -> Tensor | None:
    """Log scales (B, T, J-1) without the root's, of a head with one output, from features (B, T, J, C)."""
    if head is None:
        return None
    scales: Tensor = head(features).squeeze(-1)
    return torch.cat([scales[..., :root], scales[..., root + 1 :]], -1)


def append_confidence(keypoints: Tensor) -> Tensor:
    """(B, T, J, C) -> (B, T, J, C + 1): full confidence for networks that read one."""
    return F.pad(keypoints, (0, 1), value=1.0)


def check_heads(dim: int, heads: int) -> None:
    """Raise ConfigError unless each head gets the same whole number of channels."""
    if heads < 1 or dim < 1 or dim % heads:
        raise ConfigError(f"The lifter option dim={dim} is not a positive multiple of heads={heads}.")


def check_odd(option: str, value: int) -> None:
    """Raise ConfigError unless a window has a centre frame."""
    if value < 1 or value % 2 == 0:
        raise ConfigError(f"The lifter option {option}={value} must be odd, so that there is a centre frame.")

"""ConvFormer: transformer blocks whose queries, keys and values are convolutions (Diaz-Arias and Shin, 2304.02147).

Written from the paper; neither code nor weights were published. What the paper leaves open is either an option or
settled here so that its parameter counts come out: feed-forward layers of twice the width, biases everywhere, and a
projection along the same axis as the convolutions' channels. Departures: the convolutions of all kernel sizes are
summed into one before they run, which gives the same result, and the optional scale head.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poseda.errors import ConfigError, choose
from poseda.lifters.base import Lifter, LifterConfig, LifterOutput, check_range, gather_frames
from poseda.lifters.blocks import BLOCK_EPS, Attends, DropPath, Mlp, attend, drop_rates, sigma_head
from poseda.lifters.dropout import Dropout
from poseda.lifters.gpu import LayerNorm

_PADDINGS = {"zeros": "constant", "replicate": "replicate", "circular": "circular"}
_MIXINGS = ("softmax", "sum")
_SCALES = ("head", "width")


@dataclass(frozen=True)
class ConvFormerConfig(LifterConfig):
    """Options of ConvFormer."""

    skeleton: str = "h36m17"
    """Joint set of input and output."""
    frames: int = 27
    """Frames that one pose depends on, an odd number (9, 27, 81, 143 and 243 in the paper)."""
    dim: int = 32
    """Width of a joint's features, a multiple of heads."""
    spatial_blocks: int = 2
    """Blocks over the joints of each frame."""
    temporal_blocks: int = 2
    """Blocks over the frames."""
    heads: int = 8
    """Attention heads."""
    kernels: str = "7,7,7"
    """Odd kernel sizes of the convolutions that are mixed, with commas between."""
    mixing: str = "softmax"
    """How the weights of the kernels sum to 1 (the paper does not say): softmax, or sum: divided by their sum."""
    padding: str = "zeros"
    """What the convolutions see past the ends (not in the paper): zeros, replicate or circular."""
    scale: str = "head"
    """Attention scores are divided by the square root of: head, a head's width; or width, that of all heads."""
    dropout: float = 0.2
    """Dropout on the mixed queries, keys and values."""
    drop_path: float = 0.2
    """Chance that the last block's branches are skipped in training; it rises from 0 over the blocks."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        check_range("frames", self.frames, 1, 100_000)
        check_range("heads", self.heads, 1, 1024)
        check_range("dim", self.dim, self.heads, 16384)
        if self.dim % self.heads or self.frames % 2 == 0:
            raise ConfigError(
                f"The lifter options of convformer need an odd number of frames, got {self.frames}, and a dim "
                f"that is a multiple of heads, got {self.dim} and {self.heads}."
            )
        kernel_sizes(self.kernels)
        for option, choices in (("mixing", _MIXINGS), ("padding", _PADDINGS), ("scale", _SCALES)):
            choose(getattr(self, option), choices, f"{option} of convformer")
        for option in ("spatial_blocks", "temporal_blocks"):
            check_range(option, getattr(self, option), 1, 64)
        for option in ("dropout", "drop_path"):
            check_range(option, getattr(self, option), 0.0, 0.99)


def kernel_sizes(kernels: str) -> tuple[int, ...]:
    """Odd sizes from "3,5,7"; ConfigError for anything else."""
    parts = kernels.split(",")
    sizes = tuple(int(part) for part in parts if part.strip().isdecimal())
    if len(sizes) != len(parts) or not all(size % 2 for size in sizes):
        raise ConfigError(f"The lifter option kernels={kernels} must be odd sizes with commas between, as 3,5,7.")
    return sizes


class MixedConv(nn.Module):
    """Sum over i of eta_i Conv_i(x), with eta summing to 1, run as one convolution: (N, C, L) -> (N, C, L)."""

    def __init__(self, channels: int, config: ConvFormerConfig) -> None:
        super().__init__()
        sizes = kernel_sizes(config.kernels)
        self.convs = nn.ModuleList(nn.Conv1d(channels, channels, size) for size in sizes)
        start = 0.0 if config.mixing == "softmax" else 1.0 / len(sizes)
        self.eta = nn.Parameter(torch.full((len(sizes),), start))
        self.mixing, self.padding = config.mixing, _PADDINGS[config.padding]
        self.reach = max(sizes) // 2

    def shares(self) -> Tensor:
        """(kernels,), sum 1."""
        return self.eta.softmax(0) if self.mixing == "softmax" else self.eta / self.eta.sum()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, L) -> (N, C, L)."""
        weights, biases = zip(*((conv.weight, conv.bias) for conv in self.convs), strict=True)
        wide = [F.pad(w, [self.reach - w.shape[-1] // 2] * 2) for w in weights]  # all as wide as the widest
        shares = self.shares()
        weight = torch.einsum("k,koic->oic", shares, torch.stack(wide))
        return F.conv1d(F.pad(x, [self.reach] * 2, mode=self.padding), weight, shares @ torch.stack(biases))


class ConvAttention(Attends):
    """Dynamic multi-headed convolutional self-attention on tokens (N, tokens, width).

    Convolution channels and output projection lie along the features when `over_joints` (the filter slides over
    the tokens), and along the tokens otherwise (the filter slides over the features, one query mixes all frames).
    """

    def __init__(self, channels: int, width: int, over_joints: bool, config: ConvFormerConfig) -> None:
        super().__init__()
        self.heads, self.over_joints = config.heads, over_joints
        self.scale = 1 / math.sqrt(width // config.heads if config.scale == "head" else width)
        self.q, self.k, self.v = (MixedConv(channels, config) for _ in range(3))
        self.proj = nn.Linear(channels, channels)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) -> same."""
        laid = x.transpose(1, 2) if self.over_joints else x
        query, key, value = (self._heads(mix(laid)) for mix in (self.q, self.k, self.v))
        y = attend(query, key, value, self.scale)
        y = y.transpose(1, 2).reshape(x.shape)
        return self.proj(y) if self.over_joints else self.proj(y.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]

    def _heads(self, mixed: Tensor) -> Tensor:
        """Output of a MixedConv -> (N, heads, tokens, width / heads)."""
        tokens = self.dropout(mixed.transpose(1, 2) if self.over_joints else mixed)
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)  # type: ignore[no-any-return]


class Block(nn.Module):
    """x + attention(norm1 x), then x + mlp(norm2 x), with stochastic depth: (N, tokens, width) -> same."""

    def __init__(
        self, channels: int, width: int, over_joints: bool, config: ConvFormerConfig, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width, eps=BLOCK_EPS)
        self.attn = ConvAttention(channels, width, over_joints, config)
        self.norm2 = LayerNorm(width, eps=BLOCK_EPS)
        self.mlp = Mlp(width, 2 * width)
        self.drop_path = DropPath(drop_path, "joints")

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width) -> same."""
        x = x + self._thinned(self.attn(self.norm1(x)))
        return x + self._thinned(self.mlp(self.norm2(x)))

    def _thinned(self, branch: Tensor) -> Tensor:
        """(N, tokens, width) -> same; stochastic depth takes the N as the frames of one clip."""
        return self.drop_path(branch.unsqueeze(0)).squeeze(0)  # type: ignore[no-any-return]


class ConvFormer(Lifter):
    """A window's centre: (B, frames, J, 2) -> latent (B, frames, J·dim) -> (B, 1, J, 3) mm."""

    Config = ConvFormerConfig
    name = "convformer"

    def __init__(self, config: ConvFormerConfig | None = None) -> None:
        config = config or ConvFormerConfig()
        super().__init__(skeleton=config.skeleton, frames=config.frames, output="seq2frame", options=asdict(config))
        joints, frames, dim = self.skeleton.num_joints, config.frames, config.dim
        if config.padding == "circular" and max(kernel_sizes(config.kernels)) // 2 > joints:
            raise ConfigError(
                f"The lifter option kernels={config.kernels} of convformer with padding=circular is wider than "
                f"{2 * joints + 1}, which would go around the {joints} joints of {self.skeleton.name} more than once."
            )
        width = joints * dim
        self.Spatial_patch_to_embedding = nn.Linear(self.inputs, dim)
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, joints, dim))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, frames, width))
        rates = drop_rates(config.drop_path, config.spatial_blocks)
        self.Spatial_blocks = nn.Sequential(*(Block(dim, dim, True, config, rate) for rate in rates))
        rates = drop_rates(config.drop_path, config.temporal_blocks)
        self.blocks = nn.Sequential(*(Block(frames, width, False, config, rate) for rate in rates))
        self.Spatial_norm = LayerNorm(dim, eps=BLOCK_EPS)
        self.Temporal_norm = LayerNorm(width, eps=BLOCK_EPS)
        self.head = nn.Sequential(LayerNorm(width), nn.Linear(width, 3 * joints))
        self.weighted_mean = nn.Conv1d(frames, 1, 1)
        self.sigma_head = sigma_head(width, joints - 1, config.sigma)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, frames, J, 2) -> (B, frames, J·dim): the feature before the output layers."""
        return self._over_time(self._tokens(keypoints.flatten(0, 1)).view(*keypoints.shape[:2], -1))

    def encode_windows(self, frames: Tensor, windows: Tensor) -> Tensor:
        """Windows (B, T) of frames (N, J, 2) -> (B, T, J·dim), with the spatial blocks run once a frame."""
        return self._over_time(gather_frames(self._tokens(frames), windows))

    def _tokens(self, frames: Tensor) -> Tensor:
        """(N, J, 2) -> (N, J·dim), each frame from itself alone."""
        x = self.Spatial_patch_to_embedding(frames) + self.Spatial_pos_embed
        return self.Spatial_norm(self.Spatial_blocks(x)).flatten(1)  # type: ignore[no-any-return]

    def _over_time(self, tokens: Tensor) -> Tensor:
        """(B, frames, J·dim) -> same."""
        return self.Temporal_norm(self.blocks(tokens + self.Temporal_pos_embed))  # type: ignore[no-any-return]

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, frames, J·dim) -> poses (B, 1, J, 3) mm."""
        metres = self.weighted_mean(self.head(latent)).unflatten(-1, (-1, 3))
        scales = None if self.sigma_head is None else self.sigma_head(latent.mean(1, keepdim=True))
        return self.to_output(metres, scales)


LIFTER = ConvFormer

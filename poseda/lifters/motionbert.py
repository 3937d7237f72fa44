"""MotionBERT's DSTformer: two streams of spatial and temporal attention, fused (Zhu et al., ICCV 2023).

Written from the paper and published layer sizes; the weights have the published names and shapes. Departures:
the output is read as metres unless `units=image` (the published weights give 2.5D image coordinates), its root row
is set to 0, the confidence that the network reads besides x and y is 1 unless `represent` is called, and there is
an optional scale head. The published Lite form is `dim=256, mlp_ratio=4.0`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from poseda.lifters.base import LifterConfig, check_range
from poseda.lifters.blocks import (
    BLOCK_EPS,
    Attention,
    Mlp,
    Representation,
    check_heads,
    even_fusion,
    fuse,
    sigma_head,
)
from poseda.lifters.gpu import LayerNorm
from poseda.lifters.image_units import BONES_MM, FOCAL, RepresentationLifter, check_units
from poseda.lifters.priors import token_priors

_INIT_STD = 0.02


@dataclass(frozen=True)
class MotionBERTConfig(LifterConfig):
    """Options of MotionBERT."""

    skeleton: str = "h36m17"
    """Joint set of input and output."""
    frames: int = 27
    """Frames of a window, at most `max_frames`; published results are for 243."""
    max_frames: int = 243
    """Frames that have a temporal position (the published weights hold 243)."""
    dim: int = 512
    """Channels of each token (256 in Lite)."""
    depth: int = 5
    """Layers of two streams each."""
    heads: int = 8
    """Attention heads."""
    mlp_ratio: float = 2.0
    """Width of the hidden layers over `dim` (4 in Lite)."""
    dim_rep: int = 512
    """Channels of the motion representation before the head."""
    prior: str = "none"
    """ktp: KTPFormer's two blocks that know the bones and the order of time, before the first blocks; or none."""
    units: str = "metres"
    """What the network's numbers are: metres, or image, the 2.5D of the published weights."""
    bones_mm: float = BONES_MM
    """Sum of the body's bone lengths, which gives poses in image units their size."""
    focal: float = FOCAL
    """Focal length over half the image width, by which the perspective of image units is undone."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        check_units(self.units, self.bones_mm, self.focal)
        check_range("max_frames", self.max_frames, 1, 4096)
        check_range("frames", self.frames, 1, self.max_frames)
        check_range("depth", self.depth, 1, 256)
        check_range("mlp_ratio", self.mlp_ratio, 0.01, 64.0)
        check_range("dim_rep", self.dim_rep, 1, 65536)
        check_heads(self.dim, self.heads)


class Stream(nn.Module):
    """Spatial and temporal attention, each with its MLP, in the order "st" or "ts". (B, T, J, C) -> same."""

    def __init__(self, config: MotionBERTConfig, order: Literal["st", "ts"]) -> None:
        super().__init__()
        dim, hidden = config.dim, int(config.dim * config.mlp_ratio)
        self.order = order
        self.norm1_s = LayerNorm(dim, eps=BLOCK_EPS)
        self.norm1_t = LayerNorm(dim, eps=BLOCK_EPS)
        self.attn_s = Attention(dim, config.heads, "joints")
        self.attn_t = Attention(dim, config.heads, "frames")
        self.norm2_s = LayerNorm(dim, eps=BLOCK_EPS)
        self.norm2_t = LayerNorm(dim, eps=BLOCK_EPS)
        self.mlp_s = Mlp(dim, hidden)
        self.mlp_t = Mlp(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        if self.order == "st":
            return self._temporal(self._spatial(x))
        return self._spatial(self._temporal(x))

    def _spatial(self, x: Tensor) -> Tensor:
        x = x + self.attn_s(self.norm1_s(x))
        x = x + self.mlp_s(self.norm2_s(x))
        return x

    def _temporal(self, x: Tensor) -> Tensor:
        x = x + self.attn_t(self.norm1_t(x))
        x = x + self.mlp_t(self.norm2_t(x))
        return x


class MotionBERT(RepresentationLifter):
    """Windows: (B, T, J, 2) -> latent (B, T, J, dim_rep) -> (B, T, J, 3) mm. Leaf names of the authors' code."""

    Config = MotionBERTConfig
    name = "motionbert"
    cached_frames = 243

    def __init__(self, config: MotionBERTConfig | None = None) -> None:
        config = config or MotionBERTConfig()
        super().__init__(skeleton=config.skeleton, frames=config.frames, output="seq2seq", options=asdict(config))
        dim = config.dim
        self.units, self.in_image_units = config.units, (config.bones_mm, config.focal)
        self.joints_embed = nn.Linear(self.inputs + (not self.reads_confidence), dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.skeleton.num_joints, dim))
        self.temp_embed = nn.Parameter(torch.zeros(1, config.max_frames, 1, dim))
        self.blocks_st = nn.ModuleList(Stream(config, "st") for _ in range(config.depth))
        self.blocks_ts = nn.ModuleList(Stream(config, "ts") for _ in range(config.depth))
        self.norm = LayerNorm(dim, eps=BLOCK_EPS)
        self.pre_logits = Representation(dim, config.dim_rep)
        self.head = nn.Linear(config.dim_rep, 3)
        self._init_weights()
        self.ts_attn = nn.ModuleList(even_fusion(dim) for _ in range(config.depth))
        shape = (dim, config.heads, config.mlp_ratio)
        self.prior = token_priors(config.prior, *shape, self.skeleton, config.frames)
        self.sigma_head = sigma_head(config.dim_rep, 1, config.sigma)

    def _init_weights(self) -> None:
        """Truncated normal weights and positions, zero biases."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=_INIT_STD)
                nn.init.zeros_(layer.bias)
        for position in (self.pos_embed, self.temp_embed):
            nn.init.trunc_normal_(position, std=_INIT_STD)

    def features(self, keypoints: Tensor) -> Tensor:
        """Motion representation (B, T, J, dim_rep) of x, y, ..., confidence (B, T, J, C)."""
        x = self.joints_embed(keypoints) + self.pos_embed + self.temp_embed[:, : keypoints.shape[1]]
        x = self.prior(x)
        for first, second, weigh in zip(self.blocks_st, self.blocks_ts, self.ts_attn, strict=True):
            x = fuse(weigh, first(x), second(x))
        latent: Tensor = self.pre_logits(self.norm(x))
        return latent


LIFTER = MotionBERT

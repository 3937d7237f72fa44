"""HoT on MixSTE: drops most frames inside the network and recovers all at its end (Li et al., CVPR 2024).

Written from the paper and published layer sizes; the weights have the published names and shapes. Departures:
which frames are kept is the same in every pass (see `ties`), distances are computed directly rather than by a
matrix product, the root row of the output is set to 0, and there is an optional scale head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poseda.errors import choose
from poseda.lifters.base import check_range
from poseda.lifters.blocks import attend, split_heads
from poseda.lifters.mixste import MixSTE, MixSTEConfig

TIES = ("first", "none", "random")
_JITTER = 1e-6


@dataclass(frozen=True)
class HoTConfig(MixSTEConfig):
    """Options of HoT."""

    frames: int = 243
    """Frames of a window; the paper's is 243."""
    tokens: int = 81
    """Frames that are kept inside."""
    layer: int = 3
    """Pairs of blocks that see all frames, before the others see the kept ones."""
    neighbours: int = 2
    """Nearest frames, itself among them, that tell how densely a frame is surrounded."""
    ties: str = "first"
    """Of equally dense frames the first counts as denser, or none does, or a random one (as published)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("depth", self.depth, 2, 256)
        check_range("layer", self.layer, 1, self.depth - 1)
        check_range("tokens", self.tokens, 1, self.frames)
        check_range("neighbours", self.neighbours, 1, self.frames)
        choose(self.ties, TIES, "HoT tie rule")


class CrossAttention(nn.Module):
    """Each joint's frames, recovered by learned queries from the kept ones."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(dim, dim)
        self.linear_k = nn.Linear(dim, dim)
        self.linear_v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, kept: Tensor) -> Tensor:
        """Queries (1, T, C) and kept tokens (B, K, J, C) -> (B, T, J, C)."""
        batch, _, joints, dim = kept.shape
        # the queries are the same for all windows and joints: one projection, and one copy for the joints
        q = self.linear_q(queries)[:, :, None].expand(-1, -1, joints, -1)
        q = split_heads(q, self.heads).expand(batch, -1, -1, -1)
        k, v = (split_heads(layer(kept), self.heads) for layer in (self.linear_k, self.linear_v))
        y = attend(q, k, v).transpose(1, 2).reshape(batch, -1, joints, dim)
        recovered: Tensor = self.proj(y)
        return recovered


class HoT(MixSTE):
    """Windows: (B, T, J, 2) -> latent (B, T, J, dim) -> (B, T, J, 3) mm. Leaf names of the authors' code."""

    Config = HoTConfig
    name = "hot"

    def __init__(self, config: HoTConfig | None = None) -> None:
        config = config or HoTConfig()
        super().__init__(config)
        self.tokens, self.layer = config.tokens, config.layer
        self.neighbours, self.ties = config.neighbours, config.ties
        self.pos_embed_token = nn.Parameter(torch.zeros(1, config.tokens, config.dim))
        self.x_token = nn.Parameter(torch.zeros(1, config.frames, config.dim))
        self.cross_attention = CrossAttention(config.dim, config.heads)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, J, dim)."""
        x = self.alternate(self.first_pair(keypoints), 1, self.layer)
        index = select_frames(x.mean(2), self.tokens, self.neighbours, self.ties)
        kept = x.take_along_dim(index[:, :, None, None], 1) + self.pos_embed_token[:, :, None]
        kept = self.alternate(kept, self.layer, len(self.STEblocks))
        recovered: Tensor = self.x_token[:, :, None] + self.cross_attention(self.x_token, kept)
        return recovered


@torch.no_grad()
def select_frames(tokens: Tensor, keep: int, neighbours: int, ties: str = "first") -> Tensor:
    """Frames (B, keep), ascending, that stand for all of tokens (B, T, C): dense, and far from any denser one.

    Density peaks among the nearest neighbours (DPC-kNN). Two frames that are each other's nearest are equally
    dense to the bit, so `ties` matters: "first" lets the earlier one count as denser, "random" adds the
    published jitter of 1e-6, and "none" lets neither count as denser. Equal scores go to the earlier frame.
    """
    exact = "donot_use_mm_for_euclid_dist"  # a matrix product leaves frames at a distance from themselves
    distance = torch.cdist(tokens.float(), tokens.float(), compute_mode=exact) / tokens.shape[-1] ** 0.5
    nearest = distance.topk(neighbours, -1, largest=False).values
    density = nearest.square().mean(-1).neg().exp()
    if ties == "random":
        density = density + _JITTER * torch.rand_like(density)
    mine, theirs = density[:, :, None], density[:, None, :]
    denser = theirs > mine
    if ties == "first":
        frame = torch.arange(tokens.shape[1], device=tokens.device)
        denser = denser | ((theirs == mine) & (frame < frame[:, None]))
    farthest = distance.flatten(1).amax(1)[:, None, None]
    gap = torch.where(denser, distance, farthest).amin(-1)
    order: Tensor = (density * gap).argsort(dim=-1, descending=True, stable=True)
    return order[:, :keep].sort(-1).values


LIFTER = HoT

"""HoT on MixSTE: drops most frames inside the network and recovers all at its end (Li et al., CVPR 2024).

Written from the paper and published layer sizes; the weights have the published names and shapes. Departures:
which frames are kept is the same in every pass (see `ties`), distances are computed in float64, the root row of
the output is set to 0, and there is an optional scale head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poseda.errors import choose
from poseda.lifters.base import check_range
from poseda.lifters.blocks import Attends, attend, split_heads
from poseda.lifters.gpu import Linear
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
        check_pruning(self.frames, self.tokens, self.neighbours, self.ties)


def check_pruning(frames: int, tokens: int, neighbours: int, ties: str) -> None:
    """Raise ConfigError unless so many frames can be kept of a window, in this way."""
    check_range("tokens", tokens, 1, frames)
    check_range("neighbours", neighbours, 1, frames)
    choose(ties, TIES, "HoT tie rule")


class CrossAttention(Attends):
    """Each joint's frames, recovered by learned queries from the kept ones."""

    def __init__(self, dim: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = Linear(dim, dim, bias=bias)
        self.linear_k = Linear(dim, dim, bias=bias)
        self.linear_v = Linear(dim, dim, bias=bias)
        self.proj = Linear(dim, dim)

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


class TokenPruning(nn.Module):
    """What HoT adds to a lifter of tokens (B, T, J, C): frames dropped inside, and all recovered at its end."""

    def init_pruning(
        self, frames: int, tokens: int, neighbours: int, ties: str, *, dim: int, heads: int, bias: bool = True
    ) -> None:
        """Add the weights, under the published names; to be called once the lifter has its own."""
        self.tokens, self.neighbours, self.ties = tokens, neighbours, ties
        self.draws = "ties=random; take ties=first" if ties == "random" else ""
        self.pos_embed_token = nn.Parameter(torch.zeros(1, tokens, dim))
        self.x_token = nn.Parameter(torch.zeros(1, frames, dim))
        self.cross_attention = CrossAttention(dim, heads, bias)

    def keep_frames(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, tokens, J, C): the frames that stand for all, with new positions."""
        index = select_frames(x.mean(2), self.tokens, self.neighbours, self.ties)
        kept = x.gather(1, index[:, :, None, None].expand(-1, -1, *x.shape[2:]))
        return kept + self.pos_embed_token[:, :, None]

    def recover_frames(self, kept: Tensor) -> Tensor:
        """(B, tokens, J, C) -> (B, T, J, C)."""
        recovered: Tensor = self.x_token[:, :, None] + self.cross_attention(self.x_token, kept)
        return recovered


class HoT(TokenPruning, MixSTE):
    """Windows: (B, T, J, 2) -> latent (B, T, J, dim) -> (B, T, J, 3) mm. Leaf names of the authors' code."""

    Config = HoTConfig
    name = "hot"

    def __init__(self, config: HoTConfig | None = None) -> None:
        config = config or HoTConfig()
        super().__init__(config)
        self.layer = config.layer
        kept = (config.tokens, config.neighbours, config.ties)
        self.init_pruning(config.frames, *kept, dim=config.dim, heads=config.heads)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, J, dim)."""
        x = self.alternate(self.first_pair(keypoints), 1, self.layer)
        return self.recover_frames(self.alternate(self.keep_frames(x), self.layer, len(self.STEblocks)))


@torch.no_grad()
def select_frames(tokens: Tensor, keep: int, neighbours: int, ties: str = "first") -> Tensor:
    """Frames (B, keep), ascending, that stand for all of tokens (B, T, C): dense, and far from any denser one.

    Density peaks among the nearest neighbours (DPC-kNN). Two frames that are each other's nearest are equally
    dense to the bit, so `ties` matters: "first" lets the earlier one count as denser, "random" adds the
    published jitter of 1e-6, and "none" lets neither count as denser. Equal scores go to the earlier frame.
    """
    distance = _distances(tokens) / tokens.shape[-1] ** 0.5
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
    return _first_best(density * gap, keep)


def _first_best(scores: Tensor, keep: int) -> Tensor:
    """Places (B, keep), ascending, of the largest scores (B, T), of equal ones the first.

    By counting, as ONNX has no stable sort.
    """
    mine, theirs = scores[:, :, None], scores[:, None, :]
    place = torch.arange(scores.shape[1], device=scores.device)
    better = (theirs > mine) | ((theirs == mine) & (place < place[:, None]))
    chosen = better.sum(-1) < keep
    return torch.where(chosen, -place, -scores.shape[1]).topk(keep).indices


def _distances(tokens: Tensor) -> Tensor:
    """Euclidean distances (B, T, T) of tokens (B, T, C): symmetric to the bit, and 0 on the diagonal.

    As a product in float64: in float32 it would leave frames at a distance from themselves, and torch.cdist cannot
    be exported for batches of any size.
    """
    wide = tokens.double()
    products = wide @ wide.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    squared = squares[:, :, None] + squares[:, None, :] - (products + products.transpose(1, 2))
    same = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)
    return squared.clamp(min=0.0).masked_fill(same, 0.0).sqrt().float()


LIFTER = HoT

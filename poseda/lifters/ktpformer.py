"""KTPFormer: MixSTE behind two blocks that know the bones and the order of time (Peng et al., CVPR 2024).

Written from the paper and published layer sizes; the weights have the published names and shapes. Departures:
the root row of the output is set to 0, and there is an optional scale head.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from poseda.lifters.blocks import BLOCK_EPS, Attention, Axis, Mlp, drop_rates
from poseda.lifters.mixste import AlternatingLifter, MixSTEConfig
from poseda.skeleton import Skeleton

_XAVIER_GAIN = 1.414
_START_EDGE = 1e-6
"""What every learned edge weight starts at."""


@dataclass(frozen=True)
class KTPFormerConfig(MixSTEConfig):
    """Options of KTPFormer."""

    depth: int = 7
    """Pairs of a spatial and a temporal block, besides the two prior blocks."""


class GraphConv(nn.Module):
    """Graph convolution whose edges are a fixed graph plus learned weights, along joints or frames."""

    fixed: Tensor

    def __init__(self, inputs: int, outputs: int, adjacency: Tensor, axis: Axis) -> None:
        super().__init__()
        nodes = len(adjacency)
        self.axis = axis
        self.W = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2, inputs, outputs), gain=_XAVIER_GAIN))
        self.M = nn.Parameter(torch.ones(nodes, outputs))
        self.adj2 = nn.Parameter(torch.full((nodes, nodes), _START_EDGE))
        bound = 1 / math.sqrt(outputs)
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.register_buffer("fixed", adjacency, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, inputs) -> (B, T, J, outputs): each node's own part, scaled, and its neighbours' sum."""
        edges = self.fixed + self.adj2
        edges = (edges + edges.T) / 2
        own, others = edges.diagonal()[:, None], edges - edges.diagonal().diag()
        if self.axis == "joints":
            return own * self.M * (x @ self.W[0]) + others @ (self.M * (x @ self.W[1])) + self.bias
        weight = self.M[:, None]  # (T, 1, outputs)
        near = others @ (weight * (x @ self.W[1])).flatten(2)
        return (own * self.M)[:, None] * (x @ self.W[0]) + near.view(*x.shape[:3], -1) + self.bias


class GraphLayer(nn.Module):
    """Graph convolution, batch norm over channels, ReLU."""

    def __init__(self, inputs: int, outputs: int, adjacency: Tensor, axis: Axis) -> None:
        super().__init__()
        self.gconv = GraphConv(inputs, outputs, adjacency, axis)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, inputs) -> (B, T, J, outputs)."""
        y = self.gconv(x)
        return torch.relu(self.bn(y.flatten(0, 2)).view_as(y))


class TrajectoryGraph(nn.Module):
    """x + two graph layers along frames. (B, T, J, C) -> same."""

    def __init__(self, dim: int, frames: int) -> None:
        super().__init__()
        chain = normalise_graph([(t, t + 1) for t in range(frames - 1)], frames)
        self.gconv1 = GraphLayer(dim, dim, chain, "frames")
        self.gconv2 = GraphLayer(dim, dim, chain, "frames")

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        x = x + self.gconv2(self.gconv1(x))
        return x


class KinematicAttention(Attention):
    """Tokens of keypoints on the bone graph, plus attention over joints. (B, T, J, inputs) -> (B, T, J, C)."""

    def __init__(self, inputs: int, dim: int, heads: int, skeleton: Skeleton) -> None:
        super().__init__(dim, heads, "joints")
        joints = skeleton.num_joints
        self.kpa = GraphLayer(inputs, dim, normalise_graph(list(skeleton.bones), joints), "joints")
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, joints, dim))
        self.norm1 = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, inputs) -> (B, T, J, C)."""
        x = self.kpa(x) + self.Spatial_pos_embed
        return x + super().forward(self.norm1(x))


class TrajectoryAttention(Attention):
    """Tokens on the graph of consecutive frames, plus attention over frames. (B, T, J, C) -> same."""

    def __init__(self, dim: int, heads: int, frames: int) -> None:
        super().__init__(dim, heads, "frames")
        self.tpa = TrajectoryGraph(dim, frames)
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, frames, dim))
        self.norm1 = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        x = self.tpa(x) + self.Temporal_pos_embed[:, :, None]
        return x + super().forward(self.norm1(x))


class PriorBlock(nn.Module):
    """Attention that knows a graph, then x + mlp(norm2 x)."""

    def __init__(self, attention: Attention, dim: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=BLOCK_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, 2 or C) -> (B, T, J, C)."""
        x = self.attn(x)
        x = x + self.mlp(self.norm2(x))
        return x


class KTPFormer(AlternatingLifter):
    """Windows: (B, T, J, 2) -> latent (B, T, J, dim) -> (B, T, J, 3) mm. Leaf names of the authors' code."""

    Config = KTPFormerConfig
    name = "ktpformer"

    def __init__(self, config: KTPFormerConfig | None = None) -> None:
        config = config or KTPFormerConfig()
        rates = drop_rates(config.drop_path, config.depth + 1)[1:]  # the prior blocks have the first, 0
        super().__init__(config, asdict(config), rates)
        dim, heads, ratio = config.dim, config.heads, config.mlp_ratio
        self.kpattention = PriorBlock(KinematicAttention(self.inputs, dim, heads, self.skeleton), dim, ratio)
        self.tpattention = PriorBlock(TrajectoryAttention(dim, heads, config.frames), dim, ratio)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, J, dim)."""
        x = self.Temporal_norm(self.tpattention(self.Spatial_norm(self.kpattention(keypoints))))
        return self.alternate(x, 0, len(self.STEblocks))


def normalise_graph(edges: list[tuple[int, int]], nodes: int) -> Tensor:
    """Undirected edges as a matrix (N, N): rows sum to 1 over a node's neighbours, and the diagonal is 1."""
    adjacency = torch.zeros(nodes, nodes)
    for start, end in edges:
        adjacency[start, end] = adjacency[end, start] = 1.0
    return adjacency / adjacency.sum(-1, keepdim=True).clamp(min=1.0) + torch.eye(nodes)


LIFTER = KTPFormer

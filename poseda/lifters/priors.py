"""KTPFormer's priors (Peng et al., CVPR 2024): blocks that know the bones and the order of time.

KTPFormer begins with the two blocks. Other transformers take them before their first blocks with `prior=ktp`; as these
embed the keypoints themselves, the kinematic block then adds its graph layer to their tokens, as the trajectory block
does in KTPFormer, in place of embedding the keypoints. That form is ours: the paper's code has none for them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from poseda.errors import choose
from poseda.lifters.blocks import BLOCK_EPS, Attention, Axis, Mlp
from poseda.lifters.gpu import LayerNorm
from poseda.skeleton import Skeleton

PRIORS = ("none", "ktp")
_XAVIER_GAIN = 1.414
_START_EDGE = 1e-6
"""What every learned edge weight starts at."""


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


class TokenKinematics(Attention):
    """Tokens on the bone graph, plus attention over joints, for networks with an embedding of their own."""

    def __init__(self, dim: int, heads: int, skeleton: Skeleton) -> None:
        super().__init__(dim, heads, "joints")
        bones = normalise_graph(list(skeleton.bones), skeleton.num_joints)
        self.kpa = GraphLayer(dim, dim, bones, "joints")
        self.norm1 = LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        x = x + self.kpa(x)
        return x + super().forward(self.norm1(x))


class TrajectoryAttention(Attention):
    """Tokens on the graph of consecutive frames, plus attention over frames. (B, T, J, C) -> same."""

    def __init__(self, dim: int, heads: int, frames: int) -> None:
        super().__init__(dim, heads, "frames")
        self.tpa = TrajectoryGraph(dim, frames)
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, frames, dim))
        self.norm1 = LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, C) -> (B, T, J, C)."""
        x = self.tpa(x) + self.Temporal_pos_embed[:, :, None]
        return x + super().forward(self.norm1(x))


class PriorBlock(nn.Module):
    """Attention that knows a graph, then x + mlp(norm2 x)."""

    def __init__(self, attention: Attention, dim: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attn = attention
        self.norm2 = LayerNorm(dim, eps=BLOCK_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, 2 or C) -> (B, T, J, C)."""
        x = self.attn(x)
        x = x + self.mlp(self.norm2(x))
        return x


def kinematic_prior(prior: str, dim: int, heads: int, mlp_ratio: float, skeleton: Skeleton) -> nn.Module:
    """What to run on tokens (B, T, J, C) before a network's first spatial block; nothing for "none".

    Raises ConfigError for another name.
    """
    choose(prior, PRIORS, "prior")
    return nn.Identity() if prior == "none" else PriorBlock(TokenKinematics(dim, heads, skeleton), dim, mlp_ratio)


def trajectory_prior(prior: str, dim: int, heads: int, mlp_ratio: float, frames: int) -> nn.Module:
    """What to run on tokens (B, T, N, C) before a network's first temporal block; nothing for "none".

    Raises ConfigError for another name.
    """
    choose(prior, PRIORS, "prior")
    return nn.Identity() if prior == "none" else PriorBlock(TrajectoryAttention(dim, heads, frames), dim, mlp_ratio)


def token_priors(
    prior: str, dim: int, heads: int, mlp_ratio: float, skeleton: Skeleton, frames: int
) -> nn.Sequential:
    """Both, one after the other, on tokens (B, T, J, C) of joints and frames."""
    shape = (dim, heads, mlp_ratio)
    return nn.Sequential(kinematic_prior(prior, *shape, skeleton), trajectory_prior(prior, *shape, frames))


def normalise_graph(edges: list[tuple[int, int]], nodes: int) -> Tensor:
    """Undirected edges as a matrix (N, N): rows sum to 1 over a node's neighbours, and the diagonal is 1."""
    adjacency = torch.zeros(nodes, nodes)
    for start, end in edges:
        adjacency[start, end] = adjacency[end, start] = 1.0
    return adjacency / adjacency.sum(-1, keepdim=True).clamp(min=1.0) + torch.eye(nodes)

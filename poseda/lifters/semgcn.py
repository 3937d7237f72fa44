"""SemGCN: semantic graph convolutions on one frame, plain or with non-local layers (Zhao et al., CVPR 2019).

Written from the paper, with the leaf names of its published weights, which are for h36m16. Departures: other joint
sets work too (in the non-local layers, joints without a partner are pooled alone), and the optional scale head.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poseda.lifters.base import Lifter, LifterConfig, LifterOutput, check_range
from poseda.lifters.blocks import joint_scales, sigma_head
from poseda.lifters.dropout import Dropout
from poseda.lifters.graphs import neighbour_mask, select_joints
from poseda.skeleton import Skeleton

_PAIRS = "rknee-rankle lknee-lankle rhip-lhip pelvis-spine thorax-head relbow-rwrist lelbow-lwrist lshoulder-rshoulder"


@dataclass(frozen=True)
class SemGCNConfig(LifterConfig):
    """Options of SemGCN."""

    skeleton: str = "h36m17"
    """Joint set of input and output (h36m16 in the paper)."""
    channels: int = 128
    """Width of all hidden layers."""
    blocks: int = 4
    """Residual blocks of two graph convolutions each."""
    non_local: bool = False
    """Whether a non-local layer follows the first layer and each block."""
    dropout: float = 0.0
    """Dropout after each hidden layer."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        check_range("channels", self.channels, 2, 65536)
        check_range("blocks", self.blocks, 0, 64)
        check_range("dropout", self.dropout, 0.0, 0.99)


class SemGraphConv(nn.Module):
    """Graph convolution with one learned weight per edge: (N, J, inputs) -> (N, J, outputs).

    Each joint takes its own features through W[0] and its neighbours' through W[1], weighted by a softmax over the
    scores e of its row; e holds them in row-major order of the adjacency.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, inputs: int, outputs: int, skeleton: Skeleton) -> None:
        super().__init__()
        rows, columns = neighbour_mask(skeleton).nonzero().unbind(1)
        self.joints = skeleton.num_joints
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.W = nn.Parameter(torch.empty(2, inputs, outputs))
        self.e = nn.Parameter(torch.ones(1, len(rows)))
        self.bias = nn.Parameter(torch.empty(outputs))
        nn.init.xavier_uniform_(self.W, gain=1.414)
        nn.init.uniform_(self.bias, -1 / math.sqrt(outputs), 1 / math.sqrt(outputs))

    def adjacency(self) -> Tensor:
        """(J, J), rows sum to 1."""
        scores = self.e.new_full((self.joints, self.joints), -math.inf)
        return scores.index_put((self.rows, self.columns), self.e[0]).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, J, inputs) -> (N, J, outputs)."""
        adjacency = self.adjacency()
        own = adjacency.diagonal()
        return own[:, None] * (x @ self.W[0]) + (adjacency - own.diag()) @ (x @ self.W[1]) + self.bias


class GraphConv(nn.Module):
    """SemGraphConv, batch norm, ReLU, dropout: (N, J, inputs) -> (N, J, outputs)."""

    def __init__(self, inputs: int, outputs: int, skeleton: Skeleton, dropout: float) -> None:
        super().__init__()
        self.gconv = SemGraphConv(inputs, outputs, skeleton)
        self.bn = nn.BatchNorm1d(outputs)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, J, inputs) -> (N, J, outputs)."""
        x = self.bn(self.gconv(x).transpose(1, 2)).transpose(1, 2)
        return self.dropout(F.relu(x))  # type: ignore[no-any-return]


class ResidualGraphConv(nn.Module):
    """x + two GraphConv: (N, J, channels) -> (N, J, channels)."""

    def __init__(self, channels: int, skeleton: Skeleton, dropout: float) -> None:
        super().__init__()
        self.gconv1 = GraphConv(channels, channels, skeleton, dropout)
        self.gconv2 = GraphConv(channels, channels, skeleton, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, J, channels) -> (N, J, channels)."""
        return x + self.gconv2(self.gconv1(x))  # type: ignore[no-any-return]


class NonLocal(nn.Module):
    """Each joint hears the groups of all joints: (N, channels, J) -> (N, channels, J).

    Affinity ReLU(w · [theta_i; phi_g]) / groups, on keys and values max-pooled over each group of joints.
    """

    groups: Tensor

    def __init__(self, channels: int, skeleton: Skeleton) -> None:
        super().__init__()
        inner = channels // 2
        self.register_buffer("groups", torch.tensor(joint_groups(skeleton), device="cpu"), persistent=False)
        self.g = nn.Sequential(nn.Conv1d(channels, inner, 1))
        self.theta = nn.Conv1d(channels, inner, 1)
        self.phi = nn.Sequential(nn.Conv1d(channels, inner, 1))
        self.concat_project = nn.Sequential(nn.Conv2d(2 * inner, 1, 1, bias=False))
        self.W = nn.Sequential(nn.Conv1d(inner, channels, 1), nn.BatchNorm1d(channels))
        nn.init.zeros_(self.W[1].weight)  # type: ignore[arg-type]  # starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, J) -> (N, channels, J)."""
        query, key, value = self.theta(x), self._pool(self.phi(x)), self._pool(self.g(x))
        of_query, of_key = self.concat_project[0].weight.flatten().chunk(2)  # type: ignore[operator]
        affinity = F.relu((of_query @ query).unsqueeze(-1) + (of_key @ key).unsqueeze(-2)) / len(self.groups)
        return x + self.W(value @ affinity.transpose(1, 2))  # type: ignore[no-any-return]

    def _pool(self, x: Tensor) -> Tensor:
        """(N, C, J) -> (N, C, groups): the largest of each group."""
        return select_joints(x, self.groups).amax(-1)


class GraphNonLocal(nn.Module):
    """NonLocal on (N, J, channels), whose weights have the published name "nonlocal" in a state.

    That is a Python keyword, of which programs by torch.export cannot make an attribute.
    """

    def __init__(self, channels: int, skeleton: Skeleton) -> None:
        super().__init__()
        self.layer = NonLocal(channels, skeleton)
        self.register_state_dict_post_hook(_published_name)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_own_name)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """(N, J, channels) -> (N, J, channels)."""
        return self.layer(x.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


def _published_name(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    _rename(state, prefix + "layer.", prefix + "nonlocal.")


def _own_name(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    _rename(state, prefix + "nonlocal.", prefix + "layer.")


def _rename(state: dict[str, Tensor], old: str, new: str) -> None:
    """Keys that begin with `old` begin with `new`, in place."""
    for key in [key for key in state if key.startswith(old)]:
        state[new + key.removeprefix(old)] = state.pop(key)


class SemGCN(Lifter):
    """Each frame alone: (B, T, J, 2) -> latent (B, T, J, channels) -> (B, T, J, 3) mm."""

    Config = SemGCNConfig
    name = "semgcn"
    cached_frames = 64
    slides = True

    def __init__(self, config: SemGCNConfig | None = None) -> None:
        config = config or SemGCNConfig()
        super().__init__(skeleton=config.skeleton, frames=1, output="seq2seq", options=asdict(config))
        skeleton, channels = self.skeleton, config.channels

        def followed(layer: nn.Module) -> list[nn.Module]:
            return [layer, GraphNonLocal(channels, skeleton)] if config.non_local else [layer]

        self.gconv_input = nn.Sequential(*followed(GraphConv(self.inputs, channels, skeleton, config.dropout)))
        blocks = [ResidualGraphConv(channels, skeleton, config.dropout) for _ in range(config.blocks)]
        self.gconv_layers = nn.Sequential(*(layer for block in blocks for layer in followed(block)))
        self.gconv_output = SemGraphConv(channels, 3, skeleton)
        self.sigma_head = sigma_head(channels, 1, config.sigma)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, J, channels): the feature before the output layer."""
        x: Tensor = self.gconv_layers(self.gconv_input(keypoints.flatten(0, 1)))
        return x.reshape(*keypoints.shape[:3], -1)

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, T, J, channels) -> poses (B, T, J, 3) mm."""
        metres = self.gconv_output(latent.flatten(0, 1)).reshape(*latent.shape[:3], 3)
        return self.to_output(metres, joint_scales(self.sigma_head, latent, self.skeleton.root))


def joint_groups(skeleton: Skeleton) -> list[list[int]]:
    """Joints that the non-local layers pool together: the paper's pairs; a joint without partner twice."""
    pairs = [pair.split("-") for pair in _PAIRS.split()]
    groups = [[skeleton.index(j) for j in pair] for pair in pairs if set(pair) <= set(skeleton.joints)]
    paired = {joint for group in groups for joint in group}
    return groups + [[joint, joint] for joint in range(skeleton.num_joints) if joint not in paired]


LIFTER = SemGCN

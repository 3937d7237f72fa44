"""ST-GCN: the local-to-global graph network on one frame (Cai et al., ICCV 2019), in the form that PoseAug trains.

Written from the paper, with PoseAug's leaf names. The network sees h36m17 joints; other sets are converted on the
way in (h36m16 gets its nose as the mean of thorax and head, as in PoseAug) and picked by name on the way out.
Departures: a batch of one frame works in eval mode, and the optional scale head. The first batch norm has eps 0.1,
as the published weights were trained with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poseda.errors import ConfigError
from poseda.lifters.base import Lifter, LifterConfig, LifterOutput, check_range
from poseda.lifters.blocks import joint_scales, sigma_head
from poseda.lifters.dropout import Dropout
from poseda.lifters.graphs import partitioned_adjacency, skeleton_partitions, sum_subsets
from poseda.skeleton import convert_joints, get_skeleton, index_tensor

_PARTS = ((11, 12, 13), (14, 15, 16), (4, 5, 6), (1, 2, 3), (0, 7, 8, 9, 10))  # arms, legs, torso of h36m17
_TORSO = 4
_SUBSETS = 4


@dataclass(frozen=True)
class STGCNConfig(LifterConfig):
    """Options of ST-GCN."""

    skeleton: str = "h36m17"
    """Joint set of input and output: h36m16 for PoseAug's weights, or another one inside h36m17."""
    channels: int = 128
    """Width of the first layers; later ones are two and four times as wide."""
    dropout: float = -1.0
    """Dropout everywhere; -1 takes the paper's, 0.05 in blocks, 0.25 and 0.1 in the layers that fuse the scales."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        check_range("channels", self.channels, 1, 16384)
        if self.dropout != -1.0:
            check_range("dropout", self.dropout, 0.0, 0.99)
        whole = get_skeleton("h36m17")
        if not set(get_skeleton(self.skeleton).joints) <= set(whole.joints):
            raise ConfigError(f"The lifter option skeleton={self.skeleton} of stgcn has joints outside h36m17.")


class GraphSum(nn.Module):
    """Point-wise layer to one feature per subset, summed over each subset's neighbours: (N, V, C)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, _SUBSETS * outputs, 1)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """(N, V, inputs), (4, V, V) -> (N, V, outputs)."""
        return sum_subsets(_apply(self.conv, x), adjacency)


class Block(nn.Module):
    """ReLU(residual + graph sum and point-wise layer): (N, V, inputs) -> (N, V, outputs)."""

    def __init__(self, inputs: int, outputs: int, dropout: float, residual: bool = True) -> None:
        super().__init__()
        self.gcn = GraphSum(inputs, outputs)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            Dropout(dropout),
            nn.Conv2d(outputs, outputs, 1),
            nn.BatchNorm2d(outputs),
            Dropout(dropout),
        )
        self.residual: nn.Module | None = nn.Identity() if residual else None
        if residual and inputs != outputs:
            self.residual = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """(N, V, inputs), (4, V, V) -> (N, V, outputs)."""
        y = _apply(self.tcn, self.gcn(x, adjacency))
        return F.relu(y if self.residual is None else y + _apply(self.residual, x))


class NonLocal(nn.Module):
    """x + what each joint hears from all, by softmax of theta_i · phi_j: (N, V, C) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.g = nn.Conv2d(channels, inner, 1)
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.W = nn.Sequential(nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels))
        nn.init.zeros_(self.W[1].weight)  # type: ignore[arg-type]  # starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        """(N, V, C) -> same."""
        query, key, value = (_apply(layer, x) for layer in (self.theta, self.phi, self.g))
        affinity = (query @ key.transpose(1, 2)).softmax(-1)
        return x + _apply(self.W, affinity @ value)


def _apply(layer: nn.Module, x: Tensor) -> Tensor:
    """Point-wise layers, named and shaped as published for images (N, C, H, W), on the last axis of (N, V, C).

    There a 1×1 convolution is one matrix product, without copies.
    """
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x = _apply(part, x)
        return x
    if isinstance(layer, nn.Conv2d):
        return F.linear(x, layer.weight.flatten(1), layer.bias)
    if isinstance(layer, nn.BatchNorm2d):
        return layer(x.flatten(0, 1)[:, :, None, None]).view_as(x)  # type: ignore[no-any-return]
    return layer(x)  # type: ignore[no-any-return]


class Network(nn.Module):
    """Joints, five body parts and the whole body, and back: (N, 17, inputs) -> features (N, 17, 4·channels)."""

    joint_graph: Tensor
    part_graph: Tensor
    members: Tensor
    part_of: Tensor

    def __init__(self, inputs: int, channels: int, dropout: float) -> None:
        super().__init__()
        inside, whole, fuse = (0.05, 0.25, 0.1) if dropout < 0 else (dropout,) * 3
        c, c2, c4 = channels, 2 * channels, 4 * channels
        self.data_bn = nn.BatchNorm1d(17 * inputs, eps=0.1)
        blocks = [Block(inputs, c, inside, residual=False), Block(c, c, inside), Block(c, c2, inside)]
        self.st_gcn_networks = nn.ModuleList(blocks)
        self.st_gcn_pool = nn.ModuleList([Block(c2, c4, inside), Block(c4, c4, inside)])
        self.conv4 = nn.Sequential(nn.Conv2d(c4, c4, 1), nn.BatchNorm2d(c4), nn.ReLU(), Dropout(whole))
        self.conv2 = nn.Sequential(nn.Conv2d(2 * c4, c2, 1), nn.BatchNorm2d(c2), nn.ReLU(), Dropout(fuse))
        self.non_local = NonLocal(c4)
        self.fcn = nn.Sequential(Dropout(fuse), nn.Conv2d(c4, 3, 1))
        for name, value in _graphs().items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, keypoints: Tensor) -> Tensor:
        """(N, 17, inputs) -> (N, 17, 4·channels): the feature before the output layer."""
        x = self.data_bn(keypoints.flatten(1)).unflatten(1, (17, -1))
        for block in self.st_gcn_networks:
            x = block(x, self.joint_graph)
        parts = _select(x, self.members).amax(2)
        for block in self.st_gcn_pool:
            parts = block(parts, self.part_graph)
        body = _apply(self.conv4, parts.amax(1, keepdim=True)).expand_as(parts)
        parts = _apply(self.conv2, torch.cat([body, parts], -1))
        return self.non_local(torch.cat([x, _select(parts, self.part_of)], -1))  # type: ignore[no-any-return]


def _select(x: Tensor, index: Tensor) -> Tensor:
    """(N, V, C) -> (N, *index.shape, C). Unlike x[:, index], its gradient adds up in the same order every time."""
    return x.index_select(1, index.flatten()).view(x.shape[0], *index.shape, -1)


class STGCN(Lifter):
    """Each frame alone: (B, T, J, 2) -> latent (B, T, 17, 4·channels) -> (B, T, J, 3) mm."""

    Config = STGCNConfig
    name = "stgcn"
    cached_frames = 256
    slides = True

    def __init__(self, config: STGCNConfig | None = None) -> None:
        config = config or STGCNConfig()
        super().__init__(skeleton=config.skeleton, frames=1, output="seq2seq", options=asdict(config))
        self.whole = get_skeleton("h36m17")
        self.picked = tuple(self.whole.index(joint) for joint in self.skeleton.joints)
        self.stgcn = Network(self.inputs, config.channels, config.dropout)
        self.sigma_head = sigma_head(4 * config.channels, 1, config.sigma)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, 17, 4·channels): the feature before the output layer."""
        joints = convert_joints(keypoints, self.skeleton, self.whole)
        features: Tensor = self.stgcn(joints.flatten(0, 1))
        return features.view(*joints.shape[:3], -1)

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, T, 17, 4·channels) -> poses (B, T, J, 3) mm."""
        latent = latent.index_select(2, index_tensor(self.picked, latent.device))
        metres = _apply(self.stgcn.fcn, latent)
        return self.to_output(metres, joint_scales(self.sigma_head, latent, self.skeleton.root))


def _graphs() -> dict[str, Tensor]:
    """Adjacencies of joints and parts, members of each part (short ones repeat a joint), part of each joint."""
    longest = max(map(len, _PARTS))
    members = [[*part, *[part[0]] * (longest - len(part))] for part in _PARTS]
    part_of = [next(p for p, part in enumerate(_PARTS) if joint in part) for joint in range(17)]
    limbs = [(limb, _TORSO) for limb in range(_TORSO)]
    return {
        "joint_graph": skeleton_partitions(get_skeleton("h36m17")),
        "part_graph": partitioned_adjacency(len(_PARTS), limbs, [(0, 1), (2, 3)], _TORSO),
        "members": torch.tensor(members, device="cpu"),
        "part_of": torch.tensor(part_of, device="cpu"),
    }


LIFTER = STGCN

"""GUMLP with Gaussian heads: graph convolutions and U-shaped MLPs on one frame (UAO: Wang et al., TMM 2025).

Written from a description of the network, with the leaf names of its published weights, whose heads mu and s are the
pose and log_sigma here. Departures: the scale head starts at 100 mm for every joint, it can be left out, and other
joint sets than h36m17 work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from poseda.errors import ConfigError
from poseda.lifters.base import Lifter, LifterConfig, LifterOutput, check_range, init_sigma_head
from poseda.lifters.blocks import DropPath, drop_rates, joint_scales
from poseda.lifters.dropout import Dropout
from poseda.lifters.graphs import skeleton_partitions, sum_subsets
from poseda.skeleton import Skeleton

_EPS = 1e-6


@dataclass(frozen=True)
class GUMLPConfig(LifterConfig):
    """Options of GUMLP."""

    skeleton: str = "h36m17"
    """Joint set of input and output."""
    channels: int = 512
    """Width of a joint's features; an even number."""
    blocks: int = 3
    """Blocks of a graph convolution and two parallel MLPs."""
    drop_path: float = 0.2
    """Chance that the last block is skipped in training; it rises from 0 over the blocks."""
    channel_dropout: float = 0.1
    """Dropout in the MLPs over channels."""
    spatial_dropout: float = 0.05
    """Dropout in the MLPs over joints."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        check_range("channels", self.channels, 2, 65536)
        if self.channels % 2:
            raise ConfigError(f"The lifter option channels={self.channels} of gumlp must be even.")
        check_range("blocks", self.blocks, 1, 64)
        for option in ("drop_path", "channel_dropout", "spatial_dropout"):
            check_range(option, getattr(self, option), 0.0, 0.99)


class Affine(nn.Module):
    """Two linear layers with nothing in between: (..., inputs) -> (..., outputs)."""

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, inner)
        self.fc5 = nn.Linear(inner, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return self.fc5(self.fc1(x))  # type: ignore[no-any-return]


class Dense(nn.Module):
    """Linear, GELU, dropout: (..., inputs) -> (..., outputs)."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return self.linear(x)  # type: ignore[no-any-return]


class ChannelMLP(nn.Module):
    """Down to half the width, a residual layer there, and up: (..., C) -> (..., C)."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.linear_down = Dense(channels, channels // 2, dropout)
        self.linear_mid = Dense(channels // 2, channels // 2, dropout)
        self.linear_up = Dense(channels // 2, channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        x = self.linear_down(x)
        return self.linear_up(x + self.linear_mid(x))  # type: ignore[no-any-return]


class SpatialMLP(nn.Module):
    """Up to six times the joints, a residual layer there, and down: (..., J) -> (..., J)."""

    def __init__(self, joints: int, dropout: float) -> None:
        super().__init__()
        self.linear_up1 = Dense(joints, 3 * joints, dropout)
        self.linear_up2 = Dense(3 * joints, 6 * joints, dropout)
        self.linear_mid = Dense(6 * joints, 6 * joints, dropout)
        self.linear_down1 = Dense(6 * joints, 3 * joints, dropout)
        self.linear_down2 = Dense(3 * joints, joints, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., J) -> (..., J)."""
        x = self.linear_up2(self.linear_up1(x))
        return self.linear_down2(self.linear_down1(x + self.linear_mid(x)))  # type: ignore[no-any-return]


class GraphConv(nn.Module):
    """Sum over four fixed graphs, each with its own weights: (N, C, J) -> (N, C, J)."""

    adjacency: Tensor

    def __init__(self, channels: int, skeleton: Skeleton) -> None:
        super().__init__()
        adjacency = skeleton_partitions(skeleton)
        self.register_buffer("adjacency", adjacency, persistent=False)
        self.conv1d = nn.Conv1d(channels, len(adjacency) * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, J) -> (N, C, J)."""
        weight = self.conv1d.weight.squeeze(-1)
        return sum_subsets(F.linear(x.transpose(1, 2), weight, self.conv1d.bias), self.adjacency).transpose(1, 2)


class Block(nn.Module):
    """x + graph convolution, then x + channel MLP + spatial MLP: (N, C, J) -> (N, C, J)."""

    def __init__(self, config: GUMLPConfig, skeleton: Skeleton, drop_path: float) -> None:
        super().__init__()
        joints, channels = skeleton.num_joints, config.channels
        self.norm1 = nn.LayerNorm(joints, eps=_EPS)
        self.gcn1 = GraphConv(channels, skeleton)
        self.norm2 = nn.LayerNorm(channels, eps=_EPS)
        self.channel_mlp = ChannelMLP(channels, config.channel_dropout)
        self.norm3 = nn.LayerNorm(joints, eps=_EPS)
        self.spatial_mlp = SpatialMLP(joints, config.spatial_dropout)
        self.drop_path = DropPath(drop_path, "joints")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, J) -> (N, C, J)."""
        x = x + self._thinned(self.gcn1(self.norm1(x)))
        over_channels = self.channel_mlp(self.norm2(x.transpose(1, 2))).transpose(1, 2)
        over_joints = self.spatial_mlp(self.norm3(x))
        return x + self._thinned(over_channels + over_joints)

    def _thinned(self, branch: Tensor) -> Tensor:
        """(N, C, J) -> same; stochastic depth takes the N as the frames of one clip."""
        return self.drop_path(branch.unsqueeze(0)).squeeze(0)  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """The blocks, and one norm per head."""

    def __init__(self, config: GUMLPConfig, skeleton: Skeleton) -> None:
        super().__init__()
        rates = drop_rates(config.drop_path, config.blocks)
        self.blocks = nn.Sequential(*(Block(config, skeleton, rate) for rate in rates))
        self.norm_mu = nn.LayerNorm(config.channels, eps=_EPS)
        self.norm_s = nn.LayerNorm(config.channels, eps=_EPS) if config.sigma else None


class GUMLP(Lifter):
    """Each frame alone: (B, T, J, 2) -> latent (B, T, J, channels) -> (B, T, J, 3) mm."""

    Config = GUMLPConfig
    name = "gumlp"
    slides = True

    def __init__(self, config: GUMLPConfig | None = None) -> None:
        config = config or GUMLPConfig()
        super().__init__(skeleton=config.skeleton, frames=1, output="seq2seq", options=asdict(config))
        channels = config.channels
        self.encoder = Affine(self.inputs, 64, channels)
        self.GCN_MLP = Trunk(config, self.skeleton)
        self.pred_mu = Affine(channels, channels // 2, 3)
        self.pred_s = Affine(channels, channels // 2, 1) if config.sigma else None
        if self.pred_s is not None:
            init_sigma_head(self.pred_s.fc5)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, J, channels): the feature before the heads and their norms."""
        x = self.encoder(keypoints.flatten(0, 1)).transpose(1, 2)  # (B·T, channels, J)
        x = self.GCN_MLP.blocks(x).transpose(1, 2)
        return x.reshape(*keypoints.shape[:3], -1)  # type: ignore[no-any-return]

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, T, J, channels) -> poses (B, T, J, 3) mm."""
        metres = self.pred_mu(self.GCN_MLP.norm_mu(latent))
        if self.pred_s is None or self.GCN_MLP.norm_s is None:
            return self.to_output(metres)
        hidden = self.pred_s.fc1(self.GCN_MLP.norm_s(latent))
        return self.to_output(metres, joint_scales(self.pred_s.fc5, hidden, self.skeleton.root))


LIFTER = GUMLP

"""GLA-GCN: adaptive graph convolutions over joints and strided ones over frames (Yu et al., ICCV 2023).

Written from the paper and a description of its released network, with the leaf names of its published weights: one
output layer shared by all joints. Departures: no auxiliary head for whole sequences (the released network has none),
convolutions start from Kaiming's normal weights, the graph is that of the joint set (for HumanEva's with the
published directions), and the optional scale head.
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
from poseda.lifters.graphs import directed_adjacency
from poseda.skeleton import Skeleton

_LEVELS = {3**levels: levels for levels in range(1, 6)}
_SUBSETS = 3
_STRIDE = 3
_SMALL = 1e-6


@dataclass(frozen=True)
class GLAGCNConfig(LifterConfig):
    """Options of GLA-GCN."""

    skeleton: str = "h36m17"
    """Joint set of input and output."""
    frames: int = 27
    """Frames that one pose depends on: 3, 9, 27, 81 or 243."""
    channels: int = 96
    """Width of all hidden layers; a multiple of 4."""
    dropout: float = 0.1
    """Dropout inside and after each unit."""
    momentum: float = 0.1
    """Momentum of the batch norms' running statistics (the paper lets it decay to 0.001 while it trains)."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        if self.frames not in _LEVELS:
            known = ", ".join(map(str, _LEVELS))
            raise ConfigError(f"The lifter option frames={self.frames} is not a GLA-GCN window. Known: {known}.")
        check_range("channels", self.channels, 4, 16384)
        if self.channels % 4:
            raise ConfigError(f"The lifter option channels={self.channels} of glagcn must be a multiple of 4.")
        check_range("dropout", self.dropout, 0.0, 0.99)
        check_range("momentum", self.momentum, 0.0, 1.0)


class GraphUnit(nn.Module):
    """Graph convolution on three subsets, each fixed + learned + attended: (N, inputs, J, T) -> (N, outputs, J, T).

    Attention is one (J, J) map per subset and clip: its queries and keys hold all frames.
    """

    fixed: Tensor

    def __init__(self, inputs: int, config: GLAGCNConfig, skeleton: Skeleton) -> None:
        super().__init__()
        outputs, inner = config.channels, config.channels // 4
        fixed = directed_adjacency(skeleton)
        self.register_buffer("fixed", fixed, persistent=False)
        self.PA = nn.Parameter(torch.full(fixed.shape, _SMALL))
        self.conv_a = nn.ModuleList(nn.Conv2d(inputs, inner, 1) for _ in range(_SUBSETS))
        self.conv_b = nn.ModuleList(nn.Conv2d(inputs, inner, 1) for _ in range(_SUBSETS))
        self.conv_d = nn.ModuleList(nn.Conv2d(inputs, outputs, 1) for _ in range(_SUBSETS))
        self.down: nn.Module = nn.Identity()
        if inputs != outputs:
            norm = nn.BatchNorm2d(outputs, momentum=config.momentum)
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1), norm)
        self.bn = nn.BatchNorm2d(outputs, momentum=config.momentum)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, J, T) -> (N, outputs, J, T)."""
        rows = x.permute(0, 2, 3, 1).flatten(2)  # (N, J, T · inputs), without a copy
        size = (*rows.shape[:2], -1, x.shape[1])
        first, second, third = (
            conv((adjacency @ rows).view(size).permute(0, 3, 1, 2))
            for adjacency, conv in zip(self.adjacency(x), self.conv_d, strict=True)
        )
        return F.relu(self.dropout(self.bn(first + second + third)) + self.down(x))

    def adjacency(self, x: Tensor) -> Tensor:
        """(3, N, J, J) for clips (N, inputs, J, T): rows are the joints that receive."""
        pairs = [*self.conv_a, *self.conv_b]
        weight, bias = torch.cat([conv.weight for conv in pairs]), torch.cat([conv.bias for conv in pairs])
        both = F.conv2d(x, weight, bias)
        both = both.view(x.shape[0], 2, _SUBSETS, -1, *x.shape[2:]).permute(1, 2, 0, 4, 5, 3)
        query, key = both.flatten(4)  # (3, N, J, T · inner) each
        attention: Tensor = (key @ query.mT / query.shape[-1]).softmax(-1)
        return attention + (self.fixed + self.PA).mT.unsqueeze(1)


class FrameUnit(nn.Module):
    """Convolution over frames and batch norm: (N, inputs, J, T) -> (N, outputs, J, T / stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1), (kernel // 2, 0))
        self.bn = nn.BatchNorm2d(outputs, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, J, T) -> (N, outputs, J, T / stride)."""
        conv = self.conv  # as published, over (frames, joints); here frames come last
        weight, stride, padding = conv.weight.mT, conv.stride[::-1], conv.padding[::-1]
        return self.bn(F.conv2d(x, weight, conv.bias, stride, padding))  # type: ignore[no-any-return]


class Unit(nn.Module):
    """Graph unit, frame unit, residual where the length stays, ReLU, dropout: (N, inputs, J, T)."""

    def __init__(self, inputs: int, stride: int, config: GLAGCNConfig, skeleton: Skeleton) -> None:
        super().__init__()
        outputs, momentum = config.channels, config.momentum
        self.gcn1 = GraphUnit(inputs, config, skeleton)
        self.tcn1 = FrameUnit(outputs, outputs, 9, stride, momentum)
        self.residual: nn.Module | None = nn.Identity() if stride == 1 else None
        if stride == 1 and inputs != outputs:
            self.residual = FrameUnit(inputs, outputs, 1, 1, momentum)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, J, T) -> (N, outputs, J, T / stride)."""
        y = self.tcn1(self.gcn1(x))
        y = y if self.residual is None else y + self.residual(x)
        return self.dropout(F.relu(y))  # type: ignore[no-any-return]


class GLAGCN(Lifter):
    """A window's centre: (B, frames, J, 2) -> latent (B, 1, J, channels) -> (B, 1, J, 3) mm."""

    Config = GLAGCNConfig
    name = "glagcn"
    cached_frames = 432

    def __init__(self, config: GLAGCNConfig | None = None) -> None:
        config = config or GLAGCNConfig()
        super().__init__(skeleton=config.skeleton, frames=config.frames, output="seq2frame", options=asdict(config))
        channels = config.channels
        strides = [1, _STRIDE] * _LEVELS[config.frames]
        self.data_bn = nn.BatchNorm1d(self.inputs * self.skeleton.num_joints, momentum=config.momentum)
        self.expand_gcn = Unit(self.inputs, 1, config, self.skeleton)
        self.layers_tcngcn = nn.ModuleList(Unit(channels, stride, config, self.skeleton) for stride in strides)
        self.fc = nn.Conv1d(channels, 3, 1)
        self.sigma_head = sigma_head(channels, 1, config.sigma)
        _init(self)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, frames, J, 2) -> (B, 1, J, channels): the feature before the output layer."""
        x = self.data_bn(keypoints.flatten(2).transpose(1, 2))  # (B, 2J, T)
        x = x.unflatten(1, (-1, self.inputs)).transpose(1, 2)  # (B, 2, J, T)
        x = self.expand_gcn(x.contiguous(memory_format=torch.channels_last))  # so no layer needs another order
        for level in range(0, len(self.layers_tcngcn), 2):
            skip = x[..., _STRIDE // 2 :: _STRIDE]
            x = skip + self.layers_tcngcn[level + 1](self.layers_tcngcn[level](x))
        return x.mean(-1, keepdim=True).permute(0, 3, 2, 1)  # type: ignore[no-any-return]

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, 1, J, channels) -> poses (B, 1, J, 3) mm."""
        metres = self.fc(latent.squeeze(1).transpose(1, 2)).transpose(1, 2).unsqueeze(1)
        return self.to_output(metres, joint_scales(self.sigma_head, latent, self.skeleton.root))


def _init(lifter: GLAGCN) -> None:
    """Kaiming's convolutions without bias; each graph convolution starts as almost nothing beside its residual."""
    for module in lifter.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        elif isinstance(module, GraphUnit):
            nn.init.constant_(module.bn.weight, _SMALL)


LIFTER = GLAGCN

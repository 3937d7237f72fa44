"""SimpleBaseline: the residual MLP on one frame (Martinez et al., ICCV 2017), the default lifter."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poseda.lifters.base import Lifter, LifterConfig, LifterOutput, check_range, init_sigma_head
from poseda.lifters.dropout import Dropout


@dataclass(frozen=True)
class SimpleBaselineConfig(LifterConfig):
    """Options of SimpleBaseline."""

    skeleton: str = "h36m17"
    """Joint set of input and output."""
    hidden: int = 1024
    """Width of all hidden layers."""
    blocks: int = 2
    """Residual blocks of two layers each."""
    dropout: float = 0.25
    """Dropout after each hidden layer (0.5 in the paper, 0.25 in PoseAug)."""
    root_output: bool = False
    """Whether the last layer has (unused) outputs for the root too."""
    sigma: bool = True
    """Whether a second head gives each joint's expected error."""

    def __post_init__(self) -> None:
        check_range("hidden", self.hidden, 1, 65536)
        check_range("blocks", self.blocks, 0, 64)
        check_range("dropout", self.dropout, 0.0, 0.99)


class ResidualStage(nn.Module):
    """x + two layers of (linear, batch norm, ReLU, dropout). (N, hidden) -> (N, hidden)."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(hidden, hidden)
        self.batch_norm1 = nn.BatchNorm1d(hidden)
        self.w2 = nn.Linear(hidden, hidden)
        self.batch_norm2 = nn.BatchNorm1d(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, hidden) -> (N, hidden)."""
        y = self.dropout(F.relu(self.batch_norm1(self.w1(x))))
        y = self.dropout(F.relu(self.batch_norm2(self.w2(y))))
        return x + y  # type: ignore[no-any-return]


class SimpleBaseline(Lifter):
    """Each frame alone: (B, T, J, 2) -> latent (B, T, hidden) -> (B, T, J, 3) mm. Leaf names of the port."""

    Config = SimpleBaselineConfig
    name = "simplebaseline"
    slides = True

    def __init__(self, config: SimpleBaselineConfig | None = None) -> None:
        config = config or SimpleBaselineConfig()
        super().__init__(skeleton=config.skeleton, frames=1, output="seq2seq", options=asdict(config))
        joints, hidden = self.skeleton.num_joints, config.hidden
        self.w1 = nn.Linear(self.inputs * joints, hidden)
        self.batch_norm1 = nn.BatchNorm1d(hidden)
        self.linear_stages = nn.ModuleList(ResidualStage(hidden, config.dropout) for _ in range(config.blocks))
        self.w2 = nn.Linear(hidden, 3 * (joints if config.root_output else joints - 1))
        self.dropout = Dropout(config.dropout)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        with torch.no_grad():
            # the published targets are z-scored, ours metres: without this the first poses are metres large, and
            # steps of clipped length take some thousand steps to shrink them
            self.w2.weight.mul_(0.1)
        self.w_sigma = nn.Linear(hidden, joints - 1) if config.sigma else None
        if self.w_sigma is not None:
            init_sigma_head(self.w_sigma)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, hidden): the feature before the output layers."""
        x: Tensor = keypoints.flatten(2).flatten(0, 1)  # (B·T, 2J): batch norm is over frames
        x = self.dropout(F.relu(self.batch_norm1(self.w1(x))))
        for stage in self.linear_stages:
            x = stage(x)
        return x.reshape(*keypoints.shape[:2], -1)

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, T, hidden) -> poses (B, T, J, 3) mm."""
        metres = self.w2(latent).unflatten(-1, (-1, 3))
        return self.to_output(metres, None if self.w_sigma is None else self.w_sigma(latent))


LIFTER = SimpleBaseline

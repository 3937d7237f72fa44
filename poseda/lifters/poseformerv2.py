"""PoseFormerV2: a few central frames beside the low frequencies of the whole window (Zhao et al., CVPR 2023).

Written from the paper and published layer sizes; the weights have the published names and shapes. As in the
published weights, each mixed block treats the first half of its tokens as frequencies and the others as frames,
which is the boundary between them only where as many of both are kept. Departures: the cosine transforms are
products with constant matrices, the root row of the output is set to 0, and there is an optional scale head.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from poseda.lifters.base import Lifter, LifterOutput, check_range, gather_frames
from poseda.lifters.blocks import (
    BLOCK_EPS,
    Attention,
    DropPath,
    Mlp,
    TransformerConfig,
    block_stack,
    check_odd,
    drop_rates,
    sigma_head,
)
from poseda.lifters.gpu import LayerNorm


@dataclass(frozen=True)
class PoseFormerV2Config(TransformerConfig):
    """Options of PoseFormerV2."""

    frames: int = 27
    """Frames that one pose depends on, an odd number; the paper's are 27, 81 and 243."""
    dim: int = 32
    """Channels of each joint's token; a frame's token has this times the joints."""
    depth: int = 4
    """Spatial blocks, and as many mixed ones."""
    kept_frames: int = 3
    """Central frames that are looked at joint by joint, an odd number (3, 9 and 27 in the paper)."""
    coefficients: int = 3
    """Lowest frequencies of the window that are looked at (3, 9 and 27 in the paper)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_odd("frames", self.frames)
        check_range("kept_frames", self.kept_frames, 1, self.frames)
        check_odd("kept_frames", self.kept_frames)
        check_range("coefficients", self.coefficients, 1, self.frames)


class FrequencyMlp(Mlp):
    """An MLP on the cosine spectrum of N tokens along their order. (B, N, 1, C) -> same."""

    forth: Tensor
    back: Tensor

    def __init__(self, dim: int, hidden: int, tokens: int) -> None:
        super().__init__(dim, hidden)
        forth, back = cosine_transform(tokens), inverse_cosine_transform(tokens)
        self.register_buffer("forth", forth, persistent=False)
        self.register_buffer("back", back, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 1, C) -> (B, N, 1, C)."""
        spectrum = super().forward(self.forth @ x.squeeze(2))
        return (self.back @ spectrum)[:, :, None]


class MixedBlock(nn.Module):
    """Attention over all tokens, then one MLP for the first half and one on the spectrum of the others."""

    def __init__(self, config: PoseFormerV2Config, dim: int, drop_path: float) -> None:
        super().__init__()
        hidden, tokens = int(dim * config.mlp_ratio), config.coefficients + config.kept_frames
        self.split = tokens // 2
        self.norm1 = LayerNorm(dim, eps=BLOCK_EPS)
        self.attn = Attention(dim, config.heads, "frames")
        self.norm2 = LayerNorm(dim, eps=BLOCK_EPS)
        self.mlp1 = Mlp(dim, hidden)
        self.norm3 = LayerNorm(dim, eps=BLOCK_EPS)
        self.mlp2 = FrequencyMlp(dim, hidden, tokens - self.split)
        self.drop_path = DropPath(drop_path, "frames")

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 1, C) -> (B, N, 1, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        first, second = x[:, : self.split], x[:, self.split :]
        first = first + self.drop_path(self.mlp1(self.norm2(first)))
        second = second + self.drop_path(self.mlp2(self.norm3(second)))
        return torch.cat([first, second], 1)


class PoseFormerV2(Lifter):
    """Windows: (B, T, J, 2) -> latent (B, 1, 2·J·dim) -> (B, 1, J, 3) mm. Leaf names of the authors' code."""

    Config = PoseFormerV2Config
    name = "poseformerv2"
    low_frequencies: Tensor

    def __init__(self, config: PoseFormerV2Config | None = None) -> None:
        config = config or PoseFormerV2Config()
        super().__init__(skeleton=config.skeleton, frames=config.frames, output="seq2frame", options=asdict(config))
        joints, dim, kept, low = self.skeleton.num_joints, config.dim, config.kept_frames, config.coefficients
        wide = joints * dim
        first = (config.frames - kept) // 2
        self.centre = slice(first, first + kept)
        self.low = low
        self.Joint_embedding = nn.Linear(self.inputs, dim)
        self.Freq_embedding = nn.Linear(self.inputs * joints, wide)
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, joints, dim))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, kept, wide))
        self.Temporal_pos_embed_ = nn.Parameter(torch.zeros(1, low, wide))
        self.Spatial_blocks = block_stack(config.depth, dim, config.heads, config.mlp_ratio, "joints", config.drop_path)
        rates = drop_rates(config.drop_path, config.depth)
        self.blocks = nn.ModuleList(MixedBlock(config, wide, rate) for rate in rates)
        self.Spatial_norm = LayerNorm(dim, eps=BLOCK_EPS)
        self.Temporal_norm = LayerNorm(wide, eps=BLOCK_EPS)
        self.weighted_mean = nn.Conv1d(low, 1, 1)
        self.weighted_mean_ = nn.Conv1d(kept, 1, 1)
        self.head = nn.Sequential(LayerNorm(2 * wide), nn.Linear(2 * wide, 3 * joints))
        self.sigma_head = sigma_head(2 * wide, joints - 1, config.sigma)
        self.register_buffer("low_frequencies", cosine_transform(config.frames)[:low].clone(), persistent=False)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, 1, 2·J·dim): weighted means over frequencies and over central frames."""
        return self._mix(self._frequencies(keypoints), self._poses(keypoints[:, self.centre]))

    def encode_windows(self, frames: Tensor, windows: Tensor) -> Tensor:
        """Windows (B, T) of frames (N, J, 2) -> (B, 1, 2·J·dim), with the spatial blocks run once a frame."""
        poses = gather_frames(self._poses(frames[None])[0], windows[:, self.centre])
        return self._mix(self._frequencies(gather_frames(frames, windows)), poses)

    def _frequencies(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> tokens (B, coefficients, J·dim)."""
        tokens: Tensor = self.Freq_embedding(self.low_frequencies @ keypoints.flatten(2))
        return tokens + self.Temporal_pos_embed_

    def _poses(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> tokens (B, T, J·dim), each frame from itself alone."""
        x: Tensor = self.Joint_embedding(keypoints) + self.Spatial_pos_embed
        for block in self.Spatial_blocks:
            x = block(x)
        return self.Spatial_norm(x).flatten(2)  # type: ignore[no-any-return]

    def _mix(self, frequencies: Tensor, poses: Tensor) -> Tensor:
        """Tokens (B, coefficients, J·dim) and (B, kept, J·dim) -> (B, 1, 2·J·dim)."""
        x = torch.cat([frequencies, poses + self.Temporal_pos_embed], 1)[:, :, None]
        for block in self.blocks:
            x = block(x)
        x = self.Temporal_norm(x[:, :, 0])
        return torch.cat([self.weighted_mean(x[:, : self.low]), self.weighted_mean_(x[:, self.low :])], -1)

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, 1, 2·J·dim) -> poses (B, 1, J, 3) mm."""
        norm, last = self.head
        features = norm(latent)
        scales = None if self.sigma_head is None else self.sigma_head(features)
        return self.to_output(last(features).unflatten(-1, (-1, 3)), scales)


def cosine_transform(count: int) -> Tensor:
    """Unnormalised DCT-II (N, N): X = M x with X_k = 2 sum_n x_n cos(pi k (2n + 1) / 2N)."""
    index = torch.arange(count, dtype=torch.float64)
    return (2 * torch.cos(math.pi / (2 * count) * index[:, None] * (2 * index + 1))).float()


def inverse_cosine_transform(count: int) -> Tensor:
    """The inverse (N, N) of `cosine_transform`: its rows are orthogonal, of squared length 4N and then 2N."""
    length = torch.full((count,), 2.0 * count)
    length[:1] *= 2
    return cosine_transform(count).T / length


LIFTER = PoseFormerV2

"""PoseFormer: a spatial transformer on each frame, then a temporal one on whole poses (Zheng et al., ICCV 2021).

Written from the paper and published layer sizes; the weights have the published names and shapes. Departures:
the root row of the output is set to 0, and there is an optional scale head.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from poseda.lifters.base import Lifter, LifterOutput, gather_frames
from poseda.lifters.blocks import BLOCK_EPS, TransformerConfig, block_stack, check_odd, sigma_head
from poseda.lifters.gpu import LayerNorm
from poseda.lifters.priors import kinematic_prior, trajectory_prior


@dataclass(frozen=True)
class PoseFormerConfig(TransformerConfig):
    """Options of PoseFormer."""

    frames: int = 27
    """Frames that one pose depends on, an odd number; the paper's are 9, 27 and 81."""
    dim: int = 32
    """Channels of each joint's token; a frame's token has this times the joints."""
    depth: int = 4
    """Spatial blocks, and as many temporal ones."""
    prior: str = "none"
    """ktp: KTPFormer's two blocks that know the bones and the order of time, before the first blocks; or none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_odd("frames", self.frames)


class PoseFormer(Lifter):
    """Windows: (B, T, J, 2) -> latent (B, 1, J·dim) -> (B, 1, J, 3) mm. Leaf names of the authors' code."""

    Config = PoseFormerConfig
    name = "poseformer"

    def __init__(self, config: PoseFormerConfig | None = None) -> None:
        config = config or PoseFormerConfig()
        super().__init__(skeleton=config.skeleton, frames=config.frames, output="seq2frame", options=asdict(config))
        joints, dim = self.skeleton.num_joints, config.dim
        wide, shape = joints * dim, (config.heads, config.mlp_ratio)
        self.Spatial_patch_to_embedding = nn.Linear(self.inputs, dim)
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, joints, dim))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, config.frames, wide))
        self.Spatial_blocks = block_stack(config.depth, dim, *shape, "joints", config.drop_path)
        self.blocks = block_stack(config.depth, wide, *shape, "frames", config.drop_path)
        self.spatial_prior = kinematic_prior(config.prior, dim, *shape, self.skeleton)
        self.temporal_prior = trajectory_prior(config.prior, wide, *shape, config.frames)
        self.Spatial_norm = LayerNorm(dim, eps=BLOCK_EPS)
        self.Temporal_norm = LayerNorm(wide, eps=BLOCK_EPS)
        self.weighted_mean = nn.Conv1d(config.frames, 1, 1)
        self.head = nn.Sequential(LayerNorm(wide), nn.Linear(wide, 3 * joints))
        self.sigma_head = sigma_head(wide, joints - 1, config.sigma)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, 1, J·dim): the weighted mean over frames before the head."""
        return self._over_time(self._tokens(keypoints))

    def encode_windows(self, frames: Tensor, windows: Tensor) -> Tensor:
        """Windows (B, T) of frames (N, J, 2) -> (B, 1, J·dim), with the spatial blocks run once a frame."""
        return self._over_time(gather_frames(self._tokens(frames[None])[0], windows))

    def _tokens(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, J·dim), each frame from itself alone."""
        x: Tensor = self.Spatial_patch_to_embedding(keypoints) + self.Spatial_pos_embed
        x = self.spatial_prior(x)
        for block in self.Spatial_blocks:
            x = block(x)
        return self.Spatial_norm(x).flatten(2)  # type: ignore[no-any-return]

    def _over_time(self, tokens: Tensor) -> Tensor:
        """(B, T, J·dim) -> (B, 1, J·dim)."""
        x = (tokens + self.Temporal_pos_embed)[:, :, None]  # (B, T, 1, J·dim): a frame is one token
        x = self.temporal_prior(x)
        for block in self.blocks:
            x = block(x)
        return self.weighted_mean(self.Temporal_norm(x[:, :, 0]))  # type: ignore[no-any-return]

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, 1, J·dim) -> poses (B, 1, J, 3) mm."""
        norm, last = self.head
        features = norm(latent)
        scales = None if self.sigma_head is None else self.sigma_head(features)
        return self.to_output(last(features).unflatten(-1, (-1, 3)), scales)


LIFTER = PoseFormer

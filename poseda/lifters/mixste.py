"""MixSTE: alternating spatial and temporal transformer blocks (Zhang et al., CVPR 2022), and what builds on it.

Written from the paper and published layer sizes; the weights have the published names and shapes. Departures:
the root row of the output is set to 0, and there is an optional scale head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from poseda.lifters.base import Lifter, LifterOutput
from poseda.lifters.blocks import BLOCK_EPS, Block, TransformerConfig, drop_rates, joint_scales, sigma_head
from poseda.lifters.gpu import LayerNorm
from poseda.lifters.priors import token_priors


@dataclass(frozen=True)
class MixSTEConfig(TransformerConfig):
    """Options of MixSTE."""

    frames: int = 27
    """Frames of a window; the paper's are 27, 81 and 243."""
    depth: int = 8
    """Pairs of a spatial and a temporal block."""
    prior: str = "none"
    """ktp: KTPFormer's two blocks that know the bones and the order of time, before the first blocks; or none."""


class AlternatingLifter(Lifter):
    """Pairs of a spatial and a temporal block with one norm for each kind, and a head on each token."""

    cached_frames = 216

    def __init__(self, config: TransformerConfig, options: Mapping[str, object], rates: list[float]) -> None:
        super().__init__(skeleton=config.skeleton, frames=config.frames, output="seq2seq", options=options)
        dim, shape = config.dim, (config.dim, config.heads, config.mlp_ratio)
        self.STEblocks = nn.ModuleList(Block(*shape, "joints", rate) for rate in rates)
        self.TTEblocks = nn.ModuleList(Block(*shape, "frames", rate) for rate in rates)
        self.Spatial_norm = LayerNorm(dim, eps=BLOCK_EPS)
        self.Temporal_norm = LayerNorm(dim, eps=BLOCK_EPS)
        self.head = nn.Sequential(LayerNorm(dim), nn.Linear(dim, 3))
        self.sigma_head = sigma_head(dim, 1, config.sigma)

    def decode(self, latent: Tensor) -> LifterOutput:
        """(B, T, J, C) -> poses (B, T, J, 3) mm."""
        norm, last = self.head
        features = norm(latent)
        return self.to_output(last(features), joint_scales(self.sigma_head, features, self.skeleton.root))

    def alternate(self, x: Tensor, first: int, end: int) -> Tensor:
        """Tokens (B, T, J, C) after the pairs from `first` up to and without `end`."""
        for spatial, temporal in zip(self.STEblocks[first:end], self.TTEblocks[first:end], strict=True):
            x = self.Temporal_norm(temporal(self.Spatial_norm(spatial(x))))
        return x


class MixSTE(AlternatingLifter):
    """Windows: (B, T, J, 2) -> latent (B, T, J, dim) -> (B, T, J, 3) mm. Leaf names of the authors' code."""

    Config = MixSTEConfig
    name = "mixste"

    def __init__(self, config: MixSTEConfig | None = None) -> None:
        config = config or MixSTEConfig()
        super().__init__(config, asdict(config), drop_rates(config.drop_path, config.depth))
        self.Spatial_patch_to_embedding = nn.Linear(self.inputs, config.dim)
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, self.skeleton.num_joints, config.dim))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, config.frames, config.dim))
        shape = (config.dim, config.heads, config.mlp_ratio)
        self.prior = token_priors(config.prior, *shape, self.skeleton, config.frames)

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, J, dim)."""
        return self.alternate(self.first_pair(keypoints), 1, len(self.STEblocks))

    def first_pair(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> (B, T, J, dim): the pair around which the positions are added."""
        x: Tensor = self.Spatial_patch_to_embedding(keypoints) + self.Spatial_pos_embed
        x = self.Spatial_norm(self.STEblocks[0](self.prior(x))) + self.Temporal_pos_embed[:, :, None]
        x = self.Temporal_norm(self.TTEblocks[0](x))
        return x


LIFTER = MixSTE

"""KTPFormer: MixSTE behind two blocks that know the bones and the order of time (Peng et al., CVPR 2024).

Written from the paper and published layer sizes; the weights have the published names and shapes. Departures:
the root row of the output is set to 0, and there is an optional scale head.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from poseda.lifters.blocks import Attention, TransformerConfig, drop_rates
from poseda.lifters.gpu import LayerNorm
from poseda.lifters.mixste import AlternatingLifter
from poseda.lifters.priors import GraphLayer, PriorBlock, TrajectoryAttention, normalise_graph
from poseda.skeleton import Skeleton


@dataclass(frozen=True)
class KTPFormerConfig(TransformerConfig):
    """Options of KTPFormer."""

    frames: int = 27
    """Frames of a window; the paper's are 27, 81 and 243."""
    depth: int = 7
    """Pairs of a spatial and a temporal block, besides the two prior blocks."""


class KinematicAttention(Attention):
    """Tokens of keypoints on the bone graph, plus attention over joints. (B, T, J, inputs) -> (B, T, J, C)."""

    def __init__(self, inputs: int, dim: int, heads: int, skeleton: Skeleton) -> None:
        super().__init__(dim, heads, "joints")
        joints = skeleton.num_joints
        self.kpa = GraphLayer(inputs, dim, normalise_graph(list(skeleton.bones), joints), "joints")
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, joints, dim))
        self.norm1 = LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, J, inputs) -> (B, T, J, C)."""
        x = self.kpa(x) + self.Spatial_pos_embed
        return x + super().forward(self.norm1(x))


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


LIFTER = KTPFormer

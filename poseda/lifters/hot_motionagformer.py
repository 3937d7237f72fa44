"""HoT on MotionAGFormer: most frames dropped inside, all recovered before the head (Li et al., CVPR 2024).

Written from the paper and published layer sizes; the weights have the published names and shapes. Departures: those
of MotionAGFormer and of HoT on MixSTE.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from poseda.lifters.base import check_range
from poseda.lifters.hot import TokenPruning, check_pruning
from poseda.lifters.motionagformer import MotionAGFormer, MotionAGFormerConfig


@dataclass(frozen=True)
class HoTMotionAGFormerConfig(MotionAGFormerConfig):
    """Options of HoT on MotionAGFormer."""

    variant: str = "b"
    """Published size of the network that frames are dropped from."""
    heads: int = 4
    """Attention heads; 4 in the published form, where MotionAGFormer has 8."""
    neighbours: int = 4
    """Most similar frames, itself among them, that a frame is joined with in the temporal graph."""
    tokens: int = 81
    """Frames that are kept inside."""
    layer: int = 7
    """Layers that see all frames, before the others see the kept ones."""
    nearest: int = 2
    """Nearest frames, itself among them, that tell how densely a frame is surrounded."""
    ties: str = "first"
    """Of equally dense frames the first counts as denser, or none does, or a random one (as published)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        layers, _, frames = self.size
        check_range("layers", layers, 2, 256)
        check_range("layer", self.layer, 1, layers - 1)
        check_pruning(frames, self.tokens, self.nearest, self.ties)
        check_range("neighbours", self.neighbours, 1, self.tokens)


class HoTMotionAGFormer(TokenPruning, MotionAGFormer):
    """Windows: (B, T, J, 2) -> latent (B, T, J, dim_rep) -> (B, T, J, 3) mm. Leaf names of the authors' code."""

    Config = HoTMotionAGFormerConfig
    name = "hot_motionagformer"

    def __init__(self, config: HoTMotionAGFormerConfig | None = None) -> None:
        config = config or HoTMotionAGFormerConfig()
        super().__init__(config)
        _, dim, frames = config.size
        self.layer = config.layer
        kept = (config.tokens, config.nearest, config.ties)
        self.init_pruning(frames, *kept, dim=dim, heads=config.heads, bias=False)

    def layer_configs(self, config: MotionAGFormerConfig) -> list[MotionAGFormerConfig]:
        """The later layers' graphs of frames have a norm for each kept frame."""
        assert isinstance(config, HoTMotionAGFormerConfig)
        short = replace(config, frames=config.tokens)
        return [config if index < config.layer else short for index in range(config.size[0])]

    def features(self, keypoints: Tensor) -> Tensor:
        """Motion representation (B, T, J, dim_rep) of x, y and confidence (B, T, J, 3)."""
        x = self.joints_embed(keypoints) + self.pos_embed
        x = self.prior(x)
        for index, layer in enumerate(self.layers):
            x = layer(self.keep_frames(x) if index == self.layer else x)
        latent: Tensor = self.rep_logit(self.recover_frames(self.norm(x)))
        return latent


LIFTER = HoTMotionAGFormer

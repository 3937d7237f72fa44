"""HoT on MotionBERT: most frames dropped after the first layers, all recovered before the head (Li et al., CVPR 2024).

Written from the paper and published layer sizes; the weights have the published names and shapes. Departures: those
of MotionBERT and of HoT on MixSTE. All frames of a window must be there, as each has a query of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from poseda.lifters.base import check_range
from poseda.lifters.blocks import fuse
from poseda.lifters.hot import TokenPruning, check_pruning
from poseda.lifters.motionbert import MotionBERT, MotionBERTConfig


@dataclass(frozen=True)
class HoTMotionBERTConfig(MotionBERTConfig):
    """Options of HoT on MotionBERT; the published form is on the Lite network."""

    frames: int = 243
    """Frames of a window; the paper's is 243."""
    dim: int = 256
    """Channels of each token."""
    mlp_ratio: float = 4.0
    """Width of the hidden layers over `dim`."""
    tokens: int = 81
    """Frames that are kept inside."""
    layer: int = 1
    """Layers that see all frames, before the others see the kept ones."""
    neighbours: int = 2
    """Nearest frames, itself among them, that tell how densely a frame is surrounded."""
    ties: str = "first"
    """Of equally dense frames the first counts as denser, or none does, or a random one (as published)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("depth", self.depth, 2, 256)
        check_range("layer", self.layer, 1, self.depth - 1)
        check_pruning(self.frames, self.tokens, self.neighbours, self.ties)


class HoTMotionBERT(TokenPruning, MotionBERT):
    """Windows: (B, T, J, 2) -> latent (B, T, J, dim_rep) -> (B, T, J, 3) mm. Leaf names of the authors' code."""

    Config = HoTMotionBERTConfig
    name = "hot_motionbert"

    def __init__(self, config: HoTMotionBERTConfig | None = None) -> None:
        config = config or HoTMotionBERTConfig()
        super().__init__(config)
        self.layer = config.layer
        kept = (config.tokens, config.neighbours, config.ties)
        self.init_pruning(config.frames, *kept, dim=config.dim, heads=config.heads)

    def features(self, keypoints: Tensor) -> Tensor:
        """Motion representation (B, T, J, dim_rep) of x, y and confidence (B, T, J, 3)."""
        x = self.joints_embed(keypoints) + self.pos_embed + self.temp_embed[:, : keypoints.shape[1]]
        x = self.prior(x)
        for index, (first, second, weigh) in enumerate(zip(self.blocks_st, self.blocks_ts, self.ts_attn, strict=True)):
            x = self.keep_frames(x) if index == self.layer else x
            x = fuse(weigh, first(x), second(x))
        latent: Tensor = self.pre_logits(self.recover_frames(self.norm(x)))
        return latent


LIFTER = HoTMotionBERT

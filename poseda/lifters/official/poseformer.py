"""PoseFormer (zczcwh/PoseFormer)."""

from __future__ import annotations

from poseda.lifters.official.layout import HEADS, OTHER_17, Converter, Layout, Reading


def _read(layout: Layout) -> Reading:
    options = {
        "skeleton": layout.skeleton(layout.size("Spatial_pos_embed", 1)),
        "frames": layout.size("Temporal_pos_embed", 1),
        "dim": layout.size("Spatial_pos_embed", 2),
        "depth": layout.count("Spatial_blocks."),
        "mlp_ratio": layout.ratio("Spatial_blocks.0.mlp.fc1.weight", "Spatial_pos_embed"),
        "sigma": False,
    }
    return Reading("poseformer", options, (HEADS, OTHER_17))


OFFICIAL = Converter(
    repository="zczcwh/PoseFormer",
    keys=("Spatial_patch_to_embedding.", "Spatial_blocks.", "blocks.", "weighted_mean."),
    without=("Freq_embedding.",),
    read=_read,
)

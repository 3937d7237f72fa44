"""PoseFormerV2 (QitaoZhao/PoseFormerV2). Its window is in no weight: the published files have it in their names."""

from __future__ import annotations

import re

from poseda.lifters.official.layout import HEADS, OTHER_17, Converter, Layout, Reading

_NAMED = re.compile(r"([0-9]{1,3})_([0-9]{1,3})_")
"""Central frames and window, as in 27_243_45.2.bin."""


def _read(layout: Layout) -> Reading:
    kept = layout.size("Temporal_pos_embed", 1)
    frames, source = _window(layout, kept)
    options = {
        "skeleton": layout.skeleton(layout.size("Spatial_pos_embed", 1)),
        "frames": frames,
        "dim": layout.size("Spatial_pos_embed", 2),
        "depth": layout.count("Spatial_blocks."),
        "mlp_ratio": layout.ratio("Spatial_blocks.0.mlp.fc1.weight", "Spatial_pos_embed"),
        "kept_frames": kept,
        "coefficients": layout.size("Temporal_pos_embed_", 1),
        "sigma": False,
    }
    window = f"The window of {frames} frames is {source}: no weight tells it."
    return Reading("poseformerv2", options, (window, HEADS, OTHER_17))


def _window(layout: Layout, kept: int) -> tuple[int, str]:
    """Frames of the window, and where the number is from."""
    named = _NAMED.match(layout.path.name)
    if named and int(named[1]) == kept:
        return int(named[2]), "that of the file's name"
    rule = f"a file name that begins {kept}_<window>_ sets it"
    return 9 * max(kept, 3), f"the published one for {kept} central frames ({rule})"


OFFICIAL = Converter(
    repository="QitaoZhao/PoseFormerV2",
    keys=("Joint_embedding.", "Freq_embedding.", "Spatial_blocks.", "Temporal_pos_embed_", "weighted_mean_."),
    read=_read,
)

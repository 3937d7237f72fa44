"""KTPFormer (JihuaPeng/KTPFormer). Its fixed graphs are not in the file: they follow from the joint set and window."""

from __future__ import annotations

from poseda.lifters.official.layout import HEADS, OTHER_17, Converter, Layout, Reading


def _read(layout: Layout) -> Reading:
    width = "kpattention.attn.Spatial_pos_embed"
    options = {
        "skeleton": layout.skeleton(layout.size(width, 1)),
        "frames": layout.size("tpattention.attn.Temporal_pos_embed", 1),
        "dim": layout.size(width, 2),
        "depth": layout.count("STEblocks."),
        "mlp_ratio": layout.ratio("STEblocks.0.mlp.fc1.weight", width),
        "sigma": False,
    }
    return Reading("ktpformer", options, (HEADS, OTHER_17))


OFFICIAL = Converter(
    repository="JihuaPeng/KTPFormer",
    keys=("kpattention.", "tpattention.", "STEblocks.", "TTEblocks."),
    read=_read,
)

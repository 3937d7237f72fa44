"""MixSTE (JinluZhang1126/MixSTE), and the copies of it that HoT's repository trains."""

from __future__ import annotations

from poseda.lifters.official.layout import HEADS, OTHER_17, Converter, Layout, Reading

_PRUNED = (
    "TPC-MixSTE of HoT's repository has the same names and shapes: it is read as plain MixSTE, so that all its frames "
    "are kept inside, where it was trained to keep some."
)


def alternating_options(layout: Layout) -> dict[str, object]:
    """Options that all lifters built on MixSTE read from the same weights."""
    return {
        "skeleton": layout.skeleton(layout.size("Spatial_pos_embed", 1)),
        "frames": layout.size("Temporal_pos_embed", 1),
        "dim": layout.size("Spatial_pos_embed", 2),
        "depth": layout.count("STEblocks."),
        "mlp_ratio": layout.ratio("STEblocks.0.mlp.fc1.weight", "Spatial_pos_embed"),
        "sigma": False,
    }


def _read(layout: Layout) -> Reading:
    return Reading("mixste", alternating_options(layout), (HEADS, OTHER_17, _PRUNED))


OFFICIAL = Converter(
    repository="JinluZhang1126/MixSTE",
    keys=("Spatial_patch_to_embedding.", "STEblocks.", "TTEblocks.", "Temporal_pos_embed"),
    without=("x_token", "kpattention."),
    read=_read,
)

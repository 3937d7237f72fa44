"""HoT on MixSTE (NationalGAILab/HoT)."""

from __future__ import annotations

from poseda.lifters.official.layout import HEADS, TIES, Converter, Layout, Reading
from poseda.lifters.official.mixste import alternating_options

_LAYER = 3


def _read(layout: Layout) -> Reading:
    options = alternating_options(layout)
    depth = layout.count("STEblocks.")
    options |= {"tokens": layout.size("pos_embed_token", 1), "layer": min(_LAYER, max(depth - 1, 1))}
    layer = f"Frames are dropped before layer {options['layer']}, as published: the file does not tell."
    return Reading("hot", options, (HEADS, layer, TIES))


OFFICIAL = Converter(
    repository="NationalGAILab/HoT",
    keys=("STEblocks.", "TTEblocks.", "x_token", "pos_embed_token", "cross_attention."),
    read=_read,
)

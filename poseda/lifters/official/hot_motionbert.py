"""HoT on MotionBERT (NationalGAILab/HoT), whose weights are not published but whose code is."""

from __future__ import annotations

from poseda.lifters.official.layout import CONFIDENCE, HEADS, IMAGE, SCALE, TIES, UNTRAINED, Converter, Layout, Reading
from poseda.lifters.official.motionbert import stream_options


def _read(layout: Layout) -> Reading:
    options = stream_options(layout) | {"tokens": layout.size("pos_embed_token", 1), "layer": 1}
    layer = "Frames are dropped before layer 1, as published: the file does not tell."
    return Reading("hot_motionbert", options, (SCALE, UNTRAINED, CONFIDENCE, HEADS, layer, TIES), IMAGE)


OFFICIAL = Converter(
    repository="NationalGAILab/HoT",
    keys=("blocks_st.", "blocks_ts.", "x_token", "pos_embed_token", "cross_attention."),
    read=_read,
)

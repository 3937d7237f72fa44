"""HoT on MotionAGFormer (NationalGAILab/HoT), whose weights are not published but whose code is."""

from __future__ import annotations

from poseda.lifters.official.layout import CONFIDENCE, IMAGE, SCALE, TIES, UNTRAINED, Converter, Layout, Reading
from poseda.lifters.official.motionagformer import graph_options

_NORM = "layers.{}.graph_temporal.mixer.batch_norm.weight"


def _read(layout: Layout) -> Reading:
    options, frames = graph_options(layout), layout.size("x_token", 1)
    tokens, depth = layout.size("pos_embed_token", 1), layout.count("layers.")
    whole = sum(layout.size(_NORM.format(index), 0) == frames for index in range(depth))
    options |= {"frames": frames, "tokens": tokens, "layer": whole if tokens < frames else min(7, max(depth - 1, 1))}
    assumed = "4 attention heads and 4 neighbours of a frame in the temporal graph are those of its code."
    return Reading("hot_motionagformer", options, (SCALE, UNTRAINED, CONFIDENCE, assumed, TIES), IMAGE)


OFFICIAL = Converter(
    repository="NationalGAILab/HoT",
    keys=("layers.0.att_spatial.", "layers.0.graph_temporal.", "x_token", "pos_embed_token", "cross_attention."),
    read=_read,
)

"""ST-GCN on one frame, as PoseAug trains it for 16 joints (jfzhang95/PoseAug)."""

from __future__ import annotations

from poseda.lifters.official.layout import Converter, Layout, Reading

INNER = "stgcn."
"""What PoseAug puts before the names of the authors' own network, as our lifter does."""


def _read(layout: Layout) -> Reading:
    channels = layout.size(f"{INNER}st_gcn_networks.0.tcn.0.weight", 0)
    return Reading("stgcn", {"skeleton": "h36m16", "channels": channels, "sigma": False})


OFFICIAL = Converter(
    repository="jfzhang95/PoseAug",
    keys=(f"{INNER}data_bn.", f"{INNER}st_gcn_networks.", f"{INNER}st_gcn_pool.", f"{INNER}non_local."),
    read=_read,
)

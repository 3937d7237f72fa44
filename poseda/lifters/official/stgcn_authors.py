"""ST-GCN on one frame, of its authors, for 17 joints."""

from __future__ import annotations

from poseda.lifters.official.layout import Converter, Layout, Reading
from poseda.lifters.official.stgcn import INNER

_ASSUMED = (
    "Its 17 joints are taken in Human3.6M's order, its input as screen-normalised and its output as metres, as in "
    "PoseAug's copy of the network. The authors' refinement network is a file of its own, and not used."
)


def _read(layout: Layout) -> Reading:
    channels = layout.size("st_gcn_networks.0.tcn.0.weight", 0)
    options = {"skeleton": "h36m17", "channels": channels, "sigma": False}
    return Reading("stgcn", options, (_ASSUMED,), rename=lambda key: INNER + key)


OFFICIAL = Converter(
    repository="vanoracai/Exploiting-Spatial-temporal-Relationships-for-3D-Pose-Estimation-"
    "via-Graph-Convolutional-Networks",
    keys=("data_bn.", "st_gcn_networks.", "st_gcn_pool.", "non_local."),
    read=_read,
)

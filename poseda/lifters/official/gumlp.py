"""UAO's Gaussian network (xiu-cs/UAO-Pose3D): mean poses and the logarithm of each joint's error."""

from __future__ import annotations

from poseda.lifters.official.layout import Converter, Layout, Reading


def _read(layout: Layout) -> Reading:
    options = {
        "skeleton": layout.skeleton(layout.size("GCN_MLP.blocks.0.norm1.weight", 0)),
        "channels": layout.size("encoder.fc5.weight", 0),
        "blocks": layout.count("GCN_MLP.blocks."),
    }
    return Reading("gumlp", options)


OFFICIAL = Converter(
    repository="xiu-cs/UAO-Pose3D",
    keys=("encoder.fc1.", "GCN_MLP.blocks.", "pred_mu.", "pred_s."),
    read=_read,
)

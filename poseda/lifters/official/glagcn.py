"""GLA-GCN (bruceyo/GLA-GCN), for Human3.6M and HumanEva. Its graph is not in the file: it follows from the joints."""

from __future__ import annotations

from poseda.lifters.official.layout import OTHER_17, Converter, Layout, Reading

_HUMANEVA = (
    "Read as HumanEva's weights for ground-truth keypoints (run_s-agcn.py); those for detections (run_s-agcn_HE_13.py) "
    "have the same names and shapes but a graph without two of the bones, and would give wrong poses."
)
_REMARKS = {"h36m17": (OTHER_17,), "humaneva15": (_HUMANEVA,)}


def _read(layout: Layout) -> Reading:
    units = layout.count("layers_tcngcn.")
    if units % 2 or not 2 <= units <= 10:
        raise layout.refuse(f"a GLA-GCN with {units} units after the first; known are 2, 4, 6, 8 and 10.")
    skeleton = layout.skeleton(layout.size("data_bn.weight", 0) // 2)
    options = {
        "skeleton": skeleton,
        "frames": 3 ** (units // 2),
        "channels": layout.size("fc.weight", 1),
        "sigma": False,
    }
    return Reading("glagcn", options, _REMARKS.get(skeleton, ()))


OFFICIAL = Converter(
    repository="bruceyo/GLA-GCN",
    keys=("data_bn.", "expand_gcn.", "layers_tcngcn.", "fc."),
    read=_read,
)

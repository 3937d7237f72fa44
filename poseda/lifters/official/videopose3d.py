"""VideoPose3D (facebookresearch/VideoPose3D), and the single-frame form of it that PoseAug trains."""

from __future__ import annotations

from poseda.lifters.official.layout import Converter, Layout, Reading

_CAUSAL = "Weights trained with --causal have the same shapes and would be wrong: symmetric windows are assumed."
_COCO = (
    "Its weights for COCO keypoints (detectron_coco) have the same shapes and would be wrong: the input is taken to be "
    "Human3.6M's 17 joints, as of the CPN detections."
)


def _read(layout: Layout) -> Reading:
    later = range(0, layout.count("layers_conv."), 2)
    widths = [layout.size("expand_conv.weight", 2), *(layout.size(f"layers_conv.{i}.weight", 2) for i in later)]
    single = widths == [1] * 5
    if not single and (set(widths) != {3} or len(widths) > 5):
        raise layout.refuse(f"a VideoPose3D with filter widths {widths[:8]}; known are 3s, up to five, or five 1s.")
    if "detectron_coco" in layout.path.name:
        raise layout.refuse("VideoPose3D for COCO keypoints; lifters here have one joint set for 2D and 3D.")
    joints, outputs = layout.size("expand_conv.weight", 1) // 2, layout.size("shrink.weight", 0) // 3
    if outputs != joints - single:
        raise layout.refuse(f"a VideoPose3D from {joints} to {outputs} joints; lifters here have one joint set.")
    options = {
        "skeleton": layout.skeleton(joints),
        "frames": 1 if single else 3 ** len(widths),
        "channels": layout.size("expand_conv.weight", 0),
        "sigma": False,
    }
    if single:
        return Reading("videopose3d", options, repository="jfzhang95/PoseAug")
    return Reading("videopose3d", options, (_CAUSAL, _COCO) if joints == 17 else (_CAUSAL,))


OFFICIAL = Converter(
    repository="facebookresearch/VideoPose3D",
    keys=("expand_conv.", "expand_bn.", "shrink."),
    read=_read,
)

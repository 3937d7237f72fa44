"""SimpleBaseline: PoseAug's, SemGCN's linear network in two forms, and weigq's z-scored port of the original.

PoseAug's and SemGCN's give 45 numbers, of h36m16 without the root. weigq's and SemGCN's first give 48, of h36m17
without the root; weigq's reads all joints but the nose, SemGCN's first all but the hip.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from poseda.errors import DataError
from poseda.files.checks import a_dict, an_array
from poseda.files.torch_files import open_torch
from poseda.lifters.base import MM_PER_METRE
from poseda.lifters.official.layout import Converter, Layout, Reading

_WEIGQ, _POSEAUG = "weigq/3d_pose_baseline_pytorch", "jfzhang95/PoseAug"
_AMBIGUOUS = (
    "That the numbers are the z-scores of weigq's port is assumed: its 'err' is not beside the weights, and neither is "
    "the 'error' of SemGCN's first linear network, which has the same names and shapes."
)
_FIRST = (
    "The first form of SemGCN's linear network, told by the 'error' beside its weights: the hip is in neither input "
    "nor output, the nose is in both."
)
_FOLDED = (
    "The z-scores of stat_2d.pth.tar and stat_3d.pth.tar are folded into the first and last layer, for images of "
    "1000 x 1000 px, Human3.6M's; the nose, which is in the output alone, is dropped."
)
_OF_32 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""Human3.6M's 17 joints in the set of 32 that the statistics are for."""
_NOSE = 9
_HALF_IMAGE_PX = 500.0


def _read(layout: Layout) -> Reading:
    joints, outputs = layout.size("w1.weight", 1) // 2, layout.size("w2.weight", 0)
    options: dict[str, object] = {
        "skeleton": "h36m16",
        "hidden": layout.size("w1.weight", 0),
        "blocks": layout.count("linear_stages."),
        "sigma": False,
    }
    if (joints, outputs) not in ((16, 45), (16, 48)):
        raise layout.refuse(
            f"a SimpleBaseline of {joints} joints with {outputs} outputs; published ones have 16 joints with 45 or 48, "
            "and what another was trained on its file does not tell."
        )
    from_semgcn = "error" in layout.beside
    if outputs == 45:
        return Reading("simplebaseline", options, repository="" if from_semgcn else _POSEAUG)
    if from_semgcn:
        return Reading("simplebaseline", options | {"skeleton": "h36m17"}, (_FIRST,), change=_without_hip)
    fold = _Fold(_statistics(layout, "stat_2d.pth.tar", 2), _statistics(layout, "stat_3d.pth.tar", 3))
    remarks = (_FOLDED,) if "err" in layout.beside else (_FOLDED, _AMBIGUOUS)
    return Reading("simplebaseline", options, remarks, repository=_WEIGQ, change=fold)


def _without_hip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a network that reads 16 joints one that reads 17, without any weight for the first."""
    return weights | {"w1.weight": functional.pad(weights["w1.weight"], (2, 0))}


class _Fold:
    """Makes of a network between z-scores one from screen-normalised keypoints to metres."""

    def __init__(self, plane: NDArray[np.float64], space: NDArray[np.float64]) -> None:
        joints = [joint for index, joint in enumerate(_OF_32) if index != _NOSE]
        self.mean_px, self.deviation_px = (torch.from_numpy(rows[joints].flatten()) for rows in plane)
        self.mean_mm, self.deviation_mm = (torch.from_numpy(rows[joints[1:]].flatten()) for rows in space)
        outputs = torch.arange(48).view(16, 3)  # all of the 17 but the root; the nose is the ninth of them
        self.rows = torch.cat([outputs[: _NOSE - 1], outputs[_NOSE:]]).flatten()

    def __call__(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """z = (500 n + 500 - mean) / deviation px before the first layer, and back to metres after the last."""
        first, last = weights["w1.weight"].double(), weights["w2.weight"].double()[self.rows]
        start = first @ ((_HALF_IMAGE_PX - self.mean_px) / self.deviation_px) + weights["w1.bias"]
        scale = self.deviation_mm / MM_PER_METRE
        end = weights["w2.bias"].double()[self.rows] * scale + self.mean_mm / MM_PER_METRE
        folded = {
            "w1.weight": first * (_HALF_IMAGE_PX / self.deviation_px),
            "w1.bias": start,
            "w2.weight": last * scale[:, None],
            "w2.bias": end,
        }
        return weights | {key: value.float() for key, value in folded.items()}


def _statistics(layout: Layout, name: str, axes: int) -> NDArray[np.float64]:
    """Mean and deviation (2, 32, axes) of a file beside the checkpoint."""
    path: Path = layout.path.with_name(name)
    if not path.is_file():
        raise layout.refuse(
            "weigq's network, as 48 outputs without an 'error' beside them tell, reads and gives z-scores whose means "
            "and deviations are not in the file; put stat_2d.pth.tar and stat_3d.pth.tar of its data folder beside it."
        )
    held = a_dict(open_torch(path).root, str(path))
    rows = [an_array(held.get(key), f"{path}: {key}", (32 * axes,)) for key in ("mean", "std")]
    found = np.stack(rows).astype(np.float64).reshape(2, 32, axes)
    used = found[:, [joint for joint in _OF_32 if axes == 2 or joint]]
    if not np.isfinite(used).all() or (used[1] <= 0).any():
        raise DataError(f"{path}: a mean that is not finite or a deviation that is not positive.")
    return found


OFFICIAL = Converter(
    repository="garyzhao/SemGCN",
    keys=("w1.", "batch_norm1.", "linear_stages.", "w2."),
    read=_read,
)

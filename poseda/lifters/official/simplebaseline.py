"""SimpleBaseline: PoseAug's, SemGCN's linear network, and weigq's port of the original, which is z-scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseda.errors import DataError
from poseda.files.checks import a_dict, an_array
from poseda.files.torch_files import open_torch
from poseda.lifters.official.layout import Converter, Layout, Reading

_WEIGQ = "weigq/3d_pose_baseline_pytorch"
_AMBIGUOUS = (
    "Read as SemGCN's linear network, screen-normalised and in metres. weigq's port has the same names and shapes but "
    "z-scored numbers; it is told by the 'err' beside its weights, which this file lacks."
)
_FOLDED = (
    "The z-scores of stat_2d.pth.tar and stat_3d.pth.tar are folded into the first and last layer, for images of "
    "1000 x 1000 px, Human3.6M's; the nose, which is in the output alone, is dropped."
)
_OF_32 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""Human3.6M's 17 joints in the set of 32 that the statistics are for."""
_NOSE = 9
_HALF_IMAGE_PX = 500.0
_MM_PER_METRE = 1000.0


def _read(layout: Layout) -> Reading:
    joints, outputs = layout.size("w1.weight", 1) // 2, layout.size("w2.weight", 0)
    options: dict[str, object] = {
        "skeleton": layout.skeleton(joints),
        "hidden": layout.size("w1.weight", 0),
        "blocks": layout.count("linear_stages."),
        "root_output": outputs == 3 * joints,
        "sigma": False,
    }
    if outputs == 3 * joints - 3:
        return Reading("simplebaseline", options, repository="jfzhang95/PoseAug")
    if "err" not in layout.beside:
        return Reading("simplebaseline", options, (_AMBIGUOUS,))
    if (joints, outputs) != (16, 48):
        raise layout.refuse(f"weigq's network with {joints} joints and {outputs} outputs; known are 16 and 48.")
    fold = _Fold(_statistics(layout, "stat_2d.pth.tar", 2), _statistics(layout, "stat_3d.pth.tar", 3))
    folded = options | {"root_output": False}
    return Reading("simplebaseline", folded, (_FOLDED,), repository=_WEIGQ, change=fold)


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
        scale = self.deviation_mm / _MM_PER_METRE
        end = weights["w2.bias"].double()[self.rows] * scale + self.mean_mm / _MM_PER_METRE
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
            "weigq's network, which reads and gives z-scores whose means and deviations are not in the file; put "
            "stat_2d.pth.tar and stat_3d.pth.tar of its data folder beside it."
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

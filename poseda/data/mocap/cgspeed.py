"""The CMU database as BVH, as B. Hahne converted it (cgspeed.com, the 2008 release that most copies descend from).

The conversion drops the bone after a branching joint: its offsets are zero, so neck and shoulders lie 2 units (11 cm)
too low, and the forearms lack their last third. They are restored here. The forearm is exact: the ASF splits it into
2/3 and 1/3 to carry its twist. The thorax is the ASF's, where the subject's ASF is at hand; otherwise the bone below
it, the upper back, stands for it, which puts neck and arms 3 to 4 mm off in the two subjects checked (05, 35).
"""

from __future__ import annotations

import numpy as np

from poseda.data.mocap.asf import Asf
from poseda.data.mocap.bvh import Bvh
from poseda.data.mocap.kinematics import Array
from poseda.errors import DataError

UNIT_MM = 25.4 / 0.45
MARKS = frozenset({"LHipJoint", "RHipJoint", "LowerBack", "Neck1", "LeftFingerBase", "RightFingerBase"})
"""Joints that, together, only this conversion has."""
_ABOVE_THORAX = ("Neck", "LeftShoulder", "RightShoulder")
_AFTER_WRIST = {"LeftHand": ("LeftFingerBase", "LThumb"), "RightHand": ("RightFingerBase", "RThumb")}
_LONGEST_T_POSE = 2


def mend_bones(motion: Bvh, skeleton: Asf | None) -> Bvh:
    """The dropped bones restored, where offsets say that they were dropped; the same motion otherwise.

    skeleton: the subject's ASF, or None. Raises DataError where it is another person's.
    """
    offsets: dict[str, Array] = {}
    if all(_is_zero(motion, name) for name in _ABOVE_THORAX):
        offsets |= dict.fromkeys(_ABOVE_THORAX, _thorax(motion, skeleton))
    for hand, after in _AFTER_WRIST.items():
        if _is_zero(motion, after[0]):
            wrist = motion.offsets[motion.index[hand]] / 2
            offsets |= {name: wrist for name in after if name in motion.index and _is_zero(motion, name)}
    return motion.with_offsets(offsets)


def _is_zero(motion: Bvh, name: str) -> bool:
    return name in motion.index and not motion.offsets[motion.index[name]].any()


def _thorax(motion: Bvh, skeleton: Asf | None) -> Array:
    """The bone from the end of the upper back to the base of the neck, in units of the file."""
    below: Array = motion.offsets[motion.index["Spine1"]]
    if skeleton is None:
        return below
    upper, thorax = (skeleton.vectors[skeleton.index[bone]] / UNIT_MM for bone in ("upperback", "thorax"))
    if np.abs(upper - below).max() > 1e-2:
        raise DataError(f"{motion.path}: {skeleton.path} is another person's skeleton (upper back differs); remove it.")
    return np.asarray(thorax)


def without_t_pose(motion: Bvh) -> Bvh:
    """The motion without the rest pose that the release puts before it: one frame, or two in its Daz variant.

    Such a frame has nearly all rotations at exactly 0.
    """
    turns = [channel[1] == "r" for channels in motion.channels for channel in channels]
    zeros = (motion.values[: _LONGEST_T_POSE + 1, turns] == 0).mean(1) > 0.7
    still = int(np.argmin(zeros)) if not zeros.all() else 0
    return motion.from_frame(still)

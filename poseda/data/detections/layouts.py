"""Joint layouts of detectors, told by names or by number, and their joints turned into the asked joint set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from poseda.data.detections.found import Floats, Found
from poseda.data.detections.options import Construction
from poseda.errors import ConfigError, DataError, choose
from poseda.files.opening import printable
from poseda.skeleton import Skeleton, convert_confidence, convert_joints, get_skeleton


@dataclass(frozen=True)
class Layout:
    """Which columns of the file are the joints of which skeleton."""

    title: str
    skeleton: Skeleton
    columns: tuple[int, ...]


# name: (name for the user, joints in the file, skeleton of the first of them)
_KNOWN = {
    "coco17": ("COCO-17", 17, "coco17"),
    "coco18": ("OpenPose's COCO-18", 18, "coco18"),
    "body25": ("BODY_25", 25, "body25"),
    "halpe26": ("Halpe-26", 26, "halpe26"),
    "wholebody133": ("COCO-17 of COCO-WholeBody-133", 133, "coco17"),
    "halpe136": ("Halpe-26 of Halpe-136", 136, "halpe26"),
    "h36m17": ("Human3.6M-17", 17, "h36m17"),
    "h36m16": ("Human3.6M-16", 16, "h36m16"),
    "mpii16": ("MPII-16", 16, "mpii16"),
    "3dhp17": ("MPI-INF-3DHP-17", 17, "3dhp17"),
}
# What a number of joints means where the file says no more; 17 joints are COCO's in every detector's own output.
_BY_NUMBER = {_KNOWN[name][1]: name for name in ("coco17", "coco18", "body25", "halpe26", "wholebody133", "halpe136")}
_BY_NAMES = ("h36m17", "halpe26", "body25", "coco17", "mpii16", "h36m16")
_ALIASES = {
    "root": "pelvis", "hip": "pelvis", "neck": "thorax", "neckbase": "nose", "upperneck": "nose",
    "headtop": "head", "lfoot": "lankle", "rfoot": "rankle",
}  # fmt: skip


def choose_layout(found: Found, wanted: str, where: str) -> Layout:
    """The layout that the user says, else that of the file's joint names, its statement, or the number of joints.

    Raises ConfigError for a wanted layout with another number of joints, DataError where nothing is known.
    """
    joints = found.keypoints.shape[1]
    if wanted:
        layout = _known(choose(wanted, _KNOWN, "layout"))
        if _KNOWN[wanted][1] != joints:
            raise ConfigError(f"layout={wanted} has {_KNOWN[wanted][1]} joints; {where} has {joints}.")
        return layout
    if found.names:
        return _by_names(found.names, joints, where)
    name = found.layout if found.layout and _KNOWN[found.layout][1] == joints else _BY_NUMBER.get(joints)
    if name is None:
        numbers = ", ".join(f"{number} ({_KNOWN[name][0]})" for number, name in _BY_NUMBER.items())
        raise DataError(f"{where}: {joints} joints; known are {numbers}, or say layout=, one of {', '.join(_KNOWN)}.")
    return _known(name)


def _known(name: str) -> Layout:
    title, _, skeleton = _KNOWN[name]
    return Layout(title, get_skeleton(skeleton), tuple(range(get_skeleton(skeleton).num_joints)))


def _by_names(names: Sequence[str], joints: int, where: str) -> Layout:
    if len(names) != joints:
        raise DataError(f"{where}: {len(names)} joint names for {joints} joints.")
    column = {name: index for index, name in reversed(list(enumerate(_canonical(names))))}
    for name in _BY_NAMES:
        skeleton = get_skeleton(name)
        if all(joint in column for joint in skeleton.joints):
            columns = tuple(column[joint] for joint in skeleton.joints)
            return Layout(f"{_KNOWN[name][0]} joints by name", skeleton, columns)
    seen = printable(", ".join(names[:6]), 80)
    raise DataError(f"{where}: joints {seen} ... make up no known joint set; say layout=, one of {', '.join(_KNOWN)}.")


def _canonical(names: Sequence[str]) -> list[str]:
    """Names of this package: left_big_toe -> lbigtoe, root -> pelvis. Beside a head_top (3DHP), "head" is the nose."""
    plain = [name.lower().replace("left_", "l").replace("right_", "r").replace("_", "") for name in names]
    if "headtop" in plain and "head" in plain:
        plain[plain.index("head")] = "nose"
    taken = set(plain)
    return [name if _ALIASES.get(name, name) in taken else _ALIASES[name] for name in plain]


def convert(
    points: Floats, confidence: Floats, source: Skeleton, target: Skeleton, how: Construction
) -> tuple[Floats, Floats]:
    """(N, Js, 2) px and (N, Js) -> (N, Jt, 2) and (N, Jt); a made joint is as sure as its least sure part.

    Missing joints (confidence 0) come out as 0. Raises DataError naming the joints that cannot be had.
    """
    points = np.where(confidence[..., None] > 0, points, 0.0)
    if how == "gast" and not set(target.joints) <= set(source.joints) and _is_coco_like(source):
        points, confidence = _construct(points, confidence, source)
        source = get_skeleton("h36m17")
    sure = convert_confidence(torch.from_numpy(confidence), source, target).numpy()
    made = convert_joints(torch.from_numpy(points), source, target).numpy()
    return np.where(sure[..., None] > 0, made, 0.0), sure


def _is_coco_like(source: Skeleton) -> bool:
    return "head" not in source.joints and set(get_skeleton("coco17").joints) <= set(source.joints)


def _construct(points: Floats, confidence: Floats, source: Skeleton) -> tuple[Floats, Floats]:
    """Human3.6M-17 as GAST-Net makes it."""
    matrix = gast_matrix(source)
    made = np.stack([points[..., axis] @ matrix[axis].T for axis in (0, 1)], -1)
    parts = (matrix != 0).any(0)
    return made, np.stack([confidence[:, part].min(-1) for part in parts], -1)


@cache
def gast_matrix(source: Skeleton) -> Floats:
    """(2, 17, Js): x and y of Human3.6M-17 from joints that hold COCO's, as GAST-Net and MHFormer construct them.

    Read in GAST-Net's tools/mpii_coco_h36m.py. A pelvis or a neck of the source's own is kept. The image's y axis
    points down, so the head, 2 eyes - nose, lies above the eyes. Do not write to it.
    """
    own = dict(zip(source.joints, np.eye(source.num_joints), strict=True))
    shoulders = (own["lshoulder"] + own["rshoulder"]) / 2
    hips = (own["lhip"] + own["rhip"]) / 2
    eyes, ears, nose = (own["leye"] + own["reye"]) / 2, (own["lear"] + own["rear"]) / 2, own["nose"]
    thorax = shoulders + (nose - shoulders) / 3
    pelvis, spine = own.get("pelvis", hips), (shoulders + hips) / 2
    neck = own.get("thorax", thorax)
    both = {**own, "pelvis": pelvis, "nose": nose - (nose - shoulders) / 4}
    x = {**both, "head": (eyes + ears) / 2, "thorax": neck, "spine": spine + 2 * (spine - (pelvis + neck) / 2)}
    low = own.get("thorax", thorax - (eyes - nose) * 2 / 3)
    y = {**both, "head": 2 * eyes - nose, "thorax": low, "spine": spine}
    return np.stack([np.stack([axis[joint] for joint in get_skeleton("h36m17").joints]) for axis in (x, y)])

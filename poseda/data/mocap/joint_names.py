"""The 17 joints of Human3.6M in skeletons of animation programs, by the names that these give to joints.

Known: Mixamo, MotionBuilder and their kin (LeftUpLeg, LeftArm), Rokoko (LeftThigh), Unity and VRM (LeftUpperLeg), Xsens
and Biovision (LeftHip, LeftShoulder), 3ds Max biped (Bip01 L Thigh), Daz and Poser (lThigh, lShldr), Blender
(thigh.L). Prefixes up to a colon, and case, spaces, dots, dashes and underscores, do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from poseda.data.mocap.bvh import Bvh
from poseda.data.mocap.kinematics import Array
from poseda.errors import DataError
from poseda.skeleton import get_skeleton

JOINTS = get_skeleton("h36m17").joints
# Three names of one family each: "shoulder" is the joint in one and the collar bone in another.
_LEGS = (("upleg", "leg", "foot"), ("upperleg", "lowerleg", "foot"), ("thigh", "shin", "foot"),
         ("thigh", "calf", "foot"), ("hip", "knee", "ankle"))  # fmt: skip
_ARMS = (("arm", "forearm", "hand"), ("upperarm", "lowerarm", "hand"), ("upperarm", "forearm", "hand"),
         ("shldr", "forearm", "hand"), ("shoulder", "elbow", "wrist"))  # fmt: skip
_SIDES = {"l": ("left{}", "l{}", "{}left", "{}l"), "r": ("right{}", "r{}", "{}right", "{}r")}
_NECKS = ("neck", "neck1", "neck01", "lowerneck")
_HEADS = ("headtopend", "headtop", "headend", "headnub", "headsite")
_PREFIX = re.compile(r"^(mixamorig\d*|bip\d+|character\d+|model)(?=[a-z])")
_SHORTEST_HEAD = 0.1

Recipe = Mapping[str, tuple[str, ...]]
"""Joint of h36m17 -> one joint of the file, or two for the middle between them."""


@dataclass(frozen=True)
class Found:
    """What was found by name, and which joints were not."""

    recipe: Recipe
    missing: tuple[str, ...]


def find_joints(motion: Bvh) -> Found:
    """The h36m17 joints of a hierarchy by its names.

    Limbs and neck are found by name. Pelvis is the middle of the hips; thorax the (first) neck joint, where the neck
    begins; spine the joint between root and neck that is nearest to half way; head the end of the head, where it is at
    least a tenth of the trunk away from it; nose the middle between thorax and head.
    """
    known: dict[str, str] = {}
    for name in motion.names:
        known.setdefault(_plain(name), name)
    recipe: dict[str, tuple[str, ...]] = {}
    for parts, families in ((("hip", "knee", "ankle"), _LEGS), (("shoulder", "elbow", "wrist"), _ARMS)):
        recipe |= _limbs(parts, families, known)
    if {"lhip", "rhip"} <= set(recipe):
        recipe["pelvis"] = (*recipe["lhip"], *recipe["rhip"])
    neck = next((known[name] for name in _NECKS if name in known), None)
    if neck:
        recipe["thorax"] = (neck,)
        recipe["spine"] = _spine(motion, neck)
        top = _top(motion, known, neck)
        if top:
            recipe |= {"head": (top,), "nose": (neck, top)}
    return Found(recipe, tuple(joint for joint in JOINTS if joint not in recipe))


def _plain(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", name.rpartition(":")[2].lower())
    return _PREFIX.sub("", plain)


def _limbs(parts: Sequence[str], families: Sequence[Sequence[str]], known: Mapping[str, str]) -> dict[str, tuple[str]]:
    """Joints of both sides in the first family of names that has them all."""
    for family in families:
        for left, right in zip(_SIDES["l"], _SIDES["r"], strict=True):
            names = [(f"{side}{part}", form.format(name)) for part, name in zip(parts, family, strict=True)
                     for side, form in (("l", left), ("r", right))]  # fmt: skip
            if all(name in known for _, name in names):
                return {joint: (known[name],) for joint, name in names}
    return {}


def _up_to_root(motion: Bvh, name: str) -> list[int]:
    chain = [motion.index[name]]
    while motion.parents[chain[-1]] >= 0:
        chain.append(motion.parents[chain[-1]])
    return chain


def _spine(motion: Bvh, neck: str) -> tuple[str, ...]:
    """The joint on the way from the root to the neck that is nearest to half of it; the middle where there is none."""
    chain = _up_to_root(motion, neck)
    steps = [float(np.linalg.norm(motion.offsets[joint])) for joint in chain[:-1]]
    inner = chain[1:-1]
    if not inner:
        return (motion.names[chain[-1]], neck)
    walked = np.cumsum(steps)
    nearest = int(np.abs(walked[:-1] - walked[-1] / 2).argmin())
    return (motion.names[inner[nearest]],)


def _top(motion: Bvh, known: Mapping[str, str], neck: str) -> str | None:
    """The end of the head, if the file has one that is away from the head's joint."""
    trunk = sum(float(np.linalg.norm(motion.offsets[joint])) for joint in _up_to_root(motion, neck)[:-1])
    for plain in _HEADS:
        place = motion.index.get(known.get(plain, ""), -1)
        if place >= 0 and float(np.linalg.norm(motion.offsets[place])) > _SHORTEST_HEAD * trunk:
            return motion.names[place]
    return None


def take_joints(positions: Array, names: Mapping[str, int], recipe: Recipe) -> Array:
    """The h36m17 joints: (T, J, 3) with the place of each name -> (T, 17, 3), units kept."""
    parts = [[positions[:, names[name]] for name in recipe[joint]] for joint in JOINTS]
    return np.stack([sum(part[1:], part[0]) / len(part) for part in parts], 1)


def read_recipe(given: Mapping[str, object], motion: Bvh, where: str) -> dict[str, tuple[str, ...]]:
    """Check "joints" of a mapping file: h36m17 joint -> a name in the file, or a list of two. Raises DataError."""
    recipe = {}
    for joint, value in given.items():
        names = tuple(value) if isinstance(value, list) else (value,)
        if joint not in JOINTS:
            raise DataError(f"{where}.{joint}: no such joint; known: {', '.join(JOINTS)}.")
        if not 1 <= len(names) <= 2 or not all(isinstance(name, str) for name in names):
            raise DataError(f"{where}.{joint}: expected the name of a joint, or a list of two for their middle.")
        unknown = [name for name in names if name not in motion.index]
        if unknown:
            raise DataError(f"{where}.{joint}: {motion.path} has no joint '{unknown[0]}'; {names_found(motion)}")
        recipe[joint] = tuple(str(name) for name in names)
    return recipe


def names_found(motion: Bvh) -> str:
    """A sentence with the names of a hierarchy's joints."""
    shown = ", ".join(motion.names[:80])
    return f"found: {shown}{' ...' if len(motion.names) > 80 else ''}."


def feet(parents: Sequence[int], ankles: Sequence[int]) -> list[int]:
    """The ankles and all joints that hang on them. parents: each joint after its parent."""
    found = set(ankles)
    for joint, parent in enumerate(parents):
        if parent in found:
            found.add(joint)
    return sorted(found)


def standing_height(joints: Array) -> float:
    """How tall a person is from ankles to the top of the head, by the bones' lengths: (T, 17, 3), its unit."""
    bones = get_skeleton("h36m17").bones
    lengths = {JOINTS[c]: float(np.median(np.linalg.norm(joints[:, c] - joints[:, p], axis=-1))) for p, c in bones}
    legs = sum(lengths[f"{side}{part}"] for side in "lr" for part in ("knee", "ankle")) / 2
    return legs + sum(lengths[joint] for joint in ("spine", "thorax", "nose", "head"))

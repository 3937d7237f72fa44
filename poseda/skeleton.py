"""Joint sets by name: trees, left/right, bones, constant matrices, and conversion from one set to another.

Canonical joint names are those of Human3.6M-17. "thorax" is the base of the neck (3DHP calls it neck), "nose"
is Human3.6M's Neck/Nose (3DHP: head; COCO: nose) and "head" is the top of the head (3DHP: head_top).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from poseda.errors import DataError, ShapeError, choose

_GROUPS = {
    "hip": "hip", "knee": "thigh", "ankle": "shank", "spine": "spine", "thorax": "torso", "nose": "neck",
    "head": "head", "shoulder": "shoulder", "elbow": "upper_arm", "wrist": "forearm",
}  # fmt: skip


@dataclass(frozen=True)
class Skeleton:
    """A tree of named joints. parents[j] is the index of joint j's parent, -1 at the root; in any order.

    Left and right joints are named l<part> and r<part>. Raises DataError when the tree is not a tree.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        count = len(self.joints)
        if len(self.parents) != count or len(set(self.joints)) != count or self.parents.count(-1) != 1:
            raise DataError(f"Skeleton '{self.name}': needs distinct joints, a parent each, one root (-1).")
        if not all(-1 <= parent < count for parent in self.parents):
            raise DataError(f"Skeleton '{self.name}': a parent is outside -1..{count - 1}.")
        for joint in range(count):
            if self._chain(joint) is None:
                raise DataError(f"Skeleton '{self.name}': '{self.joints[joint]}' does not lead to the root.")

    def _chain(self, joint: int) -> tuple[int, ...] | None:
        """Joints from `joint` up to, and without, the root; None when the parents run in a circle."""
        chain: list[int] = []
        while self.parents[joint] != -1:
            if joint in chain:
                return None
            chain.append(joint)
            joint = self.parents[joint]
        return tuple(chain)

    @property
    def num_joints(self) -> int:
        """Number of joints J."""
        return len(self.joints)

    @cached_property
    def root(self) -> int:
        """Index of the joint that has no parent."""
        return self.parents.index(-1)

    def index(self, joint: str) -> int:
        """Index of the joint of that name; ConfigError with the nearest name when there is none."""
        return self.joints.index(choose(joint, self.joints, f"joint in skeleton {self.name}"))

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """Permutation that swaps left and right: joints[..., mirror, :] are the joints of the other side."""
        place = {joint: index for index, joint in enumerate(self.joints)}
        others = [{"l": "r", "r": "l"}.get(joint[:1], "") + joint[1:] for joint in self.joints]
        return tuple(place.get(other, index) for index, other in enumerate(others))

    @cached_property
    def left(self) -> tuple[int, ...]:
        """Indices of the left joints; left[i] and right[i] are a pair."""
        return tuple(i for i, name in enumerate(self.joints) if name[0] == "l" and self.mirror[i] != i)

    @cached_property
    def right(self) -> tuple[int, ...]:
        """Indices of the right joints; left[i] and right[i] are a pair."""
        return tuple(self.mirror[i] for i in self.left)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) of each bone, ordered by child; E = J - 1 of them."""
        return tuple((parent, child) for child, parent in enumerate(self.parents) if parent != -1)

    @cached_property
    def bone_names(self) -> tuple[str, ...]:
        """Name of each bone: that of its child joint."""
        return tuple(self.joints[child] for _, child in self.bones)

    @cached_property
    def bone_pairs(self) -> tuple[tuple[int, int], ...]:
        """(left bone, right bone) indices into `bones`."""
        place = {child: bone for bone, (_, child) in enumerate(self.bones)}
        pairs = zip(self.left, self.right, strict=True)
        return tuple((place[left], place[right]) for left, right in pairs if left in place and right in place)

    @cached_property
    def bone_groups(self) -> dict[str, tuple[int, ...]]:
        """Bones by anatomical name, left and right together: hip thigh shank spine torso neck head ...

        A bone takes the name that belongs to its child joint; joints outside Human3.6M-17 lend their own.
        """
        groups: dict[str, tuple[int, ...]] = {}
        for bone, (_, child) in enumerate(self.bones):
            joint = self.joints[child]
            part = joint if self.mirror[child] == child else joint[1:]
            group = _GROUPS.get(part, part)
            groups[group] = (*groups.get(group, ()), bone)
        return groups

    @cached_property
    def chains(self) -> tuple[tuple[int, ...], ...]:
        """Bones on the way from the root to each joint (empty for the root itself)."""
        place = {child: bone for bone, (_, child) in enumerate(self.bones)}
        ways = [self._chain(joint) or () for joint in range(self.num_joints)]
        return tuple(tuple(place[joint] for joint in way) for way in ways)

    def bone_matrix(self, like: Tensor | None = None) -> Tensor:
        """(E, J): bone vectors = M @ joints. Cached per dtype and device of `like`; do not write to it."""
        like = torch.zeros(0) if like is None else like
        return _bone_matrix(self, like.dtype, like.device)

    def path_matrix(self, like: Tensor | None = None) -> Tensor:
        """(J, E) of 0 and 1: root-relative joints = P @ bone vectors. Cached as bone_matrix is."""
        like = torch.zeros(0) if like is None else like
        return _path_matrix(self, like.dtype, like.device)

    def mirror_index(self, like: Tensor) -> Tensor:
        """`mirror` as a (J,) int64 tensor on like's device, for index_select. Cached; do not write to it."""
        return index_tensor(self.mirror, like.device)


# Constants are built outside inference mode: one first asked for inside it could never meet autograd.
@cache
def index_tensor(indices: tuple[int, ...], device: torch.device) -> Tensor:
    """(n,) int64 tensor of `indices`, cached so that a hot loop copies nothing; do not write to it."""
    with torch.inference_mode(False):
        return torch.tensor(indices, dtype=torch.int64, device=device)


@cache
def constant_tensor(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n,) tensor of `values`, cached as `index_tensor` is; do not write to it."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


@cache
def _bone_matrix(skeleton: Skeleton, dtype: torch.dtype, device: torch.device) -> Tensor:
    joints = range(skeleton.num_joints)
    rows = [[float((j == child) - (j == parent)) for j in joints] for parent, child in skeleton.bones]
    with torch.inference_mode(False):
        return torch.tensor(rows, dtype=dtype, device=device)


@cache
def _path_matrix(skeleton: Skeleton, dtype: torch.dtype, device: torch.device) -> Tensor:
    rows = [[float(bone in chain) for bone in range(len(skeleton.bones))] for chain in skeleton.chains]
    with torch.inference_mode(False):
        return torch.tensor(rows, dtype=dtype, device=device)


def _skeleton(name: str, tree: str) -> Skeleton:
    """Build from "joint<parent joint<parent ..." where the root has no parent."""
    pairs = [entry.partition("<") for entry in tree.split()]
    joints = tuple(joint for joint, _, _ in pairs)
    return Skeleton(name, joints, tuple(joints.index(parent) if parent else -1 for _, _, parent in pairs))


_H36M17 = """pelvis rhip<pelvis rknee<rhip rankle<rknee lhip<pelvis lknee<lhip lankle<lknee
    spine<pelvis thorax<spine nose<thorax head<nose lshoulder<thorax lelbow<lshoulder lwrist<lelbow
    rshoulder<thorax relbow<rshoulder rwrist<relbow"""
_H36M16 = _H36M17.replace("nose<thorax head<nose", "head<thorax")
_3DHP17 = """head<nose thorax<spine rshoulder<thorax relbow<rshoulder rwrist<relbow
    lshoulder<thorax lelbow<lshoulder lwrist<lelbow rhip<pelvis rknee<rhip rankle<rknee
    lhip<pelvis lknee<lhip lankle<lknee pelvis spine<pelvis nose<thorax"""
_3DHP28 = """spine3<spine2 spine4<spine3 spine2<spine spine<pelvis pelvis thorax<spine4 nose<thorax head<nose
    lclavicle<thorax lshoulder<lclavicle lelbow<lshoulder lwrist<lelbow lhand<lwrist
    rclavicle<thorax rshoulder<rclavicle relbow<rshoulder rwrist<relbow rhand<rwrist
    lhip<pelvis lknee<lhip lankle<lknee lfoot<lankle ltoe<lfoot
    rhip<pelvis rknee<rhip rankle<rknee rfoot<rankle rtoe<rfoot"""
# COCO and LSP have no pelvis: their trees hang from the nose and from the base of the neck.
_COCO17 = """nose leye<nose reye<nose lear<leye rear<reye lshoulder<nose rshoulder<nose lelbow<lshoulder
    relbow<rshoulder lwrist<lelbow rwrist<relbow lhip<lshoulder rhip<rshoulder lknee<lhip rknee<rhip
    lankle<lknee rankle<rknee"""
_HUMANEVA15 = """pelvis thorax<pelvis lshoulder<thorax lelbow<lshoulder lwrist<lelbow
    rshoulder<thorax relbow<rshoulder rwrist<relbow lhip<pelvis lknee<lhip lankle<lknee
    rhip<pelvis rknee<rhip rankle<rknee head<thorax"""
_LSP14 = """rankle<rknee rknee<rhip rhip<thorax lhip<thorax lknee<lhip lankle<lknee
    rwrist<relbow relbow<rshoulder rshoulder<thorax lshoulder<thorax lelbow<lshoulder lwrist<lelbow
    thorax head<thorax"""
# What detectors give. OpenPose's neck is the thorax; Halpe's head is the top of the head.
_COCO18 = """nose<thorax thorax rshoulder<thorax relbow<rshoulder rwrist<relbow lshoulder<thorax lelbow<lshoulder
    lwrist<lelbow rhip<thorax rknee<rhip rankle<rknee lhip<thorax lknee<lhip lankle<lknee
    reye<nose leye<nose rear<reye lear<leye"""
_BODY25 = """nose<thorax thorax<pelvis rshoulder<thorax relbow<rshoulder rwrist<relbow lshoulder<thorax
    lelbow<lshoulder lwrist<lelbow pelvis rhip<pelvis rknee<rhip rankle<rknee lhip<pelvis lknee<lhip lankle<lknee
    reye<nose leye<nose rear<reye lear<leye lbigtoe<lankle lsmalltoe<lbigtoe lheel<lankle
    rbigtoe<rankle rsmalltoe<rbigtoe rheel<rankle"""
_HALPE26 = """nose<thorax leye<nose reye<nose lear<leye rear<reye lshoulder<thorax rshoulder<thorax lelbow<lshoulder
    relbow<rshoulder lwrist<lelbow rwrist<relbow lhip<pelvis rhip<pelvis lknee<lhip rknee<rhip
    lankle<lknee rankle<rknee head<nose thorax<pelvis pelvis lbigtoe<lankle rbigtoe<rankle
    lsmalltoe<lbigtoe rsmalltoe<rbigtoe lheel<lankle rheel<rankle"""
# MPII's upper neck stands for Human3.6M's Neck/Nose, as in GAST-Net's MPII to Human3.6M.
_MPII16 = """rankle<rknee rknee<rhip rhip<pelvis lhip<pelvis lknee<lhip lankle<lknee pelvis thorax<pelvis
    nose<thorax head<nose rwrist<relbow relbow<rshoulder rshoulder<thorax lshoulder<thorax lelbow<lshoulder
    lwrist<lelbow"""

SKELETONS: dict[str, Skeleton] = {
    "h36m17": _skeleton("h36m17", _H36M17),
    "h36m16": _skeleton("h36m16", _H36M16),
    "3dhp17": _skeleton("3dhp17", _3DHP17),
    "3dhp28": _skeleton("3dhp28", _3DHP28),
    "coco17": _skeleton("coco17", _COCO17),
    "humaneva15": _skeleton("humaneva15", _HUMANEVA15),
    "lsp14": _skeleton("lsp14", _LSP14),
    "coco18": _skeleton("coco18", _COCO18),
    "body25": _skeleton("body25", _BODY25),
    "halpe26": _skeleton("halpe26", _HALPE26),
    "mpii16": _skeleton("mpii16", _MPII16),
}


def get_skeleton(name: str) -> Skeleton:
    """The joint set of that name; ConfigError with the choices and the nearest when there is none."""
    return SKELETONS[choose(name, SKELETONS, "skeleton")]


# Joints that one set has and another lacks, as midpoints: pelvis, thorax, spine and head (between the eyes)
# are made as in MMPose's COCO to Human3.6M, and a nose that a set lacks lies between its neighbours.
_MIDPOINTS: dict[str, tuple[str, str]] = {
    "pelvis": ("lhip", "rhip"),
    "thorax": ("lshoulder", "rshoulder"),
    "spine": ("pelvis", "thorax"),
    "head": ("leye", "reye"),
    "nose": ("thorax", "head"),
}


def _recipe(joint: str, source: Skeleton) -> dict[int, float] | None:
    """Source joints and their weights that make `joint`; None when it cannot be had."""
    if joint in source.joints:
        return {source.joints.index(joint): 1.0}
    parts = [_recipe(part, source) for part in _MIDPOINTS.get(joint, ())]
    if not parts or None in parts:
        return None
    total: dict[int, float] = {}
    for index, weight in (item for part in parts if part for item in part.items()):
        total[index] = total.get(index, 0.0) + 0.5 * weight
    return total


@cache
def _recipes(source: Skeleton, target: Skeleton) -> tuple[dict[int, float], ...]:
    recipes = {joint: _recipe(joint, source) for joint in target.joints}
    missing = [joint for joint, recipe in recipes.items() if recipe is None]
    if missing:
        raise DataError(f"Skeleton {target.name} cannot be made from {source.name}: no {', '.join(missing)}.")
    return tuple(recipe for recipe in recipes.values() if recipe is not None)


@cache
def _parts(
    source: Skeleton, target: Skeleton, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Source indices (Jt*K,) and weights (Jt, K, 1); short recipes repeat their first joint with weight 0."""
    recipes = _recipes(source, target)
    width = max(len(recipe) for recipe in recipes)
    padded = [[*recipe.items(), *[(next(iter(recipe)), 0.0)] * (width - len(recipe))] for recipe in recipes]
    indices = index_tensor(tuple(index for row in padded for index, _ in row), device)
    with torch.inference_mode(False):
        shares = [[[weight] for _, weight in row] for row in padded]
        weights = torch.tensor(shares, dtype=dtype, device=device)
    return indices, weights, (len(recipes), width)


def conversion_matrix(source: Skeleton, target: Skeleton) -> Tensor:
    """(Jt, Js) float32 matrix that turns source joints into target joints; each row sums to 1.

    Joints of the same name are copied; absent ones are midpoints as published. Raises DataError naming the
    joints that cannot be had.
    """
    matrix = torch.zeros(target.num_joints, source.num_joints)
    for row, recipe in enumerate(_recipes(source, target)):
        for column, weight in recipe.items():
            matrix[row, column] = weight
    return matrix


def convert_joints(points: Tensor, source: Skeleton, target: Skeleton) -> Tensor:
    """Joints of another set, any units: (..., Js, D) -> (..., Jt, D). Raises as conversion_matrix does.

    Gathers instead of multiplying by the matrix: copied joints stay bit-exact, and a NaN stays in its joint.
    """
    _check_joints(points, -2, source)
    if source == target:
        return points
    indices, weights, shape = _parts(source, target, points.dtype, points.device)
    parts = points.index_select(-2, indices)
    if shape[1] == 1:
        return parts
    parts = parts.reshape(*points.shape[:-2], *shape, points.shape[-1])
    return (parts * weights).sum(-2)  # (..., Jt, K, D) -> (..., Jt, D)


def convert_visibility(visible: Tensor, source: Skeleton, target: Skeleton) -> Tensor:
    """Visibility in another joint set: (..., Js) bool -> (..., Jt) bool; a midpoint needs all its parts."""
    return convert_confidence(visible, source, target)


def convert_confidence(confidence: Tensor, source: Skeleton, target: Skeleton) -> Tensor:
    """Confidence in another joint set: (..., Js) -> (..., Jt); a midpoint has the least of its parts."""
    _check_joints(confidence, -1, source)
    indices, _, shape = _parts(source, target, torch.float32, confidence.device)
    return confidence.index_select(-1, indices).reshape(*confidence.shape[:-1], *shape).amin(-1)


def _check_joints(points: Tensor, dim: int, skeleton: Skeleton) -> None:
    if points.ndim < -dim or points.shape[dim] != skeleton.num_joints:
        wanted = f"{skeleton.num_joints} joints ({skeleton.name})"
        raise ShapeError(f"Expected {wanted} in dimension {dim}, got shape {tuple(points.shape)}.")

"""BVH files, written: positions become joints of constant length that turn, for animation programs.

Positions say nothing of how a bone turns about itself. Pelvis and thorax are turned by their pairs of hips and of
shoulders; every other bone takes the shortest turn from its parent's. The joints of a body do not keep their angles at
a joint with several bones, so each of these bones hangs on a joint of its own, without length: "<joint>_base".
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from poseda.data.mocap.kinematics import TO_Z_UP, Array, matrices_to_zxy, shortest_rotations
from poseda.errors import DataError
from poseda.files.atomic import atomic_write
from poseda.skeleton import Skeleton

# Names that animation programs know (Mixamo's and MotionBuilder's); other joints keep theirs.
BVH_NAMES = {
    "pelvis": "Hips", "rhip": "RightUpLeg", "rknee": "RightLeg", "rankle": "RightFoot",
    "lhip": "LeftUpLeg", "lknee": "LeftLeg", "lankle": "LeftFoot", "spine": "Spine", "thorax": "Neck",
    "nose": "Head", "head": "HeadTop_End", "lshoulder": "LeftArm", "lelbow": "LeftForeArm", "lwrist": "LeftHand",
    "rshoulder": "RightArm", "relbow": "RightForeArm", "rwrist": "RightHand",
}  # fmt: skip

# The rest pose is a T: y up, the person's left along x, facing z.
_DOWN, _UP = (0.0, -1.0, 0.0), (0.0, 1.0, 0.0)
_REST = {"knee": _DOWN, "ankle": _DOWN, "toe": (0.0, 0.0, 1.0), "foot": (0.0, 0.0, 1.0)}
_SIDE = ("hip", "shoulder", "clavicle", "elbow", "wrist", "hand")
_CM = 0.1


def write_bvh(
    path: str | Path,
    positions: NDArray[np.floating],
    skeleton: Skeleton,
    fps: float,
    up: Literal["z", "y", "-y"] = "-y",
) -> None:
    """Write positions (T, J, 3) mm as BVH: y up, centimetres, rotations in the order z x y.

    `up` says which way is up in the positions: "-y" for a camera's frame, "z" for a world. Bones get their median
    length over all frames; where lengths change, the bones' directions and the root's place are kept. The file appears
    whole or not at all. DataError names the frame of a position that is not finite, or a bone without length.
    """
    points = np.asarray(positions, dtype=np.float64)
    _check(points, skeleton, fps, path)
    points = points @ (TO_Z_UP["y"].T @ TO_Z_UP[up]).T * _CM
    nodes = _nodes(skeleton, points)
    turned = _turn(nodes, skeleton, points)
    values = np.concatenate([points[:, skeleton.root], _channel_values(nodes, turned)], axis=1)
    text = BytesIO()
    text.write(("HIERARCHY\n" + _hierarchy(nodes, 0, 0)).encode())
    text.write(f"MOTION\nFrames: {len(values)}\nFrame Time: {1 / fps:.9f}\n".encode())
    np.savetxt(text, values, fmt="%.6f")
    atomic_write(path, text.getvalue())


def _check(points: Array, skeleton: Skeleton, fps: float, path: str | Path) -> None:
    if points.ndim != 3 or points.shape[1:] != (skeleton.num_joints, 3) or not len(points):
        expected = f"(T, {skeleton.num_joints}, 3), T at least 1"
        raise DataError(f"{path}: positions have shape {points.shape}; {skeleton.name} needs {expected}.")
    if not 0 < fps < float("inf"):
        raise DataError(f"{path}: {fps} frames a second; expected a number above 0.")
    wrong = np.flatnonzero(~np.isfinite(points).all((1, 2)))
    if len(wrong):
        raise DataError(f"{path}: frame {wrong[0]} has a position that is not finite; fill or leave out such frames.")


@dataclass
class _Node:
    """A joint of the file. Nodes are in the order of the file: each after its parent, branch by branch."""

    name: str
    parent: int
    offset: Array
    """(3,) cm in the rest pose."""
    joint: int
    """Which joint of the skeleton it lies at."""
    aim: int = -1
    """The joint that its rotation points at; -1 for leaves and for joints with several bones."""


def _nodes(skeleton: Skeleton, points: Array) -> list[_Node]:
    """The skeleton's joints, and before each bone of a joint with several, a joint without length."""
    nodes = [_Node(_name(skeleton, skeleton.root), -1, np.zeros(3), skeleton.root)]
    _grow(nodes, 0, skeleton, points)
    return nodes


def _grow(nodes: list[_Node], place: int, skeleton: Skeleton, points: Array) -> None:
    """Append all that hangs on the node at `place`."""
    joint = nodes[place].joint
    children = [child for parent, child in skeleton.bones if parent == joint]
    for child in children:
        holder = place
        if len(children) > 1:
            nodes.append(_Node(f"{_name(skeleton, child)}_base", place, np.zeros(3), joint))
            holder = len(nodes) - 1
        nodes[holder].aim = child
        length = float(np.median(np.linalg.norm(points[:, child] - points[:, joint], axis=-1)))
        if length <= 0:
            raise DataError(f"the bone to '{skeleton.joints[child]}' has no length: such a pose cannot be written.")
        nodes.append(_Node(_name(skeleton, child), holder, length * _rest(skeleton.joints[child]), child))
        _grow(nodes, len(nodes) - 1, skeleton, points)


def _name(skeleton: Skeleton, joint: int) -> str:
    return BVH_NAMES.get(skeleton.joints[joint], skeleton.joints[joint])


def _rest(joint: str) -> Array:
    """Direction of the bone to a joint in the rest pose."""
    side = {"l": 1.0, "r": -1.0}.get(joint[0], 0.0)
    if side and joint[1:] in _SIDE:
        return np.array([side, 0.0, 0.0])
    return np.array(_REST.get(joint[1:], _UP))


def _turn(nodes: list[_Node], skeleton: Skeleton, points: Array) -> list[Array]:
    """How each node is turned against the world: (T, 3, 3) each."""
    turned: list[Array] = []
    for node in nodes:
        before = turned[node.parent] if node.parent >= 0 else np.broadcast_to(np.eye(3), (len(points), 3, 3))
        if node.aim >= 0:
            start = before @ _rest(skeleton.joints[node.aim])
            bone = points[:, node.aim] - points[:, node.joint]
            turned.append(shortest_rotations(start, _unit(bone, start)) @ before)
        else:
            turned.append(_pair_frame(node.joint, skeleton, points, before))
    return turned


def _pair_frame(joint: int, skeleton: Skeleton, points: Array, before: Array) -> Array:
    """Axes of a joint from which a left and a right bone go out: x to the left, y up the trunk. (T, 3, 3)

    Without such a pair, or where it lies along the trunk, the joint keeps the axes of the one before it.
    """
    children = [child for parent, child in skeleton.bones if parent == joint]
    pairs = [child for child in children if child in skeleton.left and skeleton.joints[child][1:] in _SIDE]
    middle = [child for child in children if skeleton.mirror[child] == child]
    if not pairs or not (middle or skeleton.parents[joint] >= 0):
        return before
    left = points[:, pairs[0]] - points[:, skeleton.mirror[pairs[0]]]
    parent = skeleton.parents[joint]
    trunk = points[:, joint] - points[:, parent] if parent >= 0 else points[:, middle[0]] - points[:, joint]
    front = np.cross(left, trunk)
    x, z = _unit(left, before[..., 0]), _unit(front, before[..., 2])
    frame = np.stack((x, np.cross(z, x), z), -1)
    clear = np.linalg.norm(front, axis=-1) > 1e-3 * np.linalg.norm(left, axis=-1) * np.linalg.norm(trunk, axis=-1)
    return np.where(clear[:, None, None], frame, before)


def _unit(vectors: Array, otherwise: Array) -> Array:
    """(T, 3) of length 1; `otherwise` where there is no length."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(lengths > 0, vectors / np.where(lengths > 0, lengths, 1.0), otherwise)


def _channel_values(nodes: list[_Node], turned: list[Array]) -> Array:
    """(T, 3 N) degrees z x y of each node against its parent."""
    local = [
        turned[place] if node.parent < 0 else turned[node.parent].mT @ turned[place] for place, node in enumerate(nodes)
    ]
    return np.degrees(matrices_to_zxy(np.stack(local, 1))).reshape(len(local[0]), -1)


def _hierarchy(nodes: list[_Node], place: int, depth: int) -> str:
    """Text of the node at `place` and all that hangs on it."""
    node, tab = nodes[place], "\t" * depth
    moves = "" if depth else "Xposition Yposition Zposition "
    head = f"{tab}{'JOINT' if depth else 'ROOT'} {node.name}\n{tab}{{\n{tab}\tOFFSET {_numbers(node.offset)}\n"
    head += f"{tab}\tCHANNELS {3 if depth else 6} {moves}Zrotation Xrotation Yrotation\n"
    inside = [_hierarchy(nodes, other, depth + 1) for other, child in enumerate(nodes) if child.parent == place]
    end = f"{tab}\tEnd Site\n{tab}\t{{\n{tab}\t\tOFFSET {_numbers(np.zeros(3))}\n{tab}\t}}\n"
    return f"{head}{''.join(inside) or end}{tab}}}\n"


def _numbers(vector: Array) -> str:
    return " ".join(f"{value:.6f}" for value in vector)

"""Small bodies in the published layouts of SMPL, SMPL+H and SMPL-X, and skinning written out vertex by vertex."""

from __future__ import annotations

import io
import pickle
import struct
import sys
from types import ModuleType
from typing import ClassVar

import numpy as np
from scipy.sparse import csc_matrix
from scipy.spatial.transform import Rotation

from poseda.skeleton import get_skeleton

_TRUNK = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]
_FINGERS = [parent for start in range(0, 30, 3) for parent in (None, start, start + 1)]
_PLACES = {
    0: (0, 0.95, 0), 1: (0.1, 0.9, 0), 2: (-0.1, 0.9, 0), 3: (0, 1.05, 0), 4: (0.11, 0.5, 0.01), 5: (-0.11, 0.5, 0.01),
    6: (0, 1.2, 0), 7: (0.12, 0.1, -0.02), 8: (-0.12, 0.1, -0.02), 9: (0, 1.3, 0), 10: (0.12, 0.03, 0.1),
    11: (-0.12, 0.03, 0.1), 12: (0, 1.45, 0), 13: (0.08, 1.4, 0), 14: (-0.08, 1.4, 0), 15: (0, 1.55, 0.02),
    16: (0.18, 1.4, 0), 17: (-0.18, 1.4, 0), 18: (0.45, 1.4, 0), 19: (-0.45, 1.4, 0), 20: (0.7, 1.4, 0),
    21: (-0.7, 1.4, 0),
}  # fmt: skip
"""Joints of a body of 1.7 m in a T-pose, metres: x to its left, y up, z to its front."""
# Bones at which the joints of h36m17 lie, in its order; the head is the top of bone 15.
_H36M_BONES = (0, 2, 5, 8, 1, 4, 7, 6, 12, 15, 15, 16, 18, 20, 17, 19, 21)


def parents_of(bones):
    """Published trees of 24, 52 and 55 bones."""
    if bones == 24:
        return [*_TRUNK, 20, 21]
    start = bones - 30
    hands = [(20 if i < 15 else 21) if parent is None else start + parent for i, parent in enumerate(_FINGERS)]
    return [*_TRUNK, *([15, 15, 15] if bones == 55 else []), *hands]


def make_body(bones=24, shapes=10, seed=0):
    """Arrays of a body model with 5 vertices a bone, under the published keys."""
    rng = np.random.default_rng(seed)
    parents = parents_of(bones)
    places = [np.array(_PLACES[bone]) if bone in _PLACES else None for bone in range(bones)]
    for bone in range(22, bones):
        places[bone] = places[parents[bone]] + rng.uniform(-0.02, 0.02, 3)
    template = np.repeat(np.array(places), 5, 0) + rng.uniform(-0.03, 0.03, (5 * bones, 3))
    template[5 * 15, 1] = 1.75  # the crown
    regressor, weights = np.zeros((bones, 5 * bones)), np.zeros((5 * bones, bones))
    for bone, parent in enumerate(parents):
        own = slice(5 * bone, 5 * bone + 5)
        regressor[bone, own] = rng.dirichlet(np.ones(5))
        weights[own, [bone, max(parent, 0)]] += rng.dirichlet(np.ones(2), 5)
    return {
        "v_template": template,
        "shapedirs": rng.normal(0, 0.01, (5 * bones, 3, shapes)),
        "posedirs": rng.normal(0, 0.01, (5 * bones, 3, 9 * (bones - 1))),
        "J_regressor": regressor,
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, *parents[1:]], range(bones)], dtype=np.uint32),
        "f": np.zeros((4, 3), dtype=np.uint32),
    }


def h36m_rows(body, seed=0):
    """A Human3.6M regressor (17, V) in the order of h36m17: right leg first, as Pose2Mesh's."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((17, len(body["v_template"])))
    for row, bone in enumerate(_H36M_BONES):
        rows[row, 5 * bone + 1 : 5 * bone + 5] = rng.dirichlet(np.ones(4))
    rows[get_skeleton("h36m17").index("head")] *= 0.1
    rows[get_skeleton("h36m17").index("head"), 5 * 15] = 0.9
    return rows


SPIN_ORDER = [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]
"""h36m17's rows in the order of SPIN's regressor: left leg first."""


def pose_mesh(body, pose, betas):
    """Skinning of one frame, vertex by vertex: (3 K,), (n,) -> vertices (V, 3), joints (K, 3)."""
    parents = body["kintree_table"][0].astype(np.int64)
    shaped = body["v_template"] + body["shapedirs"][..., : len(betas)] @ betas
    rest = body["J_regressor"] @ shaped
    turns = Rotation.from_rotvec(np.reshape(pose, (-1, 3))).as_matrix()
    bent = shaped + body["posedirs"] @ np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    chain = []
    for bone, turn in enumerate(turns):
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = turn, rest[bone] - (rest[parents[bone]] if bone else 0)
        chain.append(chain[parents[bone]] @ local if bone else local)
    vertices = np.zeros_like(bent)
    for number, vertex in enumerate(bent):
        for bone, frame in enumerate(chain):
            moved = frame[:3, :3] @ (vertex - rest[bone]) + frame[:3, 3]
            vertices[number] += body["weights"][number, bone] * moved
    return vertices, np.array([frame[:3, 3] for frame in chain])


def pose_h36m(body, poses, betas, rows):
    """h36m17 joints (T, 17, 3), metres, of poses (T, 3 K)."""
    return np.array([rows @ pose_mesh(body, pose, betas)[0] for pose in poses])


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 wrote it: texts and bytes alike as byte strings, names of modules of that time."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file):
        super().__init__(file, protocol=2)

    def save_string(self, value):
        data = value.encode("latin1") if isinstance(value, str) else value
        short = pickle.SHORT_BINSTRING + bytes([len(data)]) if len(data) < 256 else b""
        self.write((short or pickle.BINSTRING + struct.pack("<i", len(data))) + data)
        self.memoize(value)

    def save_global(self, value, name=None):
        if getattr(value, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            self.memoize(value)
        else:
            super().save_global(value, name)

    dispatch[bytes] = save_string
    dispatch[str] = save_string
    dispatch[type(pose_mesh)] = save_global


def dumps_python2(value):
    """The bytes of a Python-2 pickle, protocol 2."""
    file = io.BytesIO()
    Python2Pickler(file).dump(value)
    return file.getvalue()


def _foreign(module, name, state):
    """An object of a class that exists only while it is pickled."""
    kind = type(name, (), {"__module__": module})
    kind.__qualname__ = name
    value = kind()
    vars(value).update(state)
    return value, kind


def dumps_chumpy(body):
    """SMPL's own pickle: chumpy variables, a scipy matrix and plain arrays, written by Python 2."""
    sparse = csc_matrix(body["J_regressor"])
    state = {
        "format": "csc", "_shape": sparse.shape, "maxprint": 50, "indices": sparse.indices, "indptr": sparse.indptr,
        "data": sparse.data,
    }  # fmt: skip
    fields, kinds = dict(body), {}
    fields["J_regressor"], kinds["scipy.sparse.csc"] = _foreign("scipy.sparse.csc", "csc_matrix", state)
    variable, kinds["chumpy.ch"] = _foreign("chumpy.ch", "Ch", {"x": body["shapedirs"], "_dirty_vars": {"x"}})
    fields |= {"shapedirs": variable, "bs_type": "lrotmin", "bs_style": "lbs"}
    replaced = {name: sys.modules.get(name) for name in ("chumpy", *kinds)}
    try:
        sys.modules["chumpy"] = ModuleType("chumpy")
        for name, kind in kinds.items():
            sys.modules[name] = ModuleType(name)
            setattr(sys.modules[name], kind.__name__, kind)
        return dumps_python2(fields)
    finally:
        for name, module in replaced.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def write_body(path, body):
    """A body model file: chumpy pickle or npz, by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, **body)
    else:
        path.write_bytes(dumps_chumpy(body))
    return path

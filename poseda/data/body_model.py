"""Joints of SMPL-family bodies from their parameters: linear blend skinning, collapsed onto the joints asked for.

Skinning (Loper et al. 2015, eq. 2-10) and the regression of joints from the mesh are both linear in the unposed
vertices. So the vertices need never be made: their sums, weighted by a joint's regressor row and by the skinning
weights of one bone, are formed once, and a frame costs some hundred products instead of a mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from poseda.errors import DataError
from poseda.geometry.rotations import axis_angle_to_matrix

Doubles = NDArray[np.float64]
_CHUNK_BYTES = 32 << 20
_BODY_JOINTS = {
    "pelvis": 0, "lhip": 1, "rhip": 2, "lknee": 4, "rknee": 5, "spine": 6, "lankle": 7, "rankle": 8, "thorax": 12,
    "nose": 15, "lshoulder": 16, "rshoulder": 17, "lelbow": 18, "relbow": 19, "lwrist": 20, "rwrist": 21,
}  # fmt: skip
"""Human3.6M names and the joints nearest to them among the first 22, which SMPL, SMPL+H and SMPL-X share."""


@dataclass(frozen=True, eq=False)
class BodyModel:
    """A body model as published: V vertices, K bones, S shapes. Metres; x to the body's left, y up, z to its front.

    Raises DataError where a bone comes before its parent.
    """

    template: Doubles
    """(V, 3) mean body."""
    shapes: Doubles
    """(V, 3, S) how a unit of each shape coefficient moves the vertices."""
    correctives: Doubles
    """(V, 3, 9 (K - 1)) how the entries of the rotations (minus identity, row by row, without the root) move them."""
    regressor: Doubles
    """(K, V) the model's own joints, from the unposed mesh."""
    weights: Doubles
    """(V, K) share of each bone in a vertex."""
    parents: tuple[int, ...]
    """(K,) the bone that each bone hangs from, -1 at the root, which is bone 0."""

    def __post_init__(self) -> None:
        late = [bone for bone, parent in enumerate(self.parents) if not (-1 < parent < bone or bone + parent == -1)]
        if late:
            raise DataError(f"kintree_table: bone {late[0]} hangs from {self.parents[late[0]]}; parents come first.")

    def skin_rows(self, rows: Doubles) -> Skinning:
        """Joints as weighted sums of the posed vertices: rows (J, V)."""
        used = (rows != 0).any(0)
        rows, weights = rows[:, used], self.weights[used]
        joint, bone = np.nonzero((rows != 0).astype(float) @ (weights != 0).astype(float))
        share = rows[joint] * weights[:, bone].T  # (P, V')
        correctives = self.correctives[used].reshape(int(used.sum()), -1)
        return Skinning(
            *self._rest(),
            bones=bone,
            sums=np.equal.outer(np.arange(len(rows)), joint).astype(float),
            share=share.sum(-1),
            offset=share @ self.template[used],
            offset_shapes=np.tensordot(share, self.shapes[used], 1),
            offset_correctives=(share @ correctives).reshape(3 * len(bone), -1),
        )

    def skin_own(self, joints: Sequence[str]) -> Skinning:
        """Joints of these names: those of the model's skeleton, and for "head" the template's highest vertex."""
        crown = np.zeros((1, len(self.template)))
        crown[0, self.template[:, 1].argmax()] = 1
        top = self.skin_rows(crown)
        names = [name for name in joints if name in _BODY_JOINTS]
        bones = np.array([_BODY_JOINTS[name] for name in names])
        parents, rest, rest_shapes = self._rest()
        owners = [*names, *["head"] * len(top.bones)]
        still = np.zeros((3 * len(bones), top.offset_correctives.shape[1]))
        return Skinning(
            parents, rest, rest_shapes,
            bones=np.concatenate([bones, top.bones]),
            sums=np.array([[float(owner == name) for owner in owners] for name in joints]),
            share=np.concatenate([np.ones(len(bones)), top.share]),
            offset=np.concatenate([rest[bones], top.offset]),
            offset_shapes=np.concatenate([rest_shapes[bones], top.offset_shapes]),
            offset_correctives=np.concatenate([still, top.offset_correctives]),
        )  # fmt: skip

    def _rest(self) -> tuple[tuple[int, ...], Doubles, Doubles]:
        """Parents, and the bones' joints of the unposed body: mean (K, 3) and shapes (K, 3, S)."""
        return self.parents, self.regressor @ self.template, np.tensordot(self.regressor, self.shapes, 1)


@dataclass(frozen=True, eq=False)
class Skinning:
    """J joints of a posed body, each a sum over some of P parts that move with one bone each."""

    parents: tuple[int, ...]
    """(K,) the bone that each bone hangs from."""
    rest: Doubles
    """(K, 3) m, the bones' joints of the unposed mean body."""
    rest_shapes: Doubles
    """(K, 3, S) m for each shape coefficient."""
    bones: NDArray[np.int64]
    """(P,) the bone of each part."""
    sums: Doubles
    """(J, P) of 0 and 1: which parts make a joint."""
    share: Doubles
    """(P,) sum of the vertices' weights in a part."""
    offset: Doubles
    """(P, 3) m, weighted sum of the unposed mean body's vertices."""
    offset_shapes: Doubles
    """(P, 3, S) m for each shape coefficient."""
    offset_correctives: Doubles
    """(3 P, 9 (K - 1)) m for each entry of the rotations."""

    def joints(self, poses: Doubles, betas: Doubles, translation: Doubles | None = None) -> Doubles:
        """Posed joints (T, J, 3), metres, in the axes of the root's rotation and of `translation`.

        poses (T, 3 K): axis-angle of each bone, radians; betas (n,) or (T, n): the first n shape coefficients, the
        others 0; translation (T, 3) m, added whole, as a regressor's rows need not sum to exactly 1. In float64, in
        chunks of bounded memory. Raises DataError for arrays of another size.
        """
        bones, shapes = len(self.parents), self.rest_shapes.shape[-1]
        betas = np.atleast_2d(betas)
        if poses.ndim != 2 or poses.shape[1] != 3 * bones:
            raise DataError(f"poses have shape {poses.shape}; this body model has {bones} bones: (T, {3 * bones}).")
        if betas.shape[0] not in (1, len(poses)) or betas.shape[1] > shapes:
            raise DataError(f"betas have shape {betas.shape}; this body model takes at most {shapes} a frame.")
        betas = np.pad(betas.astype(np.float64), ((0, 0), (0, shapes - betas.shape[1])))
        step = max(1, _CHUNK_BYTES // (8 * (60 * bones + 30 * len(self.bones))))
        chunks = [slice(start, start + step) for start in range(0, len(poses), step)]
        parts = [self._pose(poses[chunk], betas if len(betas) == 1 else betas[chunk]) for chunk in chunks]
        posed = np.concatenate(parts) if parts else np.zeros((0, len(self.sums), 3))
        return posed if translation is None else posed + translation[:, None]

    def _pose(self, poses: Doubles, betas: Doubles) -> Doubles:
        """(T, 3 K), (1 or T, S) -> (T, J, 3) m."""
        axis_angle = torch.from_numpy(poses.astype(np.float64)).reshape(len(poses), -1, 3)
        local: Doubles = axis_angle_to_matrix(axis_angle).numpy()  # (T, K, 3, 3)
        rest = self.rest + np.tensordot(betas, self.rest_shapes, (1, 2))  # (1 or T, K, 3)
        turn, place = self._chain(local, rest)
        entries = (local[:, 1:] - np.eye(3)).reshape(len(poses), -1)
        offset = self.offset + np.tensordot(betas, self.offset_shapes, (1, 2))  # (1 or T, P, 3)
        offset = offset + (entries @ self.offset_correctives.T).reshape(len(poses), -1, 3)
        share = self.share[:, None]
        arm = offset - share * rest[:, self.bones]  # from the bone's joint, where it turns
        parts = (turn[:, self.bones] @ arm[..., None])[..., 0] + share * place[:, self.bones]
        return np.asarray(self.sums @ parts)

    def _chain(self, local: Doubles, rest: Doubles) -> tuple[Doubles, Doubles]:
        """Rotation (T, K, 3, 3) and joint (T, K, 3) of each bone, from the root outwards."""
        turn, place = local.copy(), np.broadcast_to(rest, local.shape[:-1]).copy()
        for bone, parent in enumerate(self.parents[1:], start=1):
            turn[:, bone] = turn[:, parent] @ local[:, bone]
            reach = (rest[:, bone] - rest[:, parent])[..., None]
            place[:, bone] = place[:, parent] + (turn[:, parent] @ reach)[..., 0]
        return turn, place

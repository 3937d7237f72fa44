"""3D in another frame of reference than the camera's: axes that point elsewhere, or the world's frame."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from poseda.data.doctor.agreement import LARGE, misfit, offsets, rays
from poseda.data.doctor.body import knees_forward, main_direction, true_up, trunk, upside
from poseda.data.doctor.report import Finding
from poseda.data.doctor.robust import Floats, median
from poseda.data.doctor.sample import Sample

SCREENED = 120
"""Frames on which the 48 sets of axes are tried."""
MIRRORED = 0.25
"""Share of bent knees that point forward: 0.93 to 1 for people, 0 to 0.07 for their mirror image."""
ALONG = 0.7
"""Median component of the trunk along an axis that says which way is up: people stand in most frames."""
POINTS = 60
"""Points that a camera needs to be found from them: five times its eleven unknowns."""
TURNED = 5.0
"""Degrees: a camera found from poses in its own frame is not turned."""

Explained = tuple[float, Finding]
_NAMES = ("x", "y", "z")


def _signed_axes() -> list[Floats]:
    """The 48 matrices that permute and flip axes, the identity left out."""
    eye = np.eye(3)
    every = [eye[list(p)] * np.array(s)[:, None] for p in itertools.permutations(range(3)) for s in _signs()]
    return [matrix for matrix in every if not np.array_equal(matrix, eye)]


def _signs() -> list[tuple[int, ...]]:
    return list(itertools.product((1, -1), repeat=3))


AXES = _signed_axes()


def other_axes(sample: Sample) -> Explained | None:
    """What is left, and the finding, when the 3D are taken with axes permuted or flipped so that 2D agree."""
    small = sample.thin(SCREENED)
    costs = [misfit(offsets(small, small.labels @ matrix.T)) for matrix in AXES]
    matrix = AXES[int(np.argmin(costs))]
    left, said = misfit(offsets(sample, sample.labels @ matrix.T)), _say_axes(matrix)
    evidence = f"with the 3D taken as {said} {left:.1f} px are left of {misfit(offsets(sample)):.0f}, at a 400 px box"
    if np.array_equal(matrix, np.diag((1, -1, 1))):
        return left, flipped_y(sample, evidence)
    if np.array_equal(matrix, np.diag((-1, 1, 1))):
        return left, mirrored_x(sample, evidence)
    return left, Finding("error", "frame", "the 3D have other axes than the camera frame", evidence,
                         "the poses are in another tool's axes (such as y up, z towards the viewer) or in the world's",
                         f"convert to x right, y down, z forward: take {said}")  # fmt: skip


def flipped_y(sample: Sample, evidence: str) -> Finding:
    """The finding when y of the 2D and of the 3D run against each other: the 3D that stand upright are right."""
    up = median(upside(sample.labels, true_up(sample), sample.skeleton))
    side = "3D" if up < 0 else "2D"
    cause = "the y of the poses points up" if side == "3D" else "the y of the 2D is counted from the image's bottom"
    remedy = "negate the y of the poses" if side == "3D" else "take y = height - y for the keypoints"
    return Finding("error", "y-flipped", f"the {side} stand on their heads", f"{evidence}; up agrees by {up:.2f}",
                   f"{cause}; a camera's y points down", remedy)  # fmt: skip


def mirrored_x(sample: Sample, evidence: str) -> Finding:
    """The finding when x of the 2D and of the 3D run against each other: 3D whose knees bend forward are right."""
    share, count = knees_forward(sample.labels, sample.skeleton)
    side = "3D" if share < MIRRORED else "2D"
    remedy = "negate the x of the poses" if side == "3D" else "take x = width - x for the keypoints"
    return Finding("error", "left-right", f"the {side} are mirrored", f"{evidence}; {share:.0%} of {count} bent knees "
                   "of the 3D point forward", "x runs to the left, or images were flipped", remedy)  # fmt: skip


def apply_extrinsics(sample: Sample) -> Explained | None:
    """What is left when the 3D are taken for world coordinates and brought through the file's R and t."""
    if bool((sample.cameras.R - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-6):
        return None
    small = sample.thin(SCREENED)
    proper = [np.eye(3), *(matrix for matrix in AXES if np.linalg.det(matrix) > 0)]
    options = [(axes, unit) for axes in proper for unit in (1.0, 1000.0)]
    costs = [misfit(offsets(small, _to_camera(small, axes, unit))) for axes, unit in options]
    axes, unit = options[int(np.argmin(costs))]
    left = misfit(offsets(sample, _to_camera(sample, axes, unit)))
    how = "through R and t of the cameras" + ("" if np.array_equal(axes, np.eye(3)) else f", as {_say_axes(axes)}")
    evidence = f"{_behind(sample)}; brought {how} {left:.1f} px are left, at a 400 px box"
    return left, _world(evidence, f"bring the poses {how} into the camera frame")


def _to_camera(sample: Sample, axes: Floats, unit: float) -> Floats:
    cameras = sample.cameras[torch.from_numpy(sample.camera)]
    turned = np.einsum("fab,fjb->fja", cameras.R.numpy(), sample.labels @ axes.T)
    return np.asarray(turned + unit * cameras.t.numpy()[:, None])


def _world(evidence: str, remedy: str) -> Finding:
    return Finding("error", "frame", "the 3D are in the world's frame, not in the camera's", evidence,
                   "the poses are world coordinates that nobody brought through R and t of the cameras",
                   remedy)  # fmt: skip


def _behind(sample: Sample) -> str:
    share = float((sample.labels[..., 2] <= 0).mean())
    return f"{share:.0%} of the joints lie behind the camera; up is {_say_up(sample)}"


def _say_up(sample: Sample) -> str:
    up = main_direction(trunk(sample.labels, sample.skeleton))
    axis = int(np.abs(up).argmax())
    return f"{'+' if up[axis] > 0 else '-'}{_NAMES[axis]} (median {up[axis]:.2f})"


def find_cameras(sample: Sample) -> Explained | None:
    """What is left when each camera may stand anywhere: it is then found from the 3D and the 2D themselves."""
    ray, left = rays(sample), np.full_like(sample.keypoints, np.nan)
    angles = []
    focal = torch.stack((sample.cameras.fx, sample.cameras.fy), -1).numpy()
    # the same lens may stand elsewhere for another person, and is then one camera to a file without extrinsics
    for camera, person in np.unique(np.stack([sample.camera, sample.person]), axis=1).T:
        rows = (sample.camera == camera) & (sample.person == person)
        seen = np.isfinite(ray[rows]).all(-1)
        if seen.sum() < POINTS:
            continue
        matrix = resect(sample.labels[rows][seen], ray[rows][seen])
        angles.append(_turn(matrix))
        found = np.full_like(ray[rows], np.nan)
        found[seen] = (ray[rows][seen] - _apply(matrix, sample.labels[rows][seen])) * focal[camera]
        left[rows] = np.clip(found * (400.0 / sample.take(rows).box())[:, None, None], -LARGE, LARGE)
    if not angles or np.median(angles) < TURNED:
        return None
    cost = misfit(left)
    evidence = (
        f"{_behind(sample)}; cameras placed anew, turned by {np.median(angles):.0f} degrees, leave {cost:.1f} px "
        "at a 400 px box"
    )
    return cost, _world(evidence, "bring the poses into the camera frame with the data set's extrinsics")


def resect(points: Floats, ray: Floats) -> Floats:
    """The 3x4 projection of points (N, 3) onto rays (N, 2), by the direct linear transform, reweighted."""
    middle, spread = points.mean(0), points.std() or 1.0
    h = np.concatenate([(points - middle) / spread, np.ones((len(points), 1))], 1)
    zero, weight = np.zeros_like(h), np.ones(len(h))
    rows = np.stack([np.hstack([h, zero, -ray[:, :1] * h]), np.hstack([zero, h, -ray[:, 1:] * h])])
    solution = np.zeros((3, 4))
    for _ in range(5):
        gram = np.einsum("tni,n,tnj->ij", rows, weight, rows)
        solution = np.linalg.eigh(gram)[1][:, 0].reshape(3, 4)
        depth = h @ solution[2]
        error = np.linalg.norm(rows @ solution.ravel(), axis=0) / np.maximum(np.abs(depth), 1e-12)
        typical = max(float(np.median(error)), 1e-9)
        # algebraic error times 1/depth is distance in the image; far outliers lose their say
        weight = 1 / (np.maximum(depth**2, 1e-6 * float(np.median(depth**2))) * (1 + (error / typical / 3) ** 2))
    shift = np.eye(4)
    shift[:3] = np.hstack([np.eye(3), -middle[:, None]]) / spread
    matrix = solution @ shift
    return np.asarray(matrix * np.sign(np.median(h @ solution[2])))


def _apply(matrix: Floats, points: Floats) -> Floats:
    homogeneous = points @ matrix[:, :3].T + matrix[:, 3]
    depth = homogeneous[:, 2:]
    return np.asarray(homogeneous[:, :2] / np.where(depth > 0, depth, np.nan))


def _turn(matrix: Floats) -> float:
    """Angle in degrees of the rotation nearest to the projection's left part."""
    u, _, v = np.linalg.svd(matrix[:, :3])
    rotation = u @ np.diag((1, 1, np.sign(np.linalg.det(u @ v)))) @ v
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def upright_in_depth(sample: Sample) -> Finding | None:
    """The finding when people stand along the optical axis, as only the world's z does."""
    up = main_direction(trunk(sample.labels, sample.skeleton))
    if not up[2] > ALONG:
        return None
    return _world(_behind(sample), "bring the poses into the camera frame with the data set's extrinsics")


def _say_axes(matrix: Floats) -> str:
    names = []
    for row in matrix:
        axis = int(np.abs(row).argmax())
        names.append(("-" if row[axis] < 0 else "") + _NAMES[axis])
    return f"({', '.join(names)})"

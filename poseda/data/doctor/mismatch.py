"""Why 2D and 3D do not agree at all: every known fault is tried, and the simplest that explains it is said."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from poseda.data.doctor.agreement import (
    AGREE,
    EXPLAINED,
    LARGE,
    joint_medians,
    mapped_offsets,
    misfit,
    offsets,
    project,
    sequence_misfit,
)
from poseda.data.doctor.body import knees_forward
from poseda.data.doctor.frames import (
    MIRRORED,
    Explained,
    apply_extrinsics,
    find_cameras,
    flipped_y,
    mirrored_x,
    other_axes,
)
from poseda.data.doctor.order import MIRROR, known_orders, named_exchanges
from poseda.data.doctor.report import Finding
from poseda.data.doctor.robust import Floats, Ints
from poseda.data.doctor.sample import Sample
from poseda.data.doctor.subtle import lag_difference, other_cameras, other_lag, other_sizes

TRIED = 1000
"""Frames on which explanations are tried."""
SMALLEST_SHARE = 0.02
"""Of the frames: fewer in sequences that do not fit are put down to outliers of short sequences."""
SAME = 0.03
"""Factors this near to 1, or to each other, count as equal: no image size differs by less."""


def disagreement(sample: Sample) -> Finding | None:
    """The finding when 2D and 3D of some sequences, or some joints, lie further apart than noise puts them."""
    bad = _frames_that_do_not_fit(sample)
    if bad is None:
        return None
    tried = sample.take(bad).thin(TRIED)
    before = misfit(offsets(tried))
    explained = [found for test in _TESTS if (found := test(tried)) is not None]
    best = min(left for left, _ in explained)
    if best < EXPLAINED:
        # the first that does as well as the best: later tests have more freedom
        return next(finding for left, finding in explained if left <= max(1.2 * best, best + 1))
    late = lag_difference(sample)  # a lag shows in all sequences, also in those whose slow motion hides it
    if late is not None:
        return late
    where = f"{len(np.unique(sample.sequence[bad]))} of {len(np.unique(sample.sequence))} sequences"
    evidence = f"{before:.0f} px at a 400 px box in {where}; the best of all explanations tried leaves {best:.0f} px"
    return Finding("error", "disagreement", "the 3D do not project onto the 2D", evidence,
                   "2D and 3D are of different frames, people or cameras",
                   "compare frame numbers, focal lengths and image sizes with the data set's")  # fmt: skip


def _frames_that_do_not_fit(sample: Sample) -> Ints | None:
    """Rows of the sequences that do not fit; all rows where it is single joints; None where all is well."""
    difference = offsets(sample)
    bad = sequence_misfit(difference, sample)[sample.sequence] > AGREE
    if bad.mean() > SMALLEST_SHARE:
        return np.asarray(np.flatnonzero(bad))
    if np.nanmax(joint_medians(difference)) > AGREE:
        return np.arange(len(sample.time))
    return None


def other_order(sample: Sample) -> Explained | None:
    """What is left when each 3D joint is given the 2D joint that lies nearest to its projection."""
    seen = project(sample.labels, sample.cameras, sample.camera)
    joints = sample.skeleton.num_joints
    costs = np.empty((joints, joints))
    for joint in range(joints):
        costs[joint] = joint_medians(mapped_offsets(sample, np.repeat(seen[:, joint : joint + 1], joints, 1)))
    costs = np.where(np.isfinite(costs), costs, LARGE)
    for name, order in known_orders(sample.skeleton):
        shared = np.array([k for k, at in enumerate(order) if at >= 0])
        left = float(costs[shared, np.array(order)[shared]].mean())
        if left < EXPLAINED and np.mean(np.array(order)[shared] != shared) > 0.2:
            return left, _order_finding(sample, f"the order of {name}", left)
    order = linear_sum_assignment(costs)[1]
    left = float(costs[np.arange(joints), order].mean())
    return left, _order_finding(sample, _say_order(sample, order), left)


def _order_finding(sample: Sample, said: str, left: float) -> Finding:
    evidence = f"{left:.1f} px are left of {misfit(offsets(sample)):.0f}, at a 400 px box, with {said}"
    share, count = knees_forward(sample.labels, sample.skeleton)
    if said == MIRROR:
        side = "3D" if share < MIRRORED else "2D"
        return Finding("error", "left-right", f"left and right of the {side} are exchanged",
                       f"{evidence}; {share:.0%} of {count} bent knees of the 3D point forward",
                       f"the {side} name left what is the person's right",
                       f"exchange left and right in the {side}")  # fmt: skip
    return Finding("error", "joint-order", "2D and 3D joints are in different orders", evidence,
                   f"relative to the 3D, the 2D are not in the order of {sample.skeleton.name}: {said}",
                   "give the skeleton that the 2D are in, or put the joints in this order first")  # fmt: skip


def _say_order(sample: Sample, order: Ints) -> str:
    skeleton = sample.skeleton
    moved = np.flatnonzero(order != np.arange(len(order)))
    for said, known in named_exchanges(skeleton).items():
        if np.mean(order == np.array(known)) > 0.9 and len(moved) > 2:
            return said
    return ", ".join(f"{skeleton.joints[k]} at the place of {skeleton.joints[order[k]]}" for k in moved)


def other_image(sample: Sample) -> Explained | None:
    """What is left when the 2D are stretched and moved, by one factor and shift for each axis of each camera."""
    seen = project(sample.labels, sample.cameras, sample.camera)
    front = (sample.labels[..., 2] > 0) & sample.visible
    mapped = np.full_like(seen, np.nan)
    maps = {}
    for camera in np.unique(sample.camera):
        rows = sample.camera == camera
        if front[rows].sum() < 50:
            continue
        pairs = [(seen[rows][front[rows]][:, axis], sample.keypoints[rows][front[rows]][:, axis]) for axis in (0, 1)]
        maps[int(camera)] = np.array([_line(*pair) for pair in pairs])  # (2, 2): factor, shift of each axis
        mapped[rows] = seen[rows] * maps[int(camera)][:, 0] + maps[int(camera)][:, 1]
    if not maps:
        return None
    left = misfit(mapped_offsets(sample, np.where(front[..., None], mapped, LARGE * 100)))
    camera = max(maps, key=lambda number: int((sample.camera == number).sum()))
    return left, _image_finding(sample, camera, maps[camera], left)


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """y = a x + b, points that lie far off given little weight."""
    weight, a, b = np.ones_like(x), 1.0, 0.0
    for _ in range(8):
        total = weight.sum()
        mx, my = (weight * x).sum() / total, (weight * y).sum() / total
        a = float((weight * (x - mx) * (y - my)).sum() / max((weight * (x - mx) ** 2).sum(), 1e-12))
        b = float(my - a * mx)
        error = np.abs(y - a * x - b)
        weight = 1 / (1 + (error / max(3 * float(np.median(error)), 1e-6)) ** 2)
    return a, b


def _image_finding(sample: Sample, number: int, found: Floats, left: float) -> Finding:
    camera = sample.cameras[number]
    width, height = float(camera.width), float(camera.height)
    (a, b), (c, d) = found
    evidence = (
        f"camera {number} ({width:.0f}x{height:.0f}): 2D = {a:.3f} u {b:+.0f}, {c:.3f} v {d:+.0f} px of the projection "
        f"(u, v), which leaves {left:.1f} px at a 400 px box"
    )
    if a < 0 or c < 0:
        return mirrored_x(sample, evidence) if a < 0 else flipped_y(sample, evidence)
    sides = (width / height, height / width)
    uneven = abs(width / height - 1) > 2 * SAME
    if uneven and any(_near(a, side) and _near(c, side) for side in sides):
        return Finding("error", "normalisation", "the 2D were normalised by the wrong side of the image", evidence,
                       "divided by one side and multiplied by the other, as happens to portrait images",
                       "normalise and denormalise both axes by the width")  # fmt: skip
    if uneven and any(_near(a, x) and _near(c, y) for side in sides for x, y in ((side, 1), (1, side))):
        return Finding("error", "normalisation", "x and y of the 2D were normalised by different sides", evidence,
                       "x was divided by the width and y by the height, and both multiplied by one of them",
                       "normalise and denormalise both axes by the width")  # fmt: skip
    shifted = abs(abs(b) - abs(height - width) / 2) < 0.05 * width
    if uneven and _near(a, 1) and _near(c, 1) and shifted:
        return Finding("error", "image-size", "width and height of the image are exchanged", evidence,
                       "a portrait image was declared as landscape, or the other way round",
                       "exchange width and height of the camera")  # fmt: skip
    cause, remedy = _other_image(found)
    return Finding("error", "image-size", "2D and camera belong to different images", evidence, cause, remedy)


def _other_image(found: Floats) -> tuple[str, str]:
    """Cause and remedy of a stretch or shift that no exchange of sides explains."""
    (a, b), (c, d) = found
    if _near(a, 1) and _near(c, 1):
        return "the images were cropped, or the principal point is wrong", f"shift the 2D by {-b:.0f}, {-d:.0f} px"
    if _near(a, c):
        return (
            f"the images were resized by {a:.3g}, or the focal length is {1 / a:.3g} times too long",
            f"divide the 2D by {a:.3g}, or correct the camera's focal length",
        )
    return "x and y are scaled differently", f"divide x by {a:.3g} and y by {c:.3g}, or correct fx and fy"


def _near(value: float, wanted: float) -> bool:
    return bool(abs(value / wanted - 1) < SAME)


_TESTS = (
    other_axes,
    apply_extrinsics,
    other_cameras,
    other_lag,
    other_sizes,
    other_image,
    other_order,
    find_cameras,
)
"""From few unknowns to many."""

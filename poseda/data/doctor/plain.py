"""Faults that the numbers show without a projection: units, image sizes, time, and people upside down."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from poseda.data.doctor.body import (
    camera_medians,
    knees_forward,
    leaf_speed,
    main_direction,
    size,
    true_up,
    trunk,
    upside,
)
from poseda.data.doctor.frames import ALONG, MIRRORED
from poseda.data.doctor.report import Finding
from poseda.data.doctor.robust import median
from poseda.data.doctor.sample import Sample

BODY_MM = 470.0
"""Root mean square distance of a person's joints from their centre; 300 (crouched) to 520 (tall, upright)."""
UNITS = {"millimetres": 1.0, "centimetres": 10.0, "metres": 1000.0}
SLOWEST, FASTEST = 0.05, 12.0
"""m/s, 95 % of the speeds of hands, feet and head: 1.9 to 3.1 in everyday motion, sport and dance."""
NORMALISED = 3.0
"""2D of all joints within this are not pixels."""
OFF_CENTRE = 0.15
"""Principal points lie within this share of the side from the image's middle: 0.02 in all published rigs."""
OUTSIDE = 0.2
"""Share of joints outside the image that cropping and occlusion do not explain."""
HEAD_DOWN = -0.5
"""Median cosine of trunk and up, per camera: 0.95 or more for people who mostly stand."""
FEWEST_KNEES = 50
"""Bent knees that it takes to tell a person from the mirror image."""
MISSING = 0.5
"""Share of frames in which a joint is missing that deserves a word."""


@dataclass(frozen=True, eq=False)
class Checked:
    """A sample with units mended, so that the other faults can be looked for, and what was found."""

    sample: Sample
    findings: tuple[Finding, ...]


def check_units(sample: Sample) -> Checked:
    """Poses in mm and keypoints in px, whatever they were."""
    findings = []
    if sample.poses is not None:
        typical = median(size(sample.poses))
        unit = min(UNITS, key=lambda name: abs(np.log(max(typical, 1e-12) * UNITS[name] / BODY_MM)))
        if unit != "millimetres":
            sample = replace(sample, poses=sample.poses * UNITS[unit])
            findings.append(_unit_finding(unit, typical))
    width = sample.size[:, 0]
    if bool(sample.visible.any()) and _largest(sample) < NORMALISED < float(width.min()) / 10:
        ratio = sample.size[:, None, ::-1] / width[:, None, None]  # (F, 1, 2): h/w, 1
        corner = np.concatenate([np.ones_like(ratio[..., :1]), ratio[..., :1]], -1)
        findings.append(_normalised_finding(_largest(sample)))
        sample = replace(sample, keypoints=(sample.keypoints + corner) * width[:, None, None] / 2)
    return Checked(sample, tuple(findings))


def _unit_finding(unit: str, typical: float) -> Finding:
    return Finding("error", "unit", f"the 3D are in {unit}, not in millimetres",
                   f"joints lie {typical:.3g} from the body's centre; people have about {BODY_MM:.0f} mm",
                   f"the data set stores {unit}", f"multiply the poses by {UNITS[unit]:.0f}")  # fmt: skip


def _normalised_finding(largest: float) -> Finding:
    return Finding("error", "pixels", "the 2D are normalised already, not in pixels",
                   f"99 % of the coordinates lie within {largest:.2f} of zero",
                   "the file holds x / width * 2 - 1 (or the like)",
                   "bring the 2D back to px: (x + 1) * width / 2, (y + height / width) * width / 2")  # fmt: skip


def _largest(sample: Sample) -> float:
    return float(np.quantile(np.abs(sample.keypoints[sample.visible]), 0.99))


def check_images(sample: Sample) -> list[Finding]:
    """Principal points and 2D against the images' sizes, and joints that are mostly missing."""
    findings = [_check_sizes(sample), _check_outside(sample)]
    share = 1 - sample.visible.mean(0)
    gone = [f"{sample.skeleton.joints[j]} {share[j]:.0%}" for j in np.flatnonzero(share > MISSING)]
    if gone:
        findings.append(Finding("hint", "missing", "joints are missing in most frames", ", ".join(gone),
                                "the detector does not give these joints, or its threshold is high",
                                "lower the threshold on the confidence, or take a skeleton without them"))  # fmt: skip
    return [finding for finding in findings if finding is not None]


def _check_sizes(sample: Sample) -> Finding | None:
    cameras = sample.cameras
    cx, cy, w, h, fx = (getattr(cameras, name).numpy() for name in ("cx", "cy", "width", "height", "fx"))
    off = np.maximum(np.abs(cx / w - 0.5), np.abs(cy / h - 0.5))
    swapped = np.maximum(np.abs(cx / h - 0.5), np.abs(cy / w - 0.5))
    bad = np.flatnonzero(off > OFF_CENTRE)
    if bool((fx < 0.05 * w).any()):
        return Finding("error", "intrinsics", "focal lengths are not in pixels", f"fx from {fx.min():.3g}",
                       "they are given in image widths or in mm", "multiply by the width, or by px per mm")  # fmt: skip
    if len(bad) == 0:
        return None
    first = int(bad[0])
    evidence = f"camera {first}: centre ({cx[first]:.0f}, {cy[first]:.0f}) in an image of {w[first]:.0f}x{h[first]:.0f}"
    if (swapped[bad] < OFF_CENTRE).all():
        return Finding("error", "image-size", "width and height of the image are exchanged", evidence,
                       "a portrait image was declared as landscape, or the other way round",
                       "exchange width and height of the camera")  # fmt: skip
    return Finding("warning", "intrinsics", "principal points lie far from the image's middle", evidence,
                   "the image size is of another resolution than the intrinsics, or the image was cropped",
                   "give intrinsics and image size of the same image")  # fmt: skip


def _check_outside(sample: Sample) -> Finding | None:
    share = outside(sample)
    if not share > OUTSIDE:
        return None
    turned = outside(replace(sample, cameras=replace(sample.cameras, width=sample.cameras.height,
                                                     height=sample.cameras.width)))  # fmt: skip
    if turned < share / 4:
        return Finding("error", "image-size", "width and height of the image are exchanged",
                       f"{share:.0%} of the joints lie outside the image, {turned:.0%} with the sides exchanged",
                       "a portrait image was declared as landscape, or the other way round",
                       "exchange width and height of the camera")  # fmt: skip
    return Finding("warning", "outside", "many joints lie outside the image", f"{share:.0%} of those that are visible",
                   "the 2D are of an image of another size, or relative to a crop",
                   "give the size of the image that the 2D are measured in")  # fmt: skip


def outside(sample: Sample) -> float:
    """Share of the visible joints that lie outside their image."""
    points, limits = sample.keypoints[sample.visible], np.broadcast_to(sample.size[:, None], sample.keypoints.shape)
    inside = (points >= 0) & (points <= limits[sample.visible])
    return float(1 - inside.all(-1).mean()) if len(points) else 0.0


def check_speed(sample: Sample) -> Finding | None:
    """The finding when hands, feet and head move faster or slower than people do."""
    speed = leaf_speed(sample) / 1000
    if not (speed > FASTEST or speed < SLOWEST):
        return None
    faster = speed > FASTEST
    cause = "fps is too high, frames were left out, or sequences are shuffled" if faster else "fps is too low"
    return Finding("warning", "fps", f"people move implausibly {'fast' if faster else 'slowly'} at {sample.fps:g} fps",
                   f"95 % of the speeds of hands, feet and head lie below {speed:.2g} m/s; everyday motion has 2 to 3",
                   cause, "give the frame rate of these frames, after any thinning")  # fmt: skip


def root_relative(sample: Sample) -> Finding | None:
    """The finding when the root is at the origin in every frame: there is no place before the camera."""
    root = sample.labels[:, sample.skeleton.root]
    if float(np.quantile(np.linalg.norm(root, axis=-1), 0.95)) > 1.0:
        return None
    return Finding("error", "root-relative", "the poses are relative to the root", "the root is at 0 in every frame",
                   "the file holds root-centred poses", "give absolute poses, or place the root by the 2D")  # fmt: skip


def image_space(sample: Sample) -> Finding | None:
    """The finding when x and y of the poses are the keypoints themselves, as in 2.5D labels."""
    gap = np.linalg.norm(sample.labels[..., :2] - sample.keypoints, axis=-1)[sample.visible]
    if not median(gap) < 0.05 * median(sample.box()):
        return None
    return Finding("error", "image-space", "the poses are in image space, not in millimetres",
                   f"x and y of the 3D lie {median(gap):.2g} px from the 2D",
                   "2.5D labels: pixels with a scaled depth", "take camera-frame labels in mm")  # fmt: skip


def check_posture(sample: Sample) -> Finding | None:
    """The finding when the 3D are mirrored, upside down or turned by 90 degrees, as 2D that agree do not show."""
    up = camera_medians(upside(sample.labels, true_up(sample), sample.skeleton), sample)
    seen = up[np.isfinite(up)]
    upside_down = len(seen) > 0 and float(np.mean(seen < HEAD_DOWN)) > 0.5
    share, count = knees_forward(sample.labels, sample.skeleton)
    evidence = f"{share:.0%} of {count} bent knees point forward; trunk along up {median(seen):.2f}"
    if share < MIRRORED and count >= FEWEST_KNEES:
        return _mirrored(upside_down, evidence)
    if upside_down:
        return Finding("warning", "upside-down", "people stand on their heads", evidence,
                       "images turned by 180 degrees, or axes with y up and z backwards",
                       "turn the 2D and the 3D, unless the camera hangs upside down")  # fmt: skip
    tilt = main_direction(trunk(sample.labels, sample.skeleton))
    if abs(tilt[0]) > ALONG:
        return Finding("warning", "sideways", "people lie on their sides", f"median of the trunk's x {tilt[0]:.2f}",
                       "a portrait image was turned by 90 degrees", "turn the 2D, the 3D and the camera")  # fmt: skip
    return None


def _mirrored(upside_down: bool, evidence: str) -> Finding:
    if upside_down:
        return Finding("error", "y-flipped", "2D and 3D stand on their heads and are mirrored", evidence,
                       "y points up in both", "negate y of the poses, take y = height - y for the 2D")  # fmt: skip
    return Finding("error", "left-right", "left and right are exchanged, or all is mirrored", evidence,
                   "joints named left are the person's right, in 2D and 3D, or images and poses were flipped",
                   "exchange left and right joints; if the images were flipped, negate x instead")  # fmt: skip


def upright_share(sample: Sample) -> float:
    """Share of frames whose trunk points up in the image, within 60 degrees."""
    whole = sample.visible.all(1)
    if not whole.any():
        return float("nan")
    return float((upside(sample.keypoints[whole], np.array((0.0, -1.0)), sample.skeleton) > 0.5).mean())


def check_flat_posture(sample: Sample) -> Finding | None:
    """The finding when people in 2D alone stand on their heads."""
    whole = sample.visible.all(1)
    if whole.sum() < 30:
        return None
    up = median(upside(sample.keypoints[whole], np.array((0.0, -1.0)), sample.skeleton))
    if not up < HEAD_DOWN:
        return None
    return Finding("warning", "y-flipped", "people in the 2D stand on their heads", f"trunk along up {up:.2f} (median)",
                   "y is counted from the image's bottom, or the camera hangs upside down",
                   "take y = height - y for the keypoints, unless the images are upside down")  # fmt: skip

"""The doctor: looks at a data set, prints its numbers, and says what looks wrong and what to do.

It works on archives and on raw recordings, also on such that no archive would take, and needs no second data
set: bodies, cameras and the agreement of 2D and 3D say enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.data.doctor import plain
from poseda.data.doctor.agreement import person_sizes
from poseda.data.doctor.body import measure_lengths
from poseda.data.doctor.frames import upright_in_depth
from poseda.data.doctor.mismatch import disagreement
from poseda.data.doctor.numbers import measure
from poseda.data.doctor.order import crossed_limbs, order_in_2d, order_in_3d
from poseda.data.doctor.report import Bones, Finding, Numbers, Report, Reprojection, in_order
from poseda.data.doctor.sample import Sample, sample_clips, sample_recordings
from poseda.data.doctor.subtle import camera_difference, lag_difference, resized, size_difference
from poseda.data.recordings import Recording
from poseda.skeleton import Skeleton

__all__ = ["Bones", "Finding", "Numbers", "Report", "Reprojection", "examine", "examine_raw"]

def examine(clips: LabelledClips | UnlabelledClips) -> Report:
    """Numbers of an archive's clips and what looks wrong in them, from at most some 20 000 frames."""
    return _examine(sample_clips(clips))


def examine_raw(
    recordings: Iterable[Recording],
    skeleton: Skeleton,
    *,
    name: str,
    label_scale: str = "metric",
    keypoints: str = "gt",
) -> Report:
    """As `examine`, of recordings as a raw reader gives them (each may be read when its turn comes), unchecked.

    `label_scale` is metric or universal; `keypoints` is gt or the detector's name. Raises DataError where there
    is no frame, or no finite pose.
    """
    sample = sample_recordings(recordings, skeleton, name=name, label_scale=label_scale, source=keypoints)
    return _examine(sample)


def _examine(sample: Sample) -> Report:
    return Report(sample.name, measure(sample), in_order(diagnose(sample)))


def diagnose(sample: Sample) -> list[Finding]:
    """All that looks wrong, in the order in which it was looked for; a code may come twice."""
    checked = plain.check_units(sample)
    findings = [*checked.findings, *plain.check_images(checked.sample)]
    if sample.broken:
        findings.append(_broken(sample))
    look = _look_at_2d if sample.poses is None else _look_at_3d
    return findings + look(checked.sample)


def _look_at_2d(sample: Sample) -> list[Finding]:
    order = order_in_2d(sample)
    if order is not None:
        return [order]
    whole = sample.take(np.flatnonzero(sample.visible.all(1)))
    crossed = crossed_limbs(whole, whole.keypoints, "2D") if len(whole.time) else None
    return [finding for finding in (crossed, plain.check_flat_posture(sample)) if finding is not None]


def _look_at_3d(sample: Sample) -> list[Finding]:
    flat = plain.image_space(sample)
    if flat is not None:
        return [flat]
    order = order_in_3d(sample)
    crossed = None if order else crossed_limbs(sample, sample.labels, "3D")
    found = [finding for finding in (order, crossed, plain.check_speed(sample)) if finding is not None]
    centred = plain.root_relative(sample)
    if centred is not None:
        return [centred, *found]
    if sample.label_scale == "universal":  # their size is known to differ from what the 2D show
        sample = replace(sample, poses=resized(sample, np.clip(person_sizes(sample), 0.7, 1.4)))
    apart = disagreement(sample)
    if apart is not None and apart.code == "joint-order" and crossed is not None:
        return found  # the same limbs, seen from the 2D
    found += [apart] if apart is not None else _look_closely(sample)
    if not {"joint-order", "limbs-crossed", "frame"} & {finding.code for finding in found}:
        posture = (plain.check_posture(sample), upright_in_depth(sample))
        found += [finding for finding in posture if finding is not None]
    return found


def _look_closely(sample: Sample) -> list[Finding]:
    """Faults of a few pixels, where all else agrees. Sizes are mended first: they would look like other cameras."""
    found = [size_difference(sample), one_body(sample)]
    sample = replace(sample, poses=resized(sample, person_sizes(sample)))
    found += [camera_difference(sample), lag_difference(sample)]
    return [finding for finding in found if finding is not None]


ONE_BODY = 0.003
"""Bones of different people that differ by less belong to one skeleton; people differ by 3 % and more."""


def one_body(sample: Sample) -> Finding | None:
    """The hint when all people have the same bones, as in universal labels that were not declared so."""
    lengths = measure_lengths(sample)
    if len(lengths.people) < 3 or sample.label_scale != "metric":
        return None
    ends = list(zip(*sample.skeleton.bones, strict=True))
    bones = lengths.length[:, ends[0], ends[1]]
    spread = float((bones.std(0) / bones.mean(0)).max())
    if spread > ONE_BODY:
        return None
    return Finding("hint", "label-scale", "all people have one skeleton", f"their bones differ by {spread:.2%} at most",
                   "labels scaled to one common skeleton (3DHP's univ_annot3), or the motion of one body",
                   "take the metric labels, or declare the label scale as universal")  # fmt: skip


def _broken(sample: Sample) -> Finding:
    return Finding("warning", "not-finite", "3D joints are not finite",
                   f"{sample.broken} of {sample.broken + len(sample.time)} frames that were looked at",
                   "gaps of the motion capture", "such frames are left out when the data are prepared")  # fmt: skip

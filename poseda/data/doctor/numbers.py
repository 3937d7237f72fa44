"""The facts of the doctor's page, in the data's own units."""

from __future__ import annotations

import numpy as np

from poseda.data.doctor.agreement import distances, offsets, person_sizes, project
from poseda.data.doctor.body import leaf_speed, main_direction, measure_lengths, trunk
from poseda.data.doctor.plain import outside, upright_share
from poseda.data.doctor.report import Bones, Numbers, Reprojection
from poseda.data.doctor.robust import Floats, group_median, median, quantile
from poseda.data.doctor.sample import Sample


def measure(sample: Sample) -> Numbers:
    """All numbers of a sample as it is, whatever is wrong with it."""
    labelled = sample.poses is not None
    cameras, points = sample.cameras, sample.keypoints[sample.visible]
    width, fx, fy = (getattr(cameras, name).numpy() for name in ("width", "fx", "fy"))
    height, box = cameras.height.numpy(), sample.box()
    view = np.degrees(2 * np.arctan(width / 2 / fx))
    ends = [[quantile(points[:, axis], share) for axis in (0, 1)] for share in (0.005, 0.995)]
    up = main_direction(trunk(sample.labels, sample.skeleton)) if labelled else None
    return Numbers(
        frames=sum(sample.lengths),
        looked_at=len(sample.time),
        sequences=len(sample.lengths),
        subjects=_people(sample),
        fps=sample.fps,
        skeleton=sample.skeleton.name,
        source=sample.source,
        label_scale=sample.label_scale,
        image_sizes=tuple(sorted({(int(w), int(h)) for w, h in zip(width, height, strict=True)})),
        cameras=len(cameras),
        focal=(float(min(fx.min(), fy.min())), float(max(fx.max(), fy.max()))),
        view=(float(view.min()), float(view.max())),
        low=(ends[0][0], ends[0][1]),
        high=(ends[1][0], ends[1][1]),
        outside=outside(sample),
        box=_span(box),
        missing=dict(zip(sample.skeleton.joints, (1 - sample.visible.mean(0)).tolist(), strict=True)),
        upright=upright_share(sample),
        distance=_span(np.linalg.norm(sample.labels[:, sample.skeleton.root], axis=-1)) if labelled else None,
        up=None if up is None else (float(up[0]), float(up[1]), float(up[2])),
        speed=leaf_speed(sample) if labelled else None,
        scale=_scales(sample) if labelled else None,
        bones=_bones(sample) if labelled else None,
        reprojection=_reprojection(sample) if labelled else None,
    )


def _people(sample: Sample) -> dict[str, int]:
    counts = dict.fromkeys(sample.people, 0)
    for name, frames in zip(sample.subjects, sample.lengths, strict=True):
        counts[name] += frames
    return counts


def _span(values: Floats) -> tuple[float, float, float]:
    return quantile(values, 0.05), median(values), quantile(values, 0.95)


def _scales(sample: Sample) -> dict[str, float]:
    return dict(zip(sample.people, person_sizes(sample).tolist(), strict=True))


def _reprojection(sample: Sample) -> Reprojection:
    seen = project(sample.labels, sample.cameras, sample.camera)
    pixels = np.where(sample.visible, np.linalg.norm(sample.keypoints - seen, axis=-1), np.nan)
    at_box = distances(offsets(sample))
    camera = np.repeat(sample.camera, pixels.shape[1])
    by_camera = group_median(pixels.ravel(), camera, len(sample.cameras))
    ends = (quantile(pixels, 0.95), quantile(at_box, 0.95))
    return Reprojection(median(pixels), ends[0], median(at_box), ends[1], tuple(by_camera.tolist()))


def _bones(sample: Sample) -> dict[str, Bones]:
    """Each group of bones; lengths are medians over people, spreads those of the worst bone."""
    skeleton, lengths = sample.skeleton, measure_lengths(sample)
    if not lengths.people:
        return {}
    ends = np.array(skeleton.bones)
    length = np.median(lengths.length, 0)[ends[:, 0], ends[:, 1]]
    spread = np.median(lengths.spread, 0)[ends[:, 0], ends[:, 1]]
    other = dict(skeleton.bone_pairs)
    found = {}
    for group, bones in skeleton.bone_groups.items():
        ratios = [length[bone] / length[other[bone]] for bone in bones if bone in other]
        ratio = float(np.mean(ratios)) if ratios else float("nan")
        found[group] = Bones(float(length[list(bones)].mean()), ratio, float(spread[list(bones)].max()))
    return found

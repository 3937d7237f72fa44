"""Faults that move the 2D by few pixels: another camera of the file, a lag in time, labels of another size."""

from __future__ import annotations

import numpy as np

from poseda.data.doctor.agreement import centre, distances, misfit, offsets, person_sizes
from poseda.data.doctor.frames import Explained
from poseda.data.doctor.report import Finding
from poseda.data.doctor.robust import Floats, Ints, median
from poseda.data.doctor.sample import Sample

SIZE = 0.03
"""Difference in size that 2D noise cannot make: a detector with a mean error of 10 px makes 0.02."""
LAGS = 5
"""Frames that 2D are tried before and after the 3D."""
LAG_ROWS_ALONE = 10
LAG_BETTER_ALONE = 0.5
LAG_SHARE = 0.01
"""The same for sequences alone, and the share of them that must show it: noise that lasts for some frames can look
like a lag in one sequence of a thousand."""
LAG_BETTER = 0.85
"""Mean squared residual with the lag over that without: noise does not know of a lag."""
CAMERA_BETTER = 0.5
"""Mean squared residual through another camera over that through the own."""
CAMERA_WORTH = 4.0
"""px² at a 400 px box: below that the cameras are as good as equal."""
FEWEST_ROWS = 5
"""Frames of a sequence that it takes to tell cameras apart."""
LAG_ROWS = 100
"""Frames that it takes to find a lag: fewer lags are tried where sequences are short."""
LAG_ROWS_APART = 20
"""The same where 2D and 3D are known not to agree."""
SUSPECTS = 100
"""Sequences with the largest residuals that are tried with the other cameras."""
MOST_CAMERAS = 64
CLIP = 60.0
"""px at a 400 px box: an outlier counts as much as this."""


def other_sizes(sample: Sample) -> Explained | None:
    """What is left when each person's labels are scaled about the pelvis to the size that the 2D show."""
    sizes = person_sizes(sample)
    if not np.isfinite(sizes).any():
        return None
    named = {name: value for name, value in zip(sample.people, sizes, strict=True) if np.isfinite(value)}
    return misfit(offsets(sample, resized(sample, sizes))), _size_finding(sample, named)


def resized(sample: Sample, sizes: Floats) -> Floats:
    """Poses at the size that the 2D show, given each person's size ratio (P,)."""
    ratio = np.where(np.isfinite(sizes), sizes, 1.0)[sample.person]
    middle = centre(sample)[:, None]
    return np.asarray(middle + (sample.labels - middle) / ratio[:, None, None])


def _size_finding(sample: Sample, sizes: dict[str, float]) -> Finding:
    off = sorted(sizes.items(), key=lambda item: -abs(np.log(item[1])))
    shown = ", ".join(f"{name} {value:.3f}" for name, value in off[:6]) + (", ..." if len(off) > 6 else "")
    worst = off[0][1]
    return Finding("error", "label-scale", f"the labels look universal, not metric: scale {worst:.2f}",
                   f"3D over the size that the 2D show, root in place: {shown}",
                   "labels scaled to one common skeleton (3DHP's univ_annot3), 2D and cameras of the true one",
                   "take the metric labels (annot3), or declare the label scale as universal")  # fmt: skip


def size_difference(sample: Sample) -> Finding | None:
    """The finding when some person's 3D are larger or smaller than the 2D show, and nobody said so."""
    sizes = person_sizes(sample)
    named = {name: value for name, value in zip(sample.people, sizes, strict=True) if abs(value - 1) > SIZE}
    return _size_finding(sample, named) if named and sample.label_scale == "metric" else None


def other_lag(sample: Sample) -> Explained | None:
    """What is left when the 2D are taken some frames earlier or later."""
    rows, reach = _middle_rows(sample, LAG_ROWS_APART)
    if reach == 0:
        return None
    inner = sample.take(rows)
    left = {lag: misfit(offsets(inner, sample.labels[rows + lag])) for lag in range(-reach, reach + 1) if lag}
    lag = min(left, key=lambda key: left[key])
    return left[lag], _lag_finding(lag, f"{left[lag]:.1f} px are left of {misfit(offsets(inner)):.1f}, at a 400 px box")


def lag_difference(sample: Sample) -> Finding | None:
    """The finding when 2D and 3D of all or some sequences agree better some frames apart."""
    rows, reach = _middle_rows(sample, LAG_ROWS)
    if reach == 0:
        return None
    inner = sample.take(rows)
    costs = np.stack([_squares(offsets(inner, sample.labels[rows + lag])) for lag in range(-reach, reach + 1)])
    counts = np.bincount(inner.sequence, minlength=len(sample.lengths))
    sums = np.stack([np.bincount(inner.sequence, cost, len(sample.lengths)) for cost in costs])
    best, now = sums.argmin(0) - reach, sums[reach]
    clear = (sums.min(0) < LAG_BETTER_ALONE * now) & (best != 0) & (counts >= LAG_ROWS_ALONE) & (now > counts)
    total = sums.sum(1)
    lag = int(total.argmin()) - reach
    if lag != 0 and total.min() < LAG_BETTER * total[reach] and total[reach] > counts.sum():
        return _lag_finding(lag, f"squared residual falls to {total.min() / total[reach]:.0%}")
    if clear.sum() <= LAG_SHARE * (counts > 0).sum():
        return None
    lag = int(np.bincount(best[clear] + reach).argmax()) - reach
    share = median(sums.min(0)[clear] / now[clear])
    where = f"{int(clear.sum())} of {(counts > 0).sum()} sequences"
    return _lag_finding(lag, f"squared residual falls to {share:.0%} in {where}")


def _lag_finding(lag: int, evidence: str) -> Finding:
    side = "ahead of" if lag > 0 else "behind"
    frames = f"{abs(lag)} frame{'s' * (abs(lag) != 1)}"
    return Finding("error", "lag", f"the 2D run {frames} {side} the 3D", f"{evidence} at lag {lag}",
                   "one of them was cut, padded or counted from 1", f"shift the 2D by {frames}")  # fmt: skip


def _middle_rows(sample: Sample, fewest: int) -> tuple[Ints, int]:
    """Rows that have neighbours as many frames before and after, and how many; (.., 0) where too few have any."""
    rows = np.arange(0)
    for reach in range(LAGS, 0, -1):
        rows = np.intersect1d(sample.neighbours(reach), sample.neighbours(-reach))
        if len(rows) >= fewest:
            return rows, reach
    return rows, 0


def _squares(difference: Floats) -> Floats:
    """(F, J, 2) -> (F,) mean clipped squared residual, 0 where nothing is seen."""
    square = np.minimum(distances(difference), CLIP) ** 2
    seen = np.isfinite(square)
    return np.asarray(np.where(seen, square, 0).sum(1) / np.maximum(seen.sum(1), 1))


def other_cameras(sample: Sample) -> Explained | None:
    """What is left when each sequence may have been seen by any camera of the file."""
    costs = _through_all(sample)
    if costs is None:
        return None
    best = costs.argmin(0)[sample.sequence]
    left = misfit(offsets(sample, camera=best))
    return left, _camera_finding(sample, costs.argmin(0), np.unique(sample.sequence), f"{left:.1f} px at a 400 px box")


def camera_difference(sample: Sample) -> Finding | None:
    """The finding when another camera of the file explains a sequence clearly better than its own."""
    if len(sample.cameras) == 1 or len(sample.cameras) > MOST_CAMERAS:
        return None
    difference = offsets(sample)
    # what a detector does alike in all sequences is no camera's fault
    bias = np.array([[median(column) for column in axis.T] for axis in np.moveaxis(difference, -1, 0)]).T
    own = _sequence_squares(difference - bias, sample)
    suspects = np.argsort(-np.nan_to_num(own))[:SUSPECTS]
    suspects = suspects[np.nan_to_num(own[suspects]) > CAMERA_WORTH]
    if len(suspects) == 0:
        return None
    tried = sample.take(np.isin(sample.sequence, suspects)).thin(20 * SUSPECTS)
    costs = _through_all(tried, bias)
    counts = np.bincount(tried.sequence, minlength=len(sample.lengths))
    if costs is None:
        return None
    now = np.nan_to_num(_sequence_squares(offsets(tried) - bias, tried))
    mixed = np.flatnonzero((costs.min(0) < CAMERA_BETTER * now) & (now > CAMERA_WORTH) & (counts >= FEWEST_ROWS))
    if len(mixed) == 0:
        return None
    other, same = (np.sqrt(median(cost[mixed])) for cost in (costs.min(0), now))
    evidence = f"RMS {other:.1f} px instead of {same:.1f} at a 400 px box"
    return _camera_finding(sample, costs.argmin(0), mixed, evidence)


def _through_all(sample: Sample, bias: Floats | float = 0.0) -> Floats | None:
    """(C, S) mean clipped squared residual of each sequence through each camera; inf for one without frames."""
    if len(sample.cameras) == 1 or len(sample.cameras) > MOST_CAMERAS:
        return None
    numbers = [np.full(len(sample.camera), camera) for camera in range(len(sample.cameras))]
    costs = np.stack([_sequence_squares(offsets(sample, camera=number) - bias, sample) for number in numbers])
    return np.where(np.isfinite(costs), costs, np.inf)


def _sequence_squares(difference: Floats, sample: Sample) -> Floats:
    """(S,) mean clipped squared residual, NaN for a sequence without frames."""
    count = np.bincount(sample.sequence, minlength=len(sample.lengths))
    total = np.bincount(sample.sequence, _squares(difference), len(sample.lengths))
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _camera_finding(sample: Sample, best: Ints, sequences: Ints, evidence: str) -> Finding:
    first = sample.sequence.searchsorted(sequences) if len(sample.sequence) else sequences
    own = sample.camera[first]
    pairs = sorted({(int(a), int(best[s])) for a, s in zip(own, sequences, strict=True) if int(a) != int(best[s])})
    shown = ", ".join(f"{a} -> {b}" for a, b in pairs[:6]) + (", ..." if len(pairs) > 6 else "")
    return Finding("error", "cameras", f"cameras are mixed up in {len(sequences)} sequences",
                   f"{evidence} with the cameras {shown} (the file's -> the right one)",
                   "the order of the cameras differs from the order of the 2D",
                   "match cameras and sequences by the cameras' names")  # fmt: skip

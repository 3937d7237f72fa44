"""Statistics that a few wrong values do not move, by group, without loops over frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def group_median(values: Floats, groups: Ints, count: int) -> Floats:
    """Lower median of the finite values (N,) of each group 0..count-1 -> (count,), NaN where a group has none."""
    finite = np.isfinite(values)
    values, groups = values[finite], groups[finite]
    ordered = values[np.lexsort((values, groups))]
    sizes = np.bincount(groups, minlength=count)
    if len(ordered) == 0:
        return np.full(count, np.nan)
    middle = np.cumsum(sizes) - sizes + np.maximum(sizes - 1, 0) // 2
    return np.where(sizes > 0, ordered[np.minimum(middle, len(ordered) - 1)], np.nan)


def column_medians(values: Floats, groups: Ints, count: int) -> Floats:
    """group_median of each column: (F, J), (F,) -> (count, J)."""
    columns = values.shape[1]
    flat = (groups[:, None] * columns + np.arange(columns)).ravel()
    return group_median(values.ravel(), flat, count * columns).reshape(count, columns)


def median(values: Floats) -> float:
    """Median of the finite values of any shape; NaN where there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def quantile(values: Floats, share: float) -> float:
    """Quantile of the finite values of any shape; NaN where there is none."""
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, share)) if finite.size else float("nan")


def unit(vectors: Floats) -> Floats:
    """Vectors (..., D) at length 1; those of length 0 stay 0."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))

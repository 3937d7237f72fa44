"""Smooth histograms of one and two quantities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def bandwidth(values: Array, dimensions: int = 1) -> float:
    """Silverman's rule of thumb (1986, eqs. 3.31, 4.14), wary of long tails. values: (N,) -> their unit.

    0 where all values are the same. `dimensions` is the number of quantities whose joint density is wanted.
    """
    low, high = (float(q) for q in np.percentile(values, [25, 75]))
    spread = min((x for x in (float(values.std()), (high - low) / 1.349) if x > 0), default=0.0)
    factor = 0.9 if dimensions == 1 else 1.0
    return float(factor * spread * len(values) ** (-1 / (4 + dimensions)))


def smooth_density(
    values: Array, low: float, high: float, bins: int = 400, *, circular: bool = False
) -> tuple[Array, Array]:
    """Gaussian-smoothed histogram on [low, high]. values: (N,) -> bin centres and densities, (bins,) each.

    A `circular` quantity is smoothed across the ends of its range.
    """
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    step = (high - low) / bins
    sigma = max(bandwidth(values) / step, 1.0)
    smooth = _blur(counts.astype(np.float64), sigma, axis=0, circular=circular)
    return (edges[:-1] + edges[1:]) / 2, smooth / (len(values) * step)


def density_levels(
    x: Array, y: Array, area: tuple[float, float, float, float], shares: tuple[float, ...], bins: int = 160
) -> tuple[Array, Array, Array, list[float]]:
    """Smooth density on area (left, right, low, high), and the levels that hold given shares of the points.

    x, y: (N,) -> bin centres (bins,) twice, density (bins, bins) with rows along y, levels in increasing
    order.
    """
    counts, xs, ys = np.histogram2d(x, y, bins=bins, range=(area[:2], area[2:]))
    steps = ((area[1] - area[0]) / bins, (area[3] - area[2]) / bins)
    for axis, values in enumerate((x, y)):
        counts = _blur(counts, max(bandwidth(values, 2) / steps[axis], 1.0), axis=axis)
    descending = np.sort(counts, axis=None)[::-1]
    held = descending.cumsum() / max(float(descending.sum()), 1e-300)
    levels = [float(descending[min(int(np.searchsorted(held, s)), descending.size - 1)]) for s in shares]
    return (xs[:-1] + xs[1:]) / 2, (ys[:-1] + ys[1:]) / 2, counts.T, sorted(levels)


def _blur(counts: Array, sigma: float, axis: int, *, circular: bool = False) -> Array:
    """Convolve with a Gaussian of `sigma` bins along one axis, through the Fourier transform."""
    size = counts.shape[axis]
    length = size if circular else size + 2 * int(np.ceil(4 * sigma))
    frequency = np.fft.rfftfreq(length)
    response = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    shape = [1] * counts.ndim
    shape[axis] = len(response)
    blurred = np.fft.irfft(np.fft.rfft(counts, n=length, axis=axis) * response.reshape(shape), n=length, axis=axis)
    return np.clip(np.take(blurred, range(size), axis=axis), 0.0, None)

"""Sparsification: does the error fall as the least certain joints, or frames, are left out?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.errors import DataError, ShapeError

STEPS = 100


@dataclass(frozen=True, eq=False)
class Sparsification:
    """Mean error in mm of what is left after the fraction `removed`, by stated and by true order.

    Ilg et al., ECCV 2018 (Uncertainty estimates for optical flow), where the area between both is AUSE; AURG is the
    area to the curve of a random order, which is flat (Poggi et al., CVPR 2020).
    """

    removed: Tensor
    """(100,) 0, 0.01, ..., 0.99."""
    curve: Tensor
    """(100,) mm, the largest stated uncertainty removed first."""
    oracle: Tensor
    """(100,) mm, the largest error removed first."""

    @property
    def ause(self) -> float:
        """Area between curve and oracle in units of the mean error; 0 = the order of the errors is known."""
        return float((self.curve - self.oracle).mean() / self.curve[0])

    @property
    def aurg(self) -> float:
        """Area by which the curve lies below the mean error, in its units; 0 = no better than a random order."""
        return float(1 - self.curve.mean() / self.curve[0])


def sparsify(error: Tensor, uncertainty: Tensor) -> Sparsification:
    """Sparsification of errors (N,) mm by their stated uncertainties (N,). Raises ShapeError, DataError.

    Of each order the floor(removed N) first are left out, so that one is always kept. Joints: flatten both;
    frames: take their means over joints.
    """
    if error.dim() != 1 or error.shape != uncertainty.shape:
        shapes = f"{tuple(error.shape)}, {tuple(uncertainty.shape)}"
        raise ShapeError(f"Expected errors and uncertainties (N,), got {shapes}.")
    if len(error) == 0 or not bool(error.sum() > 0):
        raise DataError("Sparsification is not defined without an error above 0.")
    error = error.double()
    numbers = torch.arange(STEPS, device=error.device)
    first = numbers * len(error) // STEPS
    curves = (_tails(error, order)[first] for order in (uncertainty, error))
    return Sparsification(numbers / STEPS, *curves)


def _tails(error: Tensor, order: Tensor) -> Tensor:
    """Mean (N,) of the errors that are left once the n with the largest `order` are gone."""
    kept = error[order.argsort(descending=True, stable=True)].flip(0).cumsum(0).flip(0)
    return kept / torch.arange(len(error), 0, -1, device=error.device)

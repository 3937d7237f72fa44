"""Alignment of one pose with another: similarity or rigid (Procrustes), and scale alone."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.errors import ShapeError


def procrustes(pred: Tensor, target: Tensor, scale: bool = True) -> Tensor:
    """`pred` turned, moved and scaled to lie nearest to `target`: (..., J, 3) mm twice -> (..., J, 3) mm.

    Least squares without reflections (Umeyama 1991), in float64 inside. Poses that have no answer, because
    all joints of either coincide or one is not finite, come out as NaN and do not touch the others of the
    batch. Meant for evaluation: the SVD's gradient is unbounded for flat poses. Raises ShapeError when
    shapes differ.
    """
    _check_pair(pred, target)
    moved, pred_size, _ = _centre(pred)
    fixed, target_size, mean = _centre(target)
    covariance = fixed.mT @ moved
    usable = (pred_size > 0) & (target_size > 0) & covariance.isfinite().all(-1).all(-1)
    # One NaN would make the SVD fail for the whole batch.
    eye = torch.eye(3, dtype=torch.float64, device=pred.device)
    u, singular, v = torch.linalg.svd(torch.where(usable[..., None, None], covariance, eye))
    sign = torch.ones_like(singular)
    sign[..., 2] = torch.linalg.det(u @ v).sign()  # -1 where the nearest map would be a reflection
    rotation = (u * sign.unsqueeze(-2)) @ v
    factor = (singular * sign).sum(-1) / pred_size if scale else torch.ones_like(pred_size)
    aligned: Tensor = factor[..., None, None] * (moved @ rotation.mT) + mean
    return aligned.masked_fill(~usable[..., None, None], torch.nan).to(pred.dtype)


def scale_align(pred: Tensor, target: Tensor) -> Tensor:
    """`pred` times the factor that brings it nearest to `target`: (..., J, 3) mm twice -> (..., J, 3) mm.

    The alignment of N-MPJPE (Rhodin et al. 2018); both poses are root-relative. A pose of zeros has no
    factor and comes out as NaN. Raises ShapeError when shapes differ.
    """
    _check_pair(pred, target)
    size = (pred * pred).sum((-2, -1), keepdim=True)
    factor = (pred * target).sum((-2, -1), keepdim=True) / size
    return pred * factor.masked_fill(size == 0, torch.nan)


def _centre(pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In float64: pose about its mean, its sum of squares (...) or 0 if only rounding, mean (..., 1, 3)."""
    rounding = 8 * torch.finfo(pose.dtype).eps * pose.abs().amax((-2, -1)).double()  # mm, of the type given
    mean = pose.double().mean(-2, keepdim=True)
    centred = pose.double() - mean
    size = centred.square().sum((-2, -1))
    return centred, size.masked_fill(size <= pose.shape[-2] * rounding**2, 0), mean


def _check_pair(pred: Tensor, target: Tensor) -> None:
    if pred.shape != target.shape or pred.ndim < 2 or pred.shape[-1] != 3:
        shapes = f"{tuple(pred.shape)} and {tuple(target.shape)}"
        raise ShapeError(f"Expected two poses of one shape (..., J, 3), got {shapes}.")

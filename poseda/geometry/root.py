"""Where the root stands: the place before the camera at which a root-relative pose fits its keypoints."""

from __future__ import annotations

import torch
from torch import Tensor

from poseda.errors import ShapeError
from poseda.skeleton import constant_tensor

_ROBUST_SCALE = 1.5
_LEAST_SCALE_MM = 1e-3


def root_from_keypoints(
    pose: Tensor, rays: Tensor, weights: Tensor | None = None, iterations: int = 3
) -> tuple[Tensor, Tensor]:
    """Root by robust least squares: (..., J, 3) mm, (..., J, 2), (..., J) -> (..., 3) mm, valid (...) bool.

    pose is root-relative in the camera frame, rays are undistorted (x/z, y/z), weights >= 0 with 0 for a
    missing joint, whose numbers are not read. Minimises sum_j w_j |X_j^xy + T^xy - r_j (Z_j + T_z)|^2,
    linear in T, then reweights `iterations` times by Cauchy's weight, scale 1.5 x the median residual of the
    visible joints. Not valid, and then (0, 0, 0): fewer than two visible joints, rays that coincide, or a
    root or visible joint behind the camera. Differentiable in pose and rays; the robust weights count as
    constants. Raises ShapeError.
    """
    if pose.shape[-1] != 3 or rays.shape[-1] != 2 or pose.shape[:-1] != rays.shape[:-1]:
        raise ShapeError(f"Expected pose (..., J, 3) and rays (..., J, 2), got {_shapes(pose, rays)}.")
    if weights is None:
        weights = torch.ones_like(rays[..., 0])
    elif weights.shape != rays.shape[:-1]:
        raise ShapeError(f"Expected weights (..., J) beside rays (..., J, 2), got {_shapes(weights, rays)}.")
    visible = weights > 0
    pose = pose.masked_fill(~visible.unsqueeze(-1), 0)
    rays = rays.masked_fill(~visible.unsqueeze(-1), 0)
    root, spread = _solve(pose, rays, weights)
    for _ in range(iterations):
        with torch.no_grad():
            robust = _cauchy(pose, rays, root, visible)
        root, spread = _solve(pose, rays, weights * robust)
    nearest = (pose[..., 2] + root[..., 2:]).masked_fill(~visible, torch.inf).amin(-1)
    in_front = (root[..., 2] > 0) & (nearest > 0)
    valid = in_front & (spread > 0) & (visible.sum(-1) >= 2) & root.isfinite().all(-1)
    return torch.where(valid.unsqueeze(-1), root, 0), valid


def place_by_keypoints(pose: Tensor, rays: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Root and valid as `root_from_keypoints` finds them, and the pose there: (..., 3) mm, (...) bool, (..., J, 3) mm.

    All joints of a pose without a root are put on the camera's axis, 1 m away, where their projection is finite.
    """
    root, valid = root_from_keypoints(pose, rays, weights)
    axis = constant_tensor((0.0, 0.0, 1000.0), pose.dtype, pose.device)
    return root, valid, torch.where(valid[..., None, None], pose + root.unsqueeze(-2), axis)


def _solve(pose: Tensor, rays: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted least squares: root (..., 3) mm and the weighted spread (...) of the rays, 0 if only rounding.

    The two sideways unknowns drop out of the 3x3 normal equations when rays and offsets are taken about their
    means; what is left is one division, accurate in float32 for rays that span a few degrees.
    """
    share = weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    share = share.unsqueeze(-1)
    offset = rays * pose[..., 2:] - pose[..., :2]  # T^xy - r T_z = offset
    ray_mean, offset_mean = (share * rays).sum(-2), (share * offset).sum(-2)
    ray, off = rays - ray_mean.unsqueeze(-2), offset - offset_mean.unsqueeze(-2)
    spread = (share * ray * ray).sum((-2, -1))
    spread = spread.masked_fill(spread <= _rounding(rays), 0)
    depth = -(share * ray * off).sum((-2, -1)) / torch.where(spread > 0, spread, 1)
    sideways = offset_mean + ray_mean * depth.unsqueeze(-1)
    return torch.cat((sideways, depth.unsqueeze(-1)), -1), spread


def _rounding(rays: Tensor) -> Tensor:
    """Spread (...) that equal rays may have from rounding alone."""
    return (8 * torch.finfo(rays.dtype).eps * rays.detach().abs().amax((-2, -1))) ** 2


def _cauchy(pose: Tensor, rays: Tensor, root: Tensor, visible: Tensor) -> Tensor:
    """Cauchy's weights (..., J) at a root (..., 3): 1 / (1 + (residual / scale)^2)."""
    place = pose + root.unsqueeze(-2)
    residual: Tensor = torch.linalg.vector_norm(place[..., :2] - rays * place[..., 2:], dim=-1)
    median = residual.masked_fill(~visible, torch.nan).nanmedian(-1, keepdim=True).values
    scale = (_ROBUST_SCALE * median.nan_to_num()).clamp_min(_LEAST_SCALE_MM)
    return 1 / (1 + (residual / scale) ** 2)


def _shapes(first: Tensor, second: Tensor) -> str:
    return f"{tuple(first.shape)} and {tuple(second.shape)}"

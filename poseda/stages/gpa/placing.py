"""Where source poses must stand to project where, and as large as, target people: closed form and fixed-point steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.geometry.boxes import SMALLEST_BOX, pixel_box
from poseda.geometry.camera import Camera
from poseda.skeleton import Skeleton, index_tensor


@dataclass(frozen=True)
class Placing:
    """How source poses are measured and placed; the defaults are those of the stage."""

    root: int = 0
    """Index of the root joint."""
    hips: tuple[int, ...] = ()
    """Joints whose midpoint is the root where the root itself is missing; empty: there are none."""
    scale: str = "box"
    """box = mean side, diagonal, or spread = joint standard deviation."""
    refine_iters: int = 2
    """Fixed-point steps after the closed form."""
    nearest_joint_mm: float = 300.0
    """Where a joint comes nearer to the camera the depth stays as it is."""
    smooth: float = 2.0
    """Width of the Gaussian that smooths the root's path, frames."""
    divide_by_focal: bool = True
    """False: the root's ray is not divided by the focal length, as in PoseDA's published figure."""


def hips_of(skeleton: Skeleton) -> tuple[int, ...]:
    """Both hips, or nothing where a joint set lacks one."""
    names = [name for name in ("lhip", "rhip") if name in skeleton.joints]
    return tuple(skeleton.index(name) for name in names) if len(names) == 2 else ()


def measure(points: Tensor, visible: Tensor, scale: str) -> Tensor:
    """Size of people in the image over their visible joints: (..., J, 2), (..., J) bool -> (...), in points' unit."""
    if scale == "spread":
        seen = visible.unsqueeze(-1)
        count = seen.sum(-2).clamp_min(1)
        centred = points - points.masked_fill(~seen, 0).sum(-2, keepdim=True) / count.unsqueeze(-2)
        variance = centred.square().masked_fill(~seen, 0).sum((-2, -1)) / count.squeeze(-1)
        return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()  # the root of 0 has no gradient
    width, height = pixel_box(points, visible)
    if scale == "box":
        return (width + height) / 2
    return (width.square() + height.square()).clamp_min(torch.finfo(width.dtype).tiny).sqrt()


def measurable(keypoints: Tensor, visible: Tensor, width: Tensor, scale: str) -> Tensor:
    """(...) bool: two visible joints at least, and more than a point. width (...) px of the images."""
    return (visible.sum(-1) >= 2) & (measure(keypoints, visible, scale) > SMALLEST_BOX * width)


def aligned_root(
    pose: Tensor, keypoints: Tensor, visible: Tensor, cameras: Camera, *, root: int, refine_iters: int = 2,
    nearest_joint_mm: float = 300.0, **options: object,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`aligned_roots` for single frames: pose (N, J, 3), keypoints (N, J, 2), visible (N, J) -> roots (N, 3), (N,)."""
    placing = Placing(root=root, refine_iters=refine_iters, nearest_joint_mm=nearest_joint_mm, **options)  # type: ignore[arg-type]
    roots, found = aligned_roots(pose[:, None], keypoints[:, None], visible[:, None], cameras, placing)
    return roots[:, 0], found


def aligned_roots(
    poses: Tensor, keypoints: Tensor, visible: Tensor, cameras: Camera, placing: Placing
) -> tuple[Tensor, Tensor]:
    """Root paths (N, T, 3) mm along which windows project with the place and size of target windows; (N,) bool: found.

    poses (N, T, J, 3) mm in the camera frame, their own position does not matter; keypoints (N, T, J, 2) px and visible
    (N, T, J) bool of the paired target windows, whose cameras (N,) are used with their full lens model. All is measured
    on the joints that are visible in the target. A window has one depth: sizes are summed over its frames.

    Depth in closed form (PoseDA): Z = m(fx X, fy Y) / m(target), m being a measure of size, then `refine_iters` times
    Z <- Z m(projected) / m(target). The root lies on the ray of the target's root, of its mid-hip where the root is
    missing, and else so that the centres of both boxes meet; over several frames the path of that point is smoothed.
    Where a joint comes nearer than `nearest_joint_mm` the depth stays: the box of a pose that surrounds the camera says
    nothing about its size, and would throw it out to kilometres.
    """
    relative = poses - poses[:, :, placing.root : placing.root + 1]
    width = cameras.width.unsqueeze(-1)
    sized = measurable(keypoints, visible, width, placing.scale)  # (N, T)
    found = sized[:, sized.shape[1] // 2]
    wanted = _over(measure(keypoints, visible, placing.scale), sized)
    wanted = torch.where(found, wanted, cameras.width)
    pixel, centred = root_pixel(keypoints, visible, placing)
    pixel = smooth_path(pixel, sized, placing.smooth)
    ray = _ray(pixel, cameras, placing)
    focal = torch.stack([cameras.fx, cameras.fy], -1)[:, None, None]  # (N, 1, 1, 2)
    depth = _over(measure(relative[..., :2] * focal, visible, placing.scale), sized) / wanted
    least = placing.nearest_joint_mm - relative[..., 2].flatten(1).amin(-1)
    goal = box_centre(keypoints, visible)
    for _ in range(placing.refine_iters):
        projected = cameras.project(relative + (depth[:, None, None] * ray).unsqueeze(-2))
        refined = depth * _over(measure(projected, visible, placing.scale), sized) / wanted
        beyond = depth > least
        depth = torch.where(beyond, refined, depth)
        moved = centred & sized & beyond.unsqueeze(-1)
        pixel = torch.where(moved.unsqueeze(-1), pixel + goal - box_centre(projected, visible), pixel)
        ray = torch.where(moved.unsqueeze(-1), _ray(pixel, cameras, placing), ray)
    return depth[:, None, None] * ray, found


def root_pixel(keypoints: Tensor, visible: Tensor, placing: Placing) -> tuple[Tensor, Tensor]:
    """The target's root (..., 2) px, or its mid-hip, or the centre of its box; (...) bool: it is only that centre."""
    pixel, known = keypoints[..., placing.root, :], visible[..., placing.root]
    centre = box_centre(keypoints, visible)
    if placing.hips:
        hips = index_tensor(placing.hips, keypoints.device)
        both = visible.index_select(-1, hips).all(-1)
        middle = keypoints.index_select(-2, hips).mean(-2)
        pixel = torch.where((known | ~both).unsqueeze(-1), pixel, middle)
        known = known | both
    return torch.where(known.unsqueeze(-1), pixel, centre), ~known


def box_centre(points: Tensor, visible: Tensor) -> Tensor:
    """Centre of the box of visible joints: (..., J, 2), (..., J) bool -> (..., 2); 0 where none is visible."""
    hidden = ~visible.unsqueeze(-1)
    low = points.masked_fill(hidden, torch.inf).amin(-2)
    high = points.masked_fill(hidden, -torch.inf).amax(-2)
    some = visible.any(-1, keepdim=True)
    return (torch.where(some, low, 0) + torch.where(some, high, 0)) / 2


def smooth_path(path: Tensor, known: Tensor, width: float) -> Tensor:
    """A path (N, T, 2) whose frames are known (N, T) bool, averaged in time by a Gaussian of `width` frames.

    Unknown frames take the mean of those around them. One frame, and a window of which none is known, stay as they are.
    """
    frames = path.shape[1]
    if frames == 1:
        return path
    time = torch.arange(frames, dtype=path.dtype, device=path.device)
    near = torch.exp(-(((time[:, None] - time) / width) ** 2) / 2).clamp_min(1e-12)  # far frames fill long gaps
    weight = near * known.unsqueeze(-2)  # (N, T, T)
    total = weight.sum(-1, keepdim=True)
    share = (weight / total.clamp_min(1e-30)).unsqueeze(-1)
    return torch.where(total > 0, (share * path.unsqueeze(1)).sum(2), path)


def _over(sizes: Tensor, frames: Tensor) -> Tensor:
    """Sum (N,) of sizes (N, T) over the frames that count (N, T) bool."""
    return torch.where(frames, sizes, 0).sum(-1)


def _ray(pixel: Tensor, cameras: Camera, placing: Placing) -> Tensor:
    """(N, T, 3) with z = 1, through (N, T, 2) px."""
    ray = cameras.unproject(pixel)
    if not placing.divide_by_focal:  # screen units, where the focal length is 2 f / width
        focal = torch.stack([cameras.fx, cameras.fy], -1) * (2 / cameras.width.unsqueeze(-1))
        ray = ray * focal.unsqueeze(1)
    return torch.cat([ray, torch.ones_like(ray[..., :1])], -1)

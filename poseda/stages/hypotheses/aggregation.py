"""One pose from many hypotheses by their reprojection, with no ground truth: PoSynDA's choice, made honest.

D3DP (Shan et al., ICCV 2023) calls the choice joint by joint JPMA, and PoSynDA (ACM MM 2023) trains on it; both project
with the true root trajectory. Here each hypothesis gets the root at which it fits the 2D best, in closed form.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from poseda.errors import ShapeError, choose
from poseda.geometry.camera import Camera
from poseda.geometry.root import place_by_keypoints

Per = Literal["joint", "pose"]
How = Literal["mean", "best", "softmax"]


@torch.no_grad()
def aggregate_by_reprojection(
    poses: Tensor, keypoints: Tensor, confidence: Tensor, cameras: Camera, *, per: Per = "joint"
) -> Tensor:
    """The hypotheses that fit the 2D best: (N, H, J, 3) mm, (N, J, 2) px, (N, J), cameras (N,) -> (N, J, 3) mm.

    Poses are root-relative in camera axes; confidence 0 marks a missing joint. per="joint" takes each visible joint
    from the hypothesis in which it comes nearest to its keypoint, and missing joints from the hypothesis that is best
    as a whole; per="pose" takes all joints from that one, by its mean distance weighted with confidence. A hypothesis
    without a root before the camera is not taken; where none has one the mean of all is given. Raises ShapeError,
    and ConfigError for another `per`.
    """
    choose(per, ("joint", "pose"), "aggregate_by_reprojection.per")
    _check(poses, keypoints, confidence, cameras)
    errors, valid = reprojection_errors(poses, keypoints, confidence, cameras)
    weight = confidence.unsqueeze(1)  # (N, 1, J)
    whole = (weight * errors).sum(-1) / weight.sum(-1).clamp_min(1e-12)
    best = whole.masked_fill(~valid, torch.inf).argmin(1, keepdim=True)  # (N, 1)
    chosen = best.expand(-1, poses.shape[2])
    if per == "joint":
        nearest = errors.masked_fill(~valid.unsqueeze(-1), torch.inf).argmin(1)  # (N, J)
        chosen = torch.where(confidence > 0, nearest, chosen)
    taken = poses.gather(1, chosen[:, None, :, None].expand(-1, 1, -1, 3)).squeeze(1)
    return torch.where(valid.any(1)[:, None, None], taken, poses.mean(1))


@torch.no_grad()
def aggregate(
    poses: Tensor,
    keypoints: Tensor,
    confidence: Tensor,
    cameras: Camera,
    *,
    how: How = "softmax",
    per: Per = "joint",
    top: int = 0,
    temperature: float = 5.0,
) -> Tensor:
    """One pose (N, J, 3) mm of H hypotheses, shapes as `aggregate_by_reprojection` takes them.

    mean: of all, whatever the 2D says. best: as `aggregate_by_reprojection`. softmax: mean of the `top` (0: all)
    that fit the 2D best, with weights exp(-error / temperature), errors in px, after FMPose3D's RPEA but with a root
    that is solved for. per="joint" weighs each joint by its own error, a missing one by the whole pose's. A hypothesis
    without a root before the camera has no weight; where none has one the mean of all is given. Raises ShapeError,
    ConfigError.
    """
    choose(how, get_args(How), "hypotheses.how")
    _check(poses, keypoints, confidence, cameras)
    if how == "mean":
        return poses.mean(1)
    if how == "best":
        return aggregate_by_reprojection(poses, keypoints, confidence, cameras, per=per)
    choose(per, get_args(Per), "hypotheses.per")
    errors, valid = reprojection_errors(poses, keypoints, confidence, cameras)
    sure = confidence.unsqueeze(1)
    whole = ((sure * errors).sum(-1) / sure.sum(-1).clamp_min(1e-12)).unsqueeze(-1).expand_as(errors)
    cost = torch.where(sure > 0, errors, whole) if per == "joint" else whole
    cost = cost.masked_fill(~valid.unsqueeze(-1), torch.inf)  # (N, H, J)
    if 0 < top < poses.shape[1]:
        limit = cost.topk(top, dim=1, largest=False).values[:, -1:]
        cost = cost.masked_fill(cost > limit, torch.inf)
    weights = (-cost / temperature).softmax(1).unsqueeze(-1)
    mixed = (torch.where(weights > 0, weights * poses, 0.0)).sum(1)
    return torch.where(valid.any(1)[:, None, None], mixed, poses.mean(1))


def reprojection_errors(
    poses: Tensor, keypoints: Tensor, confidence: Tensor, cameras: Camera
) -> tuple[Tensor, Tensor]:
    """Distance (N, H, J) px of each hypothesis to the keypoints, 0 for missing joints; (N, H) bool: it has a root."""
    seen = (confidence > 0)[:, None].expand(poses.shape[:-1])
    rays = cameras.unproject(keypoints)[:, None].expand(*poses.shape[:-1], 2)
    _, valid, place = place_by_keypoints(poses, rays, confidence[:, None].expand(poses.shape[:-1]))
    distance = (cameras.project(place) - keypoints.unsqueeze(1)).norm(dim=-1)
    return torch.where(seen, distance, 0.0), valid


def _check(poses: Tensor, keypoints: Tensor, confidence: Tensor, cameras: Camera) -> None:
    frames, joints = keypoints.shape[:2]
    wrong = poses.ndim != 4 or poses.shape[1] < 1 or (len(poses), *poses.shape[2:]) != (frames, joints, 3)
    if wrong or tuple(confidence.shape) != (frames, joints) or len(cameras) != frames:
        raise ShapeError(
            f"Expected poses (N, H, J, 3) beside keypoints (N, J, 2), confidence (N, J) and N cameras, got "
            f"{tuple(poses.shape)}, {tuple(keypoints.shape)}, {tuple(confidence.shape)} and {len(cameras)}."
        )

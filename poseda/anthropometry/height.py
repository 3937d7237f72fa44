"""How large the target's people are beside the source's, from 2D and the floor that they stand on.

One view confounds size and depth. Where the camera's place over the floor is known (world z = 0), the lower ankle of a
standing person gives the depth: its ray meets the height of a standing ankle there. All joints of an upright person lie
near the vertical plane through that ankle that faces the camera, so that rays become lengths. The same measurement on
the source's own 2D, whose people have known size, takes the bias of that plane away. Our own; nothing is learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.anthropometry.people import alike
from poseda.data.clips import Clips, LabelledClips, UnlabelledClips
from poseda.geometry.bones import bone_lengths
from poseda.geometry.camera import Camera, has_extrinsics, project_frames
from poseda.skeleton import Skeleton

LARGEST_LEAN = 0.25
"""Upright: between the pelvis and the thorax, sideways is at most this share of upwards."""
STRAIGHT_LEG = 0.97
"""Upright: ankle to hip is at least this share of shank and thigh together."""
HIGHEST_ANKLE_MM = 250.0
"""Where the source's lower ankle is usually higher than this, or below 0, its world has no floor at z = 0."""
PLAUSIBLE = (0.5, 2.0)
"""An estimate outside says that the target's floor is not at z = 0 either."""
LARGEST_DISAGREEMENT = 1.3
"""Where people are this much larger in one target camera than in another, the floor is not at z = 0: a person then
changes with the share of the camera's height. Cameras of real takes differ by up to 1.18, with the people they see."""
FEWEST_FRAMES = 50
"""Fewer upright frames than this on either side give no estimate."""
MOST_FRAMES = 50_000
"""Frames measured on each side."""
FIXED_POINT_STEPS = 4
_JOINTS = ("lankle", "rankle", "lknee", "rknee", "lhip", "rhip", "pelvis", "thorax", "head")


@dataclass(frozen=True)
class FloorReference:
    """The source's people as the floor tells their height; those of a target are measured beside them."""

    ankle: float
    """Height mm of a standing ankle."""
    height: float
    """Median of the measured heights, mm."""

    @classmethod
    def of(cls, source: LabelledClips) -> FloorReference | None:
        """None where a camera has no extrinsics, a joint set lacks legs, pelvis, thorax or head, hardly anybody stands
        upright, or the ankles show that the floor is not at z = 0."""
        if not _placed(source):
            return None
        source = alike(source, MOST_FRAMES)
        cameras = source.cameras_at(torch.arange(source.num_frames, device=source.poses.device))
        ankles = [source.skeleton.index(name) for name in ("lankle", "rankle")]
        ankle = float(cameras.camera_to_world(source.poses[:, ankles])[..., 2].amin(-1).median())
        if not 0 < ankle < HIGHEST_ANKLE_MM:
            return None
        mine, _ = _sizes(source, project_frames(cameras, source.poses), torch.ones_like(source.visible), ankle)
        return None if len(mine) < FEWEST_FRAMES else cls(ankle, float(mine.median()))

    def size_of(self, target: UnlabelledClips) -> tuple[float, int] | None:
        """Size of the target's people over that of the source's, and the target frames behind it; None as for `of`.

        The height of a standing ankle grows with the body.
        """
        if not _placed(target):
            return None
        target = alike(target, MOST_FRAMES)
        factor = 1.0
        for _ in range(FIXED_POINT_STEPS):
            theirs, seen_by = _sizes(target, target.keypoints, target.visible, factor * self.ankle)
            if len(theirs) < FEWEST_FRAMES:
                return None
            factor = float(theirs.median()) / self.height
            if not PLAUSIBLE[0] < factor < PLAUSIBLE[1]:
                return None
        return (factor, len(theirs)) if _cameras_agree(theirs, seen_by) else None


def _placed(clips: Clips) -> bool:
    """Whether all cameras have extrinsics, and all joints that are measured exist."""
    return bool(has_extrinsics(clips.cameras).all()) and set(_JOINTS) <= set(clips.skeleton.joints)


def _sizes(clips: Clips, keypoints: Tensor, visible: Tensor, ankle: float) -> tuple[Tensor, Tensor]:
    """Heights (n,) mm of the upright people, and the cameras (n,) that see them."""
    cameras = clips.cameras_at(torch.arange(clips.num_frames, device=keypoints.device))
    size, upright = standing_size(keypoints, visible, cameras, clips.skeleton, ankle)
    return size[upright], clips.camera_index[upright]


def _cameras_agree(sizes: Tensor, seen_by: Tensor) -> bool:
    """Whether people are about as large in all cameras that see enough of them."""
    frames = seen_by.bincount().tolist()
    medians = [sizes[seen_by == camera].median() for camera, n in enumerate(frames) if n >= FEWEST_FRAMES]
    return len(medians) < 2 or float(max(medians) / min(medians)) < LARGEST_DISAGREEMENT


def standing_size(
    keypoints: Tensor, visible: Tensor, cameras: Camera, skeleton: Skeleton, ankle: float
) -> tuple[Tensor, Tensor]:
    """Ankle to head (N,) mm of people (N, J, 2) px who stand with an ankle at height `ankle` mm; (N,) bool: upright.

    Up to the head and not to the thorax, which data sets place up to 5 cm apart. Lengths in the vertical plane through
    the nearer of the two places where the ankles' rays meet that height: a lifted foot would be taken for one that
    stands farther away.
    """
    wanted = [skeleton.index(name) for name in _JOINTS]
    rays = cameras.unproject(keypoints[:, wanted])
    rays = torch.cat([rays, torch.ones_like(rays[..., :1])], -1)
    directions = (cameras.R.mT.unsqueeze(1) * rays.unsqueeze(-2)).sum(-1)  # (N, 9, 3), world
    centre = cameras.centre()
    ahead = cameras.R[:, 2, :2]
    ahead = ahead / ahead.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    aside = torch.stack([ahead[:, 1], -ahead[:, 0]], -1)
    forward = (directions[..., :2] * ahead.unsqueeze(1)).sum(-1)  # (N, 9)
    across = (directions[..., :2] * aside.unsqueeze(1)).sum(-1) / forward
    climb = directions[..., 2] / forward
    distance = ((ankle - centre[:, 2:]) / climb[:, :2]).masked_fill(climb[:, :2] >= 0, torch.inf).amin(-1)
    plane = torch.stack([across, climb], -1) * distance[:, None, None]
    ankles, knees, hips = plane[:, 0:2], plane[:, 2:4], plane[:, 4:6]
    pelvis, thorax, head = plane[:, 6], plane[:, 7], plane[:, 8]
    shank, thigh = (knees - ankles).norm(dim=-1), (hips - knees).norm(dim=-1)
    straight = (hips - ankles).norm(dim=-1) > STRAIGHT_LEG * (shank + thigh)
    rise = thorax - pelvis
    upright = (rise[:, 1] > 0) & (rise[:, 0].abs() < LARGEST_LEAN * rise[:, 1]) & straight.any(-1)
    upright = upright & (hips[..., 1] > knees[..., 1]).all(-1) & (knees[..., 1] > ankles[..., 1]).all(-1)
    size = (shank + thigh).amax(-1) + rise.norm(dim=-1) + (head - thorax).norm(dim=-1)
    seen = visible[:, wanted].all(-1) & (forward > 0).all(-1) & distance.isfinite()
    return size, upright & seen


def standing_height(poses: Tensor, skeleton: Skeleton) -> Tensor:
    """Mean height mm of people (F, J, 3) mm from ankles to head along the bones, which is what the floor tells."""
    lengths = bone_lengths(poses, skeleton).mean(0)
    return (standing_share(skeleton).to(lengths) * lengths).sum()


def standing_share(skeleton: Skeleton) -> Tensor:
    """(E,) what each bone adds to the height of a standing person: 1, 1/2 where there is a left and a right one, or 0.

    A skeleton without ankles or head has no such height: all its bones count there.
    """
    upright = {"thigh", "shank", "spine", "torso", "neck", "head"}
    if not {"lankle", "rankle", "head"} <= set(skeleton.joints):
        upright = set(skeleton.bone_groups)
    share = torch.zeros(len(skeleton.bones))
    for name in upright & set(skeleton.bone_groups):
        members = skeleton.bone_groups[name]
        share[list(members)] = 1 / len(members)
    return share

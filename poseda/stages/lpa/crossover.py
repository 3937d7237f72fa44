"""Limbs of one pose on the body of another: new combinations of things that people do, each part as it was recorded.

The crossover of EvoSkeleton (Li et al., CVPR 2020), on whole batches: a limb keeps its angles to the girdle that
carries it (hips for legs, shoulders for arms) and takes the bone lengths of the body that it joins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poseda.errors import ConfigError
from poseda.geometry.bones import bone_vectors, joints_from_bones, unit_bones
from poseda.skeleton import Skeleton

LIMBS: tuple[tuple[str, ...], ...] = (
    ("rknee", "rankle"),
    ("lknee", "lankle"),
    ("relbow", "rwrist"),
    ("lelbow", "lwrist"),
)
GIRDLES = (("rhip", "lhip"), ("rhip", "lhip"), ("rshoulder", "lshoulder"), ("rshoulder", "lshoulder"))


def check_limbs(skeleton: Skeleton) -> None:
    """Raise ConfigError for a skeleton that lacks a joint that body frames are built of."""
    wanted = {joint for joints in (*LIMBS, *GIRDLES, ("thorax", "pelvis")) for joint in joints}
    missing = sorted(wanted - set(skeleton.joints))
    if missing:
        raise ConfigError(
            f"lpa cannot work with the joints of {skeleton.name}: no {', '.join(missing)}. Take a lifter of another "
            "skeleton (h36m17, h36m16, 3dhp17), or leave lpa out of stages."
        )


class Crossover(nn.Module):
    """Swap limbs between windows (B, T, J, 3) mm, root-relative or not; the root's path stays."""

    owner: Tensor

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton = skeleton
        owner = torch.full((len(skeleton.bones),), len(LIMBS))
        for limb, joints in enumerate(LIMBS):
            for joint in joints:
                owner[skeleton.bone_names.index(joint)] = limb
        self.register_buffer("owner", owner, persistent=False)

    def forward(self, poses: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """Windows in which each limb comes, with probability `share`, from the window before in the batch."""
        bones = bone_vectors(poses, self.skeleton)  # (B, T, E, 3)
        lengths = bones.norm(dim=-1, keepdim=True)
        frames = self._frames(poses)  # (B, T, 5, 3, 3)
        carried = frames[:, :, self.owner]  # (B, T, E, 3, 3): frame of the girdle that carries each bone
        local = (carried.mT @ unit_bones(bones).unsqueeze(-1)).squeeze(-1)  # (B, T, E, 3)
        draw = torch.rand(len(poses), len(LIMBS) + 1, generator=generator, device=generator.device).to(poses.device)
        draw[:, -1] = 1.0  # trunk and head stay
        taken = (draw < share)[:, self.owner, None].unsqueeze(1)  # (B, 1, E, 1)
        mixed = torch.where(taken, local.roll(1, 0), local)
        turned = (carried @ mixed.unsqueeze(-1)).squeeze(-1) * lengths
        changed = torch.where(taken, turned, bones)  # untouched bones stay to the bit
        return joints_from_bones(changed, self.skeleton, poses[:, :, self.skeleton.root])

    def _frames(self, poses: Tensor) -> Tensor:
        """Rotations (B, T, 5, 3, 3) whose columns are the axes of each limb's girdle; the last is the identity."""
        s = self.skeleton
        spine = unit_bones(poses[:, :, s.index("thorax")] - poses[:, :, s.root])
        frames = []
        for right, left in GIRDLES:
            across = unit_bones(poses[:, :, s.index(left)] - poses[:, :, s.index(right)])
            up = unit_bones(spine - (spine * across).sum(-1, keepdim=True) * across)
            frames.append(torch.stack([across, up, torch.linalg.cross(across, up)], -1))
        identity = torch.eye(3, dtype=poses.dtype, device=poses.device).expand_as(frames[0])
        return torch.stack([*frames, identity], 2)

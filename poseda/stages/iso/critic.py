"""The 2D discriminator of ISO: does the 2D of a turned person look like the source's?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poseda.data.clips import LabelledClips
from poseda.geometry.camera import Camera
from poseda.geometry.root import root_from_keypoints
from poseda.lifters.base import Lifter
from poseda.lifters.inference import lift_clips
from poseda.lifters.seeding import seeded
from poseda.stages.augmentation.adversarial import Adversary
from poseda.stages.augmentation.discriminators import PlainDiscriminator, keypoint_features
from poseda.stages.iso.cycle import draw_views, lifter_input, reproject

FRAMES, BATCH, LR = 4096, 256, 1e-3


def train_critic(
    lifter: Lifter, source: LabelledClips, *, steps: int, yaw: float, tilt: float, seed: int
) -> nn.Module:
    """A discriminator (B, J, 2) -> (B, 1) of source 2D against reprojected views of what the lifter makes of it.

    LSGAN, on at most 4,096 source frames; the lifter stays as it is. Weights and draws come from `seed` alone.
    """
    clips = source.unlabelled().spread(FRAMES, lifter.frames)
    poses = lift_clips(lifter, clips).poses
    cameras = clips.cameras_at(torch.arange(clips.num_frames, device=poses.device))
    root, valid = root_from_keypoints(poses, cameras.unproject(clips.keypoints), clips.confidence)
    rows = valid.nonzero().squeeze(-1)
    joint = lifter.skeleton.root
    with seeded(seed):
        network = PlainDiscriminator(2 * lifter.skeleton.num_joints)
    critic = Adversary(network.to(poses), game="lsgan", lr=LR, pool=0)
    generator = torch.Generator(device=poses.device).manual_seed(seed)
    for _ in range(steps if len(rows) else 0):
        some = rows[torch.randint(len(rows), (BATCH,), generator=generator, device=generator.device)]
        views = draw_views(BATCH, yaw, tilt, generator, poses)
        pixels, seen = reproject(poses[some, None, None], root[some, None, None], views[:, None, None], cameras[some])
        visible = clips.visible[some] & seen.view(-1, 1)
        fake = _features(pixels[:, 0, 0], visible, cameras[some], joint)
        critic.learn(_features(clips.keypoints[some], visible, cameras[some], joint), fake, generator)
    return network.requires_grad_(False).eval()


def _features(pixels: Tensor, visible: Tensor, cameras: Camera, joint: int) -> Tensor:
    return keypoint_features(lifter_input(pixels, cameras), visible, joint)

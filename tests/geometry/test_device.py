"""What runs in every training step must not make the host wait for the device."""

import pytest
import torch

from poseda.geometry.bones import bone_lengths, bone_vectors, joints_from_bones, unit_bones
from poseda.geometry.boxes import box_scale
from poseda.geometry.camera import Camera, denormalise_screen, normalise_screen
from poseda.geometry.rigs import load_rig
from poseda.geometry.root import root_from_keypoints
from poseda.geometry.rotations import axis_angle_to_matrix, geodesic_distance, rotate_about_axis, yaw_matrix
from poseda.skeleton import SKELETONS, convert_confidence, convert_joints, convert_visibility

COCO, H36M = SKELETONS["coco17"], SKELETONS["h36m17"]


def step(cameras: Camera, index: torch.Tensor, joints: torch.Tensor) -> list[torch.Tensor]:
    """Everything that a stage may call on a batch of (B, T, 17, 3) mm joints in the world."""
    chosen = cameras[index]
    points = chosen.world_to_camera(joints)
    pixels = chosen.project(points)
    visible = chosen.in_front(points)
    rays = chosen.unproject(pixels)
    screen = denormalise_screen(normalise_screen(pixels, chosen.width, 1000.0), chosen.width, 1000.0)
    bones = bone_vectors(points, H36M)
    axis = unit_bones(bones)
    turned = rotate_about_axis(bones, axis.roll(1, -2), bone_lengths(points, H36M) / 1000)
    rotation = axis_angle_to_matrix(bones / 1000) @ yaw_matrix(bones[..., 0] / 1000)
    root, valid = root_from_keypoints(points - points[..., :1, :], rays, visible.to(points.dtype))
    coco = convert_joints(pixels, COCO, H36M)
    seen, confidence = convert_visibility(visible, COCO, H36M), convert_confidence(rays[..., 0], COCO, H36M)
    mirrored = points.index_select(-2, H36M.mirror_index(points))
    joints = joints_from_bones(turned, H36M, points[..., 0, :])
    angle = geodesic_distance(rotation, rotation.mT)
    size = box_scale(pixels, visible)
    return [points, pixels, rays, screen, joints, angle, root, valid, coco, seen, confidence, mirrored, size]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_the_device_never_waits_and_agrees_with_the_cpu():
    cameras = Camera.cat([load_rig("h36m").cameras, load_rig("3dhp_test").cameras])
    joints = torch.randn(64, 3, 17, 3, generator=torch.Generator().manual_seed(0)) * 400
    index = torch.arange(64) % len(cameras)
    expected = step(cameras, index, joints)
    inputs = (cameras.to("cuda"), index.cuda(), joints.cuda())
    step(*inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = step(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for result, value in zip(results, expected, strict=True):
        torch.testing.assert_close(result.cpu(), value, rtol=1e-3, atol=0.5)

"""Domain statistics on bodies and boxes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import circmean, circstd

from poseda.errors import DataError
from poseda.metrics.statistics import circular_moments, domain_statistics, view_direction
from poseda.skeleton import get_skeleton

H36M = get_skeleton("h36m17")


def _upright_body() -> torch.Tensor:
    """A person who faces the camera: x right is their left, y is down. (17, 3) mm, root-relative."""
    place = {
        "pelvis": (0, 0), "rhip": (-100, 0), "rknee": (-100, 440), "rankle": (-100, 880),
        "lhip": (100, 0), "lknee": (100, 440), "lankle": (100, 880), "spine": (0, -240), "thorax": (0, -500),
        "nose": (0, -600), "head": (0, -720), "lshoulder": (160, -480),
        "lelbow": (400, -480), "lwrist": (640, -480),
        "rshoulder": (-160, -480), "relbow": (-400, -480), "rwrist": (-640, -480),
    }  # fmt: skip
    return torch.tensor([[*place[joint], 0] for joint in H36M.joints], dtype=torch.float64)


def _turned(angle: float, axis: str) -> torch.Tensor:
    turn = torch.from_numpy(Rotation.from_euler(axis, angle, degrees=True).as_matrix())
    return _upright_body() @ turn.mT


def test_a_person_who_faces_the_camera_has_yaw_and_pitch_zero() -> None:
    yaw, pitch = view_direction(_upright_body(), H36M)
    assert float(yaw) == pytest.approx(0.0) and float(pitch) == pytest.approx(0.0)


@pytest.mark.parametrize("angle", [-170.0, -60.0, 30.0, 90.0, 150.0])
def test_turning_the_body_turns_the_yaw(angle: float) -> None:
    """About the y axis (down) a positive turn takes +z to +x: the person shows more of their left side."""
    yaw, pitch = view_direction(_turned(angle, "y"), H36M)
    assert float(yaw) == pytest.approx(angle) and float(pitch) == pytest.approx(0.0, abs=1e-9)


def test_a_camera_at_the_persons_left_is_at_plus_90() -> None:
    body = _turned(90.0, "y")
    # The left hip is then the one that is nearer to the camera (smaller z).
    assert body[H36M.index("lhip"), 2] < body[H36M.index("rhip"), 2]
    assert float(view_direction(body, H36M)[0]) == pytest.approx(90.0)


def test_a_camera_above_sees_a_positive_pitch() -> None:
    """Bring the head toward the camera, as a camera that looks down sees it."""
    body = _turned(25.0, "x")
    assert body[H36M.index("head"), 2] < 0
    assert float(view_direction(body, H36M)[1]) == pytest.approx(25.0)


def test_an_absolute_pose_is_seen_along_its_own_ray() -> None:
    """At 45 degrees to the image's right, a person square to the axis is seen from their right side."""
    body = _upright_body() + torch.tensor([3000.0, 0.0, 3000.0])
    assert float(view_direction(body, H36M)[0]) == pytest.approx(-45.0)


def _keypoints() -> torch.Tensor:
    points = torch.zeros(3, 17, 2, dtype=torch.float64)
    points[:, :, 0] = torch.linspace(0.1, 0.5, 17, dtype=torch.float64)
    points[:, :, 1] = torch.linspace(-0.4, 0.6, 17, dtype=torch.float64)
    return points


def test_scale_is_the_mean_side_of_the_box_and_the_root_its_place() -> None:
    s = domain_statistics(_keypoints(), None, H36M)
    assert s.scale.tolist() == pytest.approx([0.7] * 3)
    assert s.root_u.tolist() == pytest.approx([0.1] * 3) and s.root_v.tolist() == pytest.approx([-0.4] * 3)
    assert set(s.quantities()) == {"scale", "root_u", "root_v"}


def test_missing_keypoints_are_left_out_of_the_box_and_frames_without_a_root_out_of_all() -> None:
    points, visible = _keypoints(), torch.ones(3, 17, dtype=torch.bool)
    points[0, 16], visible[0, 16] = 99.0, False
    visible[1, 0] = False
    poses = _upright_body().expand(3, 17, 3) + torch.tensor([0.0, 0.0, 4000.0])
    s = domain_statistics(points, poses, H36M, visible)
    assert len(s.scale) == len(s.root_u) == len(s.yaw) == 2  # type: ignore[arg-type]
    assert float(s.scale[0]) == pytest.approx(0.7 * 15 / 16)


def test_depth_and_bones_come_in_metres_and_millimetres() -> None:
    poses = _upright_body().expand(3, 17, 3) + torch.tensor([0.0, 0.0, 4000.0])
    values = domain_statistics(_keypoints(), poses, H36M).summary()
    assert values["depth"] == {"mean": pytest.approx(4.0), "std": pytest.approx(0.0)}
    assert values["bone_lknee"]["mean"] == pytest.approx(440.0)
    assert "depth" not in domain_statistics(_keypoints(), poses - poses[:, :1], H36M).summary()


def test_circular_moments_equal_scipy() -> None:
    degrees = torch.tensor([170.0, -175.0, 160.0, -160.0, 179.0], dtype=torch.float64)
    mean, std = circular_moments(degrees)
    assert float(mean) % 360 == pytest.approx(float(circmean(degrees.numpy(), high=360)))
    assert float(std) == pytest.approx(np.degrees(float(circstd(np.radians(degrees.numpy())))))


def test_a_domain_without_one_usable_frame_is_refused() -> None:
    with pytest.raises(DataError, match="No frame has its root"):
        domain_statistics(_keypoints(), None, H36M, torch.zeros(3, 17, dtype=torch.bool))

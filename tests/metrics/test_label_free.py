"""Label-free numbers against what was put into the poses."""

from __future__ import annotations

import pytest
import torch

from poseda.errors import ShapeError
from poseda.geometry.camera import Camera
from poseda.metrics.label_free import evaluate_without_labels
from poseda.skeleton import get_skeleton

SKELETON = get_skeleton("h36m17")
BOUNDS = torch.tensor([0, 12, 20])


@pytest.fixture
def scene():
    """Two rigid bodies, the same left and right, that glide through 20 frames: root-relative poses, 2D, cameras."""
    generator = torch.Generator().manual_seed(0)
    side = torch.randn(2, 17, 3, generator=generator) * 300
    side[:, :, 0] = side[:, :, 0].abs() * torch.tensor([-1.0 if j[0] == "r" else 1.0 for j in SKELETON.joints])
    for joint, other in enumerate(SKELETON.mirror):
        if SKELETON.joints[joint][0] == "r" and other != joint:
            side[:, joint] = side[:, other] * torch.tensor([-1.0, 1.0, 1.0])
        if other == joint:
            side[:, joint, 0] = 0.0
    poses = torch.cat([side[:1].expand(12, -1, -1), side[1:].expand(8, -1, -1)])
    poses = poses - poses[:, :1]
    root = torch.stack([torch.linspace(-300, 300, 20), torch.zeros(20), torch.linspace(3000, 5000, 20)], dim=-1)
    cameras = Camera.create(fx=1000.0, fy=1010.0, cx=500.0, cy=490.0, width=1000, height=1000).expand(20)
    return poses, cameras.project(poses + root[:, None]), cameras


def test_a_rigid_symmetric_body_that_fits_its_2d_scores_nothing(scene):
    poses, keypoints, cameras = scene
    found = evaluate_without_labels(poses, keypoints, torch.ones(20, 17), cameras, BOUNDS, SKELETON)
    assert found.frames == 20 and found.values["reprojection"] < 0.01
    assert all(found.values[name] < 1e-3 for name in ("symmetry", "constancy", "jitter"))


def test_each_number_measures_what_its_name_says(scene):
    poses, keypoints, cameras = scene
    confidence = torch.ones(20, 17)
    moved = poses.clone()
    wrist = SKELETON.index("lwrist")
    forearm = moved[:, wrist] - moved[:, SKELETON.index("lelbow")]
    long = forearm / forearm.norm(dim=-1, keepdim=True)
    swing = torch.where(torch.arange(20) % 2 == 0, 10.0, -10.0)  # the left forearm is 10 mm longer, then shorter
    moved[:, wrist] += long * swing[:, None]
    found = evaluate_without_labels(moved, keypoints, confidence, cameras, BOUNDS, SKELETON).values
    assert found["symmetry"] == pytest.approx(10.0 / len(SKELETON.bone_pairs), rel=1e-3)
    assert found["constancy"] == pytest.approx(10.0 / len(SKELETON.bones), rel=1e-3)
    assert found["jitter"] == pytest.approx(40.0 / 17, rel=1e-3)


def test_reprojection_counts_with_confidence(scene):
    poses, keypoints, cameras = scene
    shifted = keypoints.clone()
    shifted[:, 5] += torch.tensor([30.0, 40.0])  # one outlier of 50 px: the robust root does not follow it
    confidence = torch.ones(20, 17)
    score = lambda weights: evaluate_without_labels(poses, shifted, weights, cameras, BOUNDS, SKELETON)  # noqa: E731
    assert score(confidence).values["reprojection"] == pytest.approx(50.0 / 17, rel=0.05)
    confidence[:, 5] = 0.0
    assert score(confidence).values["reprojection"] < 0.01


def test_what_is_not_defined_is_left_out(scene):
    poses, keypoints, cameras = scene
    still = torch.tensor([0, 1, 2])
    found = evaluate_without_labels(
        poses[:2], torch.zeros(2, 17, 2), torch.ones(2, 17), cameras[:2], still, SKELETON
    ).values
    assert set(found) == {"symmetry", "constancy"}  # no root fits rays that coincide, and no three frames in a row
    with pytest.raises(ShapeError, match="same frames"):
        evaluate_without_labels(poses, keypoints[:3], torch.ones(20, 17), cameras, BOUNDS, SKELETON)

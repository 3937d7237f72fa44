"""Boxes around visible joints."""

import torch

from poseda.geometry.boxes import box_scale, pixel_box


def test_box_spans_the_visible_joints_only():
    keypoints = torch.tensor([[[10.0, 20], [50, 100], [900, 900]], [[0, 0], [1, 2], [3, 5]]])
    visible = torch.tensor([[True, True, False], [True, True, True]])
    width, height = pixel_box(keypoints, visible)
    assert width.tolist() == [40, 3] and height.tolist() == [80, 5]
    assert box_scale(keypoints, visible).tolist() == [60, 4]


def test_hidden_numbers_are_not_read_and_nobody_has_size_zero():
    keypoints = torch.full((2, 3, 2), torch.nan)
    keypoints[0, :2] = torch.tensor([[0.0, 0], [4, 2]])
    visible = torch.tensor([[True, True, False], [False, False, False]])
    assert box_scale(keypoints, visible).tolist() == [3, 0]

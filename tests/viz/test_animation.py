"""Animations: the number of pictures, their speed and size, and what cannot be drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from poseda.errors import ConfigError, DataError
from poseda.skeleton import get_skeleton
from poseda.viz import animation
from poseda.viz.animation import save_animation

SKELETON = get_skeleton("h36m17")


def scene(frames):
    generator = torch.Generator().manual_seed(0)
    poses = torch.randn(1, 17, 3, generator=generator) * 300 + torch.arange(frames)[:, None, None] * 5.0
    return poses[..., :2] / 4 + 500, poses


def test_a_gif_plays_at_the_true_speed_and_reports_its_progress(tmp_path):
    keypoints, poses = scene(12)
    seen = []
    path = tmp_path / "a.gif"
    report = lambda done, total: seen.append((done, total))  # noqa: E731
    count = save_animation(path, keypoints, poses, SKELETON, fps=50.0, report=report)
    assert count == 3 and seen == [(1, 3), (2, 3), (3, 3)]
    with Image.open(path) as picture:
        assert (picture.n_frames, picture.info["duration"], picture.info["loop"]) == (3, 80, 0)
        drawn = np.asarray(picture.convert("RGB"))
    assert drawn.shape[1] > 2 * drawn.shape[0] and (drawn == 255).all(-1).mean() < 0.99  # something is on the paper


def test_long_sequences_are_cut_and_missing_keypoints_are_not_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "LARGEST_FRAMES", 2)
    keypoints, poses = scene(40)
    nobody = torch.zeros(40, 17, dtype=torch.bool)
    assert save_animation(tmp_path / "a.gif", keypoints, poses, SKELETON, fps=12.5, visible=nobody) == 2


def test_other_formats_and_empty_sequences_are_refused(tmp_path):
    keypoints, poses = scene(3)
    with pytest.raises(ConfigError, match=r"a\.mp4 must end in \.gif"):
        save_animation(tmp_path / "a.mp4", keypoints, poses, SKELETON, fps=25.0)
    with pytest.raises(DataError, match="no frame to animate"):
        save_animation(tmp_path / "a.gif", keypoints[:0], poses[:0], SKELETON, fps=25.0)
    assert not list(tmp_path.iterdir())

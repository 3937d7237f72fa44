"""Small clips with known numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from poseda.data.clips import LabelledClips, Provenance, Sequence
from poseda.geometry.camera import Camera
from poseda.skeleton import get_skeleton

MakeClips = Callable[..., LabelledClips]


@pytest.fixture
def make_clips() -> MakeClips:
    """Clips of random people 4 m away: lengths and subjects of the sequences, and any field replaced."""

    def make(lengths: tuple[int, ...] = (5, 3, 4), subjects: str = "ABC", **changes: Any) -> LabelledClips:
        generator = torch.Generator().manual_seed(1)
        frames = sum(lengths)
        poses = torch.randn(frames, 17, 3, generator=generator) * 300 + torch.tensor([0.0, 0.0, 4000.0])
        cameras = Camera.create(fx=[1000.0, 1200.0], fy=1000.0, cx=500.0, cy=500.0, width=1000.0, height=1000.0)
        values = {
            "poses": poses,
            "keypoints": poses[..., :2] / poses[..., 2:] * 1000 + 500,
            "confidence": torch.rand(frames, 17, generator=generator) * 0.9 + 0.1,
            "bounds": torch.tensor([0, *lengths]).cumsum(0),
            "sequences": tuple(
                Sequence(f"clip{i}", subject, f"action{i}", i % 2) for i, subject in enumerate(subjects[: len(lengths)])
            ),
            "cameras": cameras,
            "skeleton": get_skeleton("h36m17"),
            "fps": 50.0,
            "provenance": Provenance("made", "stand-in", "none", "metric", "gt"),
        }
        return LabelledClips(**{**values, **changes})

    return make

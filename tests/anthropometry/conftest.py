"""The people of the stages' tests are measured here too."""

from __future__ import annotations

from tests.stages.conftest import make_clips, random_people, small_lifter, straight_camera

__all__ = ["make_clips", "random_people", "small_lifter", "straight_camera"]

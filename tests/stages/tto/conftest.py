"""Fixtures of test-time optimisation."""

from __future__ import annotations

import pytest

from poseda.geometry.rigs import load_rig
from tests.stages.tto.people import in_double


@pytest.fixture(scope="module")
def people(make_clips):
    """48 frames in float64 before the cameras of 3DHP's test set, with distortion."""
    cameras = load_rig("3dhp_test").cameras
    return in_double(make_clips(sequences=4, frames=12, cameras=cameras))


@pytest.fixture
def lifter(small_lifter):
    return small_lifter().double().eval()

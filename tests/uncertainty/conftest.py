"""Clips whose 2D is exact, and a lifter small enough to run many times."""

from __future__ import annotations

import pytest

from poseda.lifters import create_lifter
from poseda.uncertainty.base import Lifting
from tests.cli.conftest import labelled_clips


@pytest.fixture
def clips():
    return labelled_clips(frames=80, subjects=("A", "B"))


@pytest.fixture
def lifter():
    return create_lifter("simplebaseline", seed=0, hidden=16, blocks=1).eval()


@pytest.fixture
def seen(lifter, clips):
    return Lifting.of(lifter, clips)

"""The known motion, and its files in a temporary folder."""

from __future__ import annotations

import pytest

from tests.data.mocap.known_motion import KnownMotion


@pytest.fixture(scope="session")
def known() -> KnownMotion:
    """Five frames of random motion."""
    return KnownMotion()

"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from poseda.data.clips import LabelledClips
from poseda.data.domains import Domain, DomainConfig, load_domain

torch.set_num_threads(1)  # the tensors are small, and test runs share the machine


@pytest.fixture(scope="session")
def motion_folder() -> Path:
    """A folder with cmu17.npz and hdm05_17.npz: POSEDA_MOTION, or shared/data beside the checkout."""
    given = os.environ.get("POSEDA_MOTION")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "cmu17.npz").is_file() or not (folder / "hdm05_17.npz").is_file():
        pytest.skip("real motion is not here: set POSEDA_MOTION to a folder with cmu17.npz and hdm05_17.npz")
    return folder


def _small(name: str) -> Domain:
    return load_domain(DomainConfig(name=name, every=5, max_frames=2000), root=os.devnull)  # nothing is prepared there


@pytest.fixture(scope="session")
def source_domain() -> Domain:
    """A thinned Human3.6M stand-in, 2000 frames of train and at most as many of test."""
    return _small("h36m")


@pytest.fixture(scope="session")
def target_domain() -> Domain:
    """A thinned MPI-INF-3DHP stand-in, 2000 frames of train and at most as many of test."""
    return _small("3dhp")


@pytest.fixture(scope="session")
def tiny_source(source_domain: Domain) -> LabelledClips:
    """2000 frames of the Human3.6M stand-in's training clips at 10 Hz."""
    return source_domain.train


@pytest.fixture(scope="session")
def tiny_target(target_domain: Domain) -> LabelledClips:
    """2000 frames of the MPI-INF-3DHP stand-in's training clips at 10 Hz."""
    return target_domain.train

"""The scene of most tests of global position alignment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.stages.gpa.people import see


@pytest.fixture(scope="module")
def scene(random_people, mixed_cameras):
    """120 source people and 120 target people (px) 2.2 to 8 m before mixed cameras, all float64."""
    count = 120
    source, cameras = random_people(count, seed=1), mixed_cameras(count)
    rng = np.random.default_rng(5)
    depth = rng.uniform(2200, 8000, (count, 1, 1))
    root = np.concatenate([rng.uniform(-0.15, 0.15, (count, 1, 2)) * depth, depth], -1)
    people = random_people(count, seed=2).numpy() + root
    keypoints = np.stack([see(cameras[i], people[i]) for i in range(count)])
    return source, torch.from_numpy(keypoints), cameras

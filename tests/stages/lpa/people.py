"""Windows with motion, and bones of poses by a loop: what the references of these tests are made of."""

from __future__ import annotations

import numpy as np
import torch

from poseda.skeleton import get_skeleton

SKELETON = get_skeleton("h36m17")


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def bones_of(poses):
    """Bone vectors by a loop over the tree, NumPy: (..., 16, 3), ordered by child."""
    poses = poses.detach().numpy()
    return np.stack([poses[..., c, :] - poses[..., p, :] for c, p in enumerate(SKELETON.parents) if p >= 0], -2)


def walking(random_people):
    """(6, 5, 17, 3) float64 windows with motion, in the camera frame."""
    people = torch.stack([random_people(6, seed=s, bend=0.3) for s in range(5)], 1)
    people = people * torch.linspace(0.85, 1.15, 6, dtype=torch.float64).view(6, 1, 1, 1)
    drift = 40.0 * torch.arange(5, dtype=torch.float64).view(1, 5, 1, 1) * torch.tensor([1.0, 0.2, -0.6])
    return people + torch.tensor([200.0, -100.0, 4000.0], dtype=torch.float64) + drift

"""Whose place a source person takes, against SciPy's assignment and numbers taken by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from poseda.data.batches import TargetBatch
from poseda.stages.gpa import GPA, GPAConfig
from poseda.stages.gpa.pairing import assign, log_aspect, one_to_one, transport_cost
from poseda.stages.gpa.placing import Placing
from tests.stages.gpa.people import ROOT, batches, hide


@pytest.mark.parametrize("size", [2, 8, 24, 64])
@pytest.mark.parametrize("kind", ["plane", "space", "uniform"])
def test_the_assignment_is_one_to_one_and_nearly_as_cheap_as_scipys(size, kind):
    draws = torch.Generator().manual_seed(size)
    if kind == "uniform":
        cost = torch.rand(5, size, size, generator=draws)
    else:
        shape = (5, size, 2 if kind == "plane" else 4)
        first, second = torch.randn(shape, generator=draws), 1.3 * torch.randn(shape, generator=draws) + 0.5
        cost = torch.cdist(first, second).square()
    match = assign(cost)
    exact, found = 0.0, 0.0
    for i in range(5):
        assert sorted(match[i].tolist()) == list(range(size))
        rows, columns = linear_sum_assignment(cost[i].numpy())
        exact += float(cost[i, rows, columns].sum())
        found += float(cost[i, torch.arange(size), match[i]].sum())
    assert found <= (1.2 if kind == "uniform" else 1.02) * exact + 1e-5


@pytest.mark.parametrize("cost", [torch.zeros(6, 6), torch.full((6, 6), 7.0), 1e6 * torch.eye(6), 1e12 * torch.eye(6)])
def test_costs_without_a_choice_or_of_any_size_give_a_permutation(cost):
    assert sorted(assign(cost).tolist()) == list(range(6))
    assert sorted(one_to_one(torch.zeros(6, 6), rounds=1).tolist()) == list(range(6))


def test_transport_cost_is_the_distance_of_what_is_measured_by_hand(scene):
    source, target = batches(scene, dtype=torch.float64)
    _, keypoints, visible, _ = hide(scene, [5, 6], count=120)
    target = TargetBatch(keypoints[:, None], visible[:, None], target.cameras)
    cost = transport_cost(source, target, Placing(root=ROOT), False).numpy()
    kept = visible[0].numpy()

    def features(points, width, height):
        points = (2 * points - np.array([width, height])) / width
        w, h = np.ptp(points[kept], axis=0)
        return np.array([np.log(w + h), np.log(w / h), *points[ROOT]])

    seen = source.cameras.project(source.poses[:, 0]).numpy()
    mine = np.stack([features(points, 1024.0, 1024.0) for points in seen])
    sizes = zip(keypoints.numpy(), target.cameras.width.numpy(), target.cameras.height.numpy(), strict=True)
    theirs = np.stack([features(*one) for one in sizes])
    spread = np.concatenate([mine, theirs]).std(0, ddof=1)
    np.testing.assert_allclose(cost, (((mine[:, None] - theirs) / spread) ** 2).sum(-1), rtol=1e-6)
    complete = TargetBatch(keypoints[:, None], torch.ones_like(visible[:, None]), target.cameras)
    args = source, complete, Placing(root=ROOT)
    torch.testing.assert_close(transport_cost(*args, True), transport_cost(*args, False))


def aspects(source, placed, target):
    """Mean distance of log aspects of placed people and of the boxes of the targets whose roots they stand on."""
    shown = placed.cameras.project(placed.poses[:, 0])
    roots = (shown[:, None, ROOT] - target.keypoints[None, :, 0, ROOT]).norm(dim=-1)
    taken = target.keypoints[roots.argmin(1), 0]
    everything = torch.ones(17, dtype=torch.bool).expand(len(shown), 17)
    return float((log_aspect(shown, everything) - log_aspect(taken, everything)).abs().mean())


def test_partners_by_aspect_and_by_transport_are_nearer_than_by_chance(scene):
    source, target = batches(scene)
    off = {}
    for pairing in ("random", "aspect", "transport"):
        stage = GPA(GPAConfig(pairing=pairing, neighbours=16))
        off[pairing] = aspects(source, stage.align(source, target, torch.Generator().manual_seed(1)), target)
    assert off["aspect"] < 0.4 * off["random"]
    assert off["transport"] < 0.9 * off["random"]

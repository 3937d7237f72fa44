"""Adjacency matrices of the graph lifters against what the papers list."""

import numpy as np
import pytest
import torch

from poseda.lifters.graphs import (
    directed_adjacency,
    neighbour_mask,
    partitioned_adjacency,
    skeleton_partitions,
    sum_subsets,
)
from poseda.skeleton import get_skeleton

H36M = get_skeleton("h36m17")
# Cai et al.: distance of each h36m17 joint to the spine, and the left-right pairs
DISTANCES = [1, 2, 3, 4, 2, 3, 4, 0, 1, 2, 3, 2, 3, 4, 2, 3, 4]
TWINS = [(6, 3), (5, 2), (4, 1), (11, 14), (12, 15), (13, 16)]


def test_partitions_of_human36m_are_those_of_the_paper():
    near = torch.eye(17)
    for a, b in [*H36M.bones, *TWINS]:
        near[a, b] = near[b, a] = 1
    expected = torch.zeros(4, 17, 17)
    for i in range(17):
        column = 1 / near[:, i].sum()
        for j in range(17):
            if near[j, i]:
                twins = (i, j) in TWINS or (j, i) in TWINS
                closer = 1 if DISTANCES[j] > DISTANCES[i] else 2
                expected[0 if i == j else 3 if twins else closer, j, i] = column
    torch.testing.assert_close(skeleton_partitions(H36M), expected)


def test_partitions_of_the_body_parts():
    limb, torso = 1 / 3, 1 / 5
    adjacency = partitioned_adjacency(5, [(p, 4) for p in range(4)], [(0, 1), (2, 3)], 4)
    assert torch.allclose(adjacency[0], torch.diag(torch.tensor([limb] * 4 + [torso])))
    assert torch.allclose(adjacency[1, :4, 4], torch.full((4,), torso))
    assert torch.allclose(adjacency[2, 4, :4], torch.full((4,), limb))
    assert adjacency[3].nonzero().tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    torch.testing.assert_close(adjacency.sum((0, 1)), torch.ones(5))


def test_each_joint_hears_itself_its_parent_and_the_mean_of_its_children():
    heard = torch.arange(17.0) @ directed_adjacency(H36M)
    assert heard[0].tolist() == list(range(17))
    assert heard[1].tolist() == [max(parent, 0) for parent in H36M.parents]
    assert heard[2, 0] == pytest.approx((1 + 4 + 7) / 3)
    assert heard[2, 8] == pytest.approx((9 + 11 + 14) / 3)
    assert heard[2, 16] == 0


def test_humaneva_has_the_directions_of_glagcns_code():
    """Its list of inward edges (from, to), counted from 1: each row of the graph is divided among its senders."""
    edges = [(15, 2), (2, 3), (3, 4), (4, 5), (2, 6), (6, 7), (7, 8), (2, 1), (1, 12), (12, 13), (13, 14), (1, 9)]
    edges += [(9, 10), (10, 11)]
    inward, outward = np.zeros((15, 15)), np.zeros((15, 15))
    for start, end in edges:
        inward[end - 1, start - 1] = 1 / sum(start == other for other, _ in edges)
        outward[start - 1, end - 1] = 1 / sum(end == other for _, other in edges)
    _, found_inward, found_outward = directed_adjacency(get_skeleton("humaneva15")).numpy()
    np.testing.assert_allclose(found_inward, inward, rtol=1e-6)
    np.testing.assert_allclose(found_outward, outward, rtol=1e-6)


def test_neighbours_are_the_ends_of_a_bone():
    assert neighbour_mask(get_skeleton("h36m16")).sum() == 46
    assert neighbour_mask(H36M)[8].nonzero().flatten().tolist() == [7, 8, 9, 11, 14]


def test_sum_over_subsets_agrees_with_a_loop():
    values, adjacency = torch.randn(2, 12, 5, dtype=torch.float64), torch.randn(4, 5, 5, dtype=torch.float64)
    expected = sum(values[:, 3 * k : 3 * k + 3] @ adjacency[k] for k in range(4))
    torch.testing.assert_close(sum_subsets(values.transpose(1, 2), adjacency), expected.transpose(1, 2))

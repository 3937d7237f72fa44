"""What the graph lifters share: adjacency matrices of a skeleton, and how a layer sums over them.

All matrices are used from the right: out[w] = sum over v of x[v] A[v, w]. So column w says where joint w listens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from poseda.skeleton import Skeleton

Edge = tuple[int, int]
_TURNED = {"humaneva15": ("thorax", "head")}
"""Joint sets whose published directed graph has all bones the other way round, but those to these joints."""
_CPU = "cpu"  # named, so that a lifter built on the meta device has its constants


def neighbour_mask(skeleton: Skeleton) -> Tensor:
    """(J, J) bool: True between a joint and itself, and between the two ends of a bone."""
    return _symmetric(skeleton.num_joints, skeleton.bones) > 0


def partitioned_adjacency(nodes: int, edges: Sequence[Edge], twins: Sequence[Edge], centre: int) -> Tensor:
    """(4, V, V) subsets self, closer, further, symmetric of one column-normalised graph (Cai et al., ICCV 2019).

    The graph has `edges`, the left-right pairs `twins` and self-loops. An entry [v, w] is in "closer" where v is
    farther from `centre` (counted in edges) than w, in "further" where it is nearer.
    """
    whole = _normalise(_symmetric(nodes, [*edges, *twins]))
    distance = torch.tensor(_distances(nodes, edges, centre), device=_CPU)
    itself = torch.eye(nodes, device=_CPU)
    symmetric = _symmetric(nodes, twins) - itself
    others = (1 - itself) * (1 - symmetric)
    closer = others * (distance[:, None] > distance[None, :])
    further = others * (distance[:, None] < distance[None, :])
    return whole * torch.stack([itself, closer, further, symmetric])


def skeleton_partitions(skeleton: Skeleton) -> Tensor:
    """`partitioned_adjacency` of a skeleton around its spine, or its root where it has no spine: (4, J, J)."""
    centre = skeleton.index("spine") if "spine" in skeleton.joints else skeleton.root
    twins = list(zip(skeleton.left, skeleton.right, strict=True))
    return partitioned_adjacency(skeleton.num_joints, skeleton.bones, twins, centre)


def directed_adjacency(skeleton: Skeleton) -> Tensor:
    """(3, J, J) self, inward and outward: each joint hears itself, its parent, the mean of its children.

    For humaneva15 as GLA-GCN's code lists the edges: inward runs away from the head (the thorax hears the mean of
    pelvis and shoulders, the pelvis that of the hips, an elbow the wrist), and outward towards it.
    """
    inward = torch.zeros(skeleton.num_joints, skeleton.num_joints, device=_CPU)
    kept = _TURNED.get(skeleton.name, skeleton.joints)
    for parent, child in skeleton.bones:
        heard, hears = (parent, child) if skeleton.joints[child] in kept else (child, parent)
        inward[heard, hears] = 1.0
    return torch.stack([torch.eye(skeleton.num_joints, device=_CPU), _normalise(inward), _normalise(inward.T)])


def sum_subsets(values: Tensor, adjacency: Tensor) -> Tensor:
    """Sum over subsets k of what reaches w through adjacency[k]: (N, V, K·C) subset-major, (K, V, W) -> (N, W, C).

    One product over all subsets: in this order of the axes nothing is copied.
    """
    subsets, nodes, _ = adjacency.shape
    sums = adjacency.permute(2, 1, 0).flatten(1)  # (W, V·K)
    return sums @ values.reshape(values.shape[0], nodes * subsets, -1)


def select_joints(x: Tensor, index: Tensor) -> Tensor:
    """(..., V) -> (..., *index.shape). Unlike x[..., index], its gradient adds up in the same order every time."""
    return x.index_select(-1, index.flatten()).view(*x.shape[:-1], *index.shape)


def _symmetric(nodes: int, edges: Iterable[Edge]) -> Tensor:
    """(V, V) of 0 and 1, with self-loops."""
    matrix = torch.eye(nodes, device=_CPU)
    for a, b in edges:
        matrix[a, b] = matrix[b, a] = 1.0
    return matrix


def _normalise(matrix: Tensor) -> Tensor:
    """Columns divided by their sums; empty columns stay empty."""
    return matrix / matrix.sum(0).clamp(min=1.0)


def _distances(nodes: int, edges: Sequence[Edge], centre: int) -> list[int]:
    """Edges between each node and the centre."""
    distance = {centre: 0}
    queue = deque([centre])
    while queue:
        node = queue.popleft()
        near = [b if a == node else a for a, b in edges if node in (a, b)]
        for other in near:
            if other not in distance:
                distance[other] = distance[node] + 1
                queue.append(other)
    return [distance[node] for node in range(nodes)]

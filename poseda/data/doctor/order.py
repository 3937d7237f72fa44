"""Joints in a wrong order: from the lengths of bones in 3D, and from what they can be in 2D."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from poseda.data.doctor.body import measure_lengths, pair_distances, sideways, standing, trunk
from poseda.data.doctor.report import Finding
from poseda.data.doctor.robust import Floats, median, unit
from poseda.data.doctor.sample import Sample
from poseda.skeleton import SKELETONS, Skeleton

MARGIN = 0.55
"""A bone's length over the standing person's may be off by e^0.55 = 1.7, after one factor for all bones: above
what data sets' definitions of hips, neck and nose differ by."""
MARGIN_2D = 0.8
"""The same for lengths in the image, which are foreshortened."""
RIGID = 0.10
"""Spread of a bone within a person: true ones stay below 5 %, the spine of motion capture below 13 %."""
STRANGE = 0.3
"""Misfit of a bone that is worth a word without a better order: 2.3 times too long, or a spread of 18 %. The
hip and spine of marker-based motion capture (HDM05) reach 0.13."""
BETTER = 0.5
"""Another order must halve the misfit to be named."""
WORTH = 0.01
"""By how much less misfit, for each joint moved, exchanges must have than an order that is known."""
CROSSED = -0.3
"""Median cosine of the hip axis with the shoulder axis: about 0.9 for people."""

# Order of 16 joints in MPII and the Stacked Hourglass detections made from it.
_MPII16 = "rankle rknee rhip lhip lknee lankle pelvis spine thorax head rwrist relbow rshoulder lshoulder lelbow lwrist"
_ORDERS = {**{name: skeleton.joints for name, skeleton in SKELETONS.items()}, "mpii16": tuple(_MPII16.split())}
_LEG, _ARM = ("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")
MIRROR = "left and right exchanged"
LIMBS = "arms where legs should be"
_ASK = "give the skeleton that the files are in, or put the joints in this order before preparing"


@dataclass(frozen=True, eq=False)
class Tree:
    """Pairs of joints whose distance is known, and what it is in the standing person."""

    pairs: tuple[tuple[int, int], ...]
    expected: Floats

    @classmethod
    def of(cls, skeleton: Skeleton, joints: tuple[str, ...] | None = None) -> Tree:
        """Bones of a skeleton and the widths of hips and shoulders, for joints in its order or another."""
        names = joints or skeleton.joints
        index = {name: place for place, name in enumerate(names)}
        named = [(skeleton.joints[parent], skeleton.joints[child]) for parent, child in skeleton.bones]
        named += [("lhip", "rhip"), ("lshoulder", "rshoulder")]
        pairs = tuple((index[a], index[b]) for a, b in named)
        body = standing(names)
        return cls(pairs, np.array([np.linalg.norm(body[a] - body[b]) for a, b in pairs]))

    def misfits(self, length: Floats, spread: Floats, order: tuple[int, ...], margin: float) -> Floats:
        """(E,) how far each bone is out of proportion or changes; order[k] is where joint k is in the data."""
        a, b = (np.array([order[pair[end]] for pair in self.pairs]) for end in (0, 1))
        ratio = np.log(np.maximum(length[a, b], 1e-12) / self.expected)
        out = np.abs(ratio - np.median(ratio)) - margin
        return np.asarray(np.maximum(out, 0) + np.minimum(np.maximum(spread[a, b] - RIGID, 0) * 4, 1))

    def rigidity(self, spread: Floats, order: tuple[int, ...]) -> float:
        """Mean spread of the bones in that order."""
        return float(np.mean([spread[order[a], order[b]] for a, b in self.pairs]))


@dataclass(frozen=True)
class Candidate:
    """An order in which the data may be."""

    said: str
    misfit: float


def order_in_3d(sample: Sample) -> Finding | None:
    """The finding when bones of some people have lengths or spreads that no body has, with the likely order."""
    lengths, tree = measure_lengths(sample), Tree.of(sample.skeleton)
    same = tuple(range(sample.skeleton.num_joints))
    misfits = np.array(
        [
            tree.misfits(length, spread, same, MARGIN)
            for length, spread in zip(lengths.length, lengths.spread, strict=True)
        ]
    )
    bad = misfits.sum(1) > 0 if len(misfits) else np.zeros(0, dtype=bool)
    if not bad.any():
        return None
    length, spread = np.median(lengths.length[bad], 0), np.median(lengths.spread[bad], 0)
    misfit = tree.misfits(length, spread, same, MARGIN)
    if not misfit.any():
        return None
    best = _search(sample.skeleton, length, spread, MARGIN)
    evidence = f"{_worst(sample.skeleton, tree, misfit, length, spread)} ({bad.sum()} of {len(bad)} people)"
    if best.misfit < BETTER * misfit.mean():
        return Finding("error", "joint-order", "the 3D joints are in another order than declared",
                       f"{evidence}; misfit {misfit.mean():.2f}, {best.misfit:.2f} with {best.said}",
                       f"the data are not in the order of {sample.skeleton.name}: {best.said}", _ASK)  # fmt: skip
    if misfit.max() < STRANGE:
        return None
    return Finding("warning", "bones", "bones have lengths that no body has", evidence,
                   "wrong joints that no known order explains, or 3D that was not measured but estimated",
                   "draw a few poses and compare with the joint names")  # fmt: skip


def known_orders(skeleton: Skeleton) -> list[tuple[str, tuple[int, ...]]]:
    """Other orders of as many joints: name, and where each joint of `skeleton` is in it (-1: not there)."""
    found = []
    for name, joints in _ORDERS.items():
        if len(joints) == skeleton.num_joints and joints != skeleton.joints:
            found.append((name, tuple(joints.index(joint) if joint in joints else -1 for joint in skeleton.joints)))
    return found


def order_in_2d(sample: Sample) -> Finding | None:
    """The finding when longest image lengths fit another known order far better than the declared one."""
    whole = sample.take(np.flatnonzero(sample.visible.all(1))).thin(3000)
    if len(whole.time) < 30:
        return None
    length = np.quantile(pair_distances(whole.keypoints) / whole.box()[:, None, None], 0.85, axis=0)
    calm = np.zeros_like(length)  # image lengths change with the view: their spread says nothing
    tree, same = Tree.of(sample.skeleton), tuple(range(sample.skeleton.num_joints))
    misfit = tree.misfits(length, calm, same, MARGIN_2D)
    if (misfit > 0).sum() < 2:
        return None
    best = _search(sample.skeleton, length, calm, MARGIN_2D)
    if best.misfit >= BETTER * misfit.mean():
        return None
    evidence = f"misfit of image lengths {misfit.mean():.2f}, {best.misfit:.2f} with {best.said}"
    return Finding("error", "joint-order", "the 2D joints are in another order than declared", evidence,
                   f"the data are not in the order of {sample.skeleton.name}: {best.said}", _ASK)  # fmt: skip


def crossed_limbs(sample: Sample, points: Floats, space: str) -> Finding | None:
    """The finding when hips and shoulders point to opposite sides: left and right exchanged in one of them."""
    skeleton = sample.skeleton
    hips, shoulders = (sideways(points, skeleton, part) for part in ("hip", "shoulder"))
    cosine = median((unit(hips) * unit(shoulders)).sum(-1))
    if not cosine < CROSSED:
        return None
    said = "the legs are left-first, or the arms" if space == "2D" else _which_limbs(sample, points)
    return Finding("error", "limbs-crossed", f"left and right of the {space} legs and arms contradict each other",
                   f"median cosine of hip and shoulder axes {cosine:.2f}; people have about 0.9",
                   f"{said}: left and right joints are exchanged there",
                   "exchange left and right of these joints (some regressors list the left leg first)")  # fmt: skip


def _which_limbs(sample: Sample, points: Floats) -> str:
    """Hips alone or shoulders alone where that makes the bones more rigid; else the limb that faces wrongly."""
    skeleton, lengths = sample.skeleton, measure_lengths(sample)
    tree, same = Tree.of(skeleton), tuple(range(skeleton.num_joints))
    if len(lengths.people):
        spread = np.median(lengths.spread, 0)
        options = {part: tree.rigidity(spread, _side_swap(skeleton, (part,))) for part in ("hip", "shoulder")}
        best = min(options, key=lambda part: options[part])
        if options[best] < 0.8 * tree.rigidity(spread, same):
            return f"the {best}s alone"
    hips, shoulders = (_agreement_with_knees(points, skeleton, part) for part in ("hip", "shoulder"))
    return "the legs (hips, knees, ankles)" if hips < shoulders else "the arms (shoulders, elbows, wrists)"


def _agreement_with_knees(points: Floats, skeleton: Skeleton, part: str) -> float:
    """Mean of how far knees lie before the hip-ankle lines, forward taken from the axis of `part`."""
    forward = np.cross(sideways(points, skeleton, part), trunk(points, skeleton))
    off = [
        points[:, skeleton.index(side + "knee")]
        - (points[:, skeleton.index(side + "hip")] + points[:, skeleton.index(side + "ankle")]) / 2
        for side in "lr"
    ]
    return float(np.mean([(knee * unit(forward)).sum(-1).mean() for knee in off]))


def _side_swap(skeleton: Skeleton, parts: tuple[str, ...]) -> tuple[int, ...]:
    """Left and right exchanged for some parts."""
    moved = [name[1:] in parts for name in skeleton.joints]
    return tuple(skeleton.mirror[i] if moved[i] else i for i in range(skeleton.num_joints))


def _search(skeleton: Skeleton, length: Floats, spread: Floats, margin: float) -> Candidate:
    """The best of the known orders, of legs for arms, and of exchanged joints found by descent."""
    known = []
    for name, joints in _ORDERS.items():
        if len(joints) == skeleton.num_joints and name != skeleton.name:
            other = SKELETONS.get(name, skeleton)
            if set(other.joints) == set(joints):
                tree, same = Tree.of(other, joints), tuple(range(len(joints)))
                known.append(Candidate(f"the order of {name}", _mean(tree, length, spread, same, margin)))
    tree = Tree.of(skeleton)
    limbs = _limb_exchange(skeleton)
    known.append(Candidate(LIMBS, _mean(tree, length, spread, limbs, margin)))
    best = min(known, key=lambda candidate: candidate.misfit)
    found, misfit = _descend(tree, length, spread, margin)
    # exchanges enough can imitate any order: each must earn its place
    moved = sum(k != at for k, at in enumerate(found))
    return best if best.misfit <= misfit + WORTH * moved else Candidate(_say_exchanges(skeleton, found), misfit)


def _mean(tree: Tree, length: Floats, spread: Floats, order: tuple[int, ...], margin: float) -> float:
    return float(tree.misfits(length, spread, order, margin).mean())


def _descend(tree: Tree, length: Floats, spread: Floats, margin: float) -> tuple[tuple[int, ...], float]:
    """The exchange of two joints that helps most, again and again while one helps."""

    def value(order: tuple[int, ...]) -> tuple[float, float]:
        return round(_mean(tree, length, spread, order, margin), 6), tree.rigidity(spread, order)

    order = tuple(range(len(length)))
    best = value(order)
    for _ in range(len(order) // 2):
        options = [_exchange(order, a, b) for a, b in itertools.combinations(range(len(order)), 2)]
        values = [value(option) for option in options]
        if min(values) >= best:
            break
        best = min(values)
        order = options[values.index(best)]
        if best[0] == 0:
            break
    return order, best[0]


def _exchange(order: tuple[int, ...], a: int, b: int) -> tuple[int, ...]:
    changed = list(order)
    changed[a], changed[b] = changed[b], changed[a]
    return tuple(changed)


def named_exchanges(skeleton: Skeleton) -> dict[str, tuple[int, ...]]:
    """Mistakes that have a name: what is said, and where each joint is then."""
    return {
        MIRROR: skeleton.mirror,
        "left and right of the legs exchanged": _side_swap(skeleton, _LEG),
        "left and right of the arms exchanged": _side_swap(skeleton, _ARM),
        LIMBS: _limb_exchange(skeleton),
    }


def _limb_exchange(skeleton: Skeleton) -> tuple[int, ...]:
    """Hips for shoulders, knees for elbows, ankles for wrists."""
    other = {**dict(zip(_LEG, _ARM, strict=True)), **dict(zip(_ARM, _LEG, strict=True))}
    names = [name[0] + other[name[1:]] if name[1:] in other else name for name in skeleton.joints]
    return tuple(skeleton.joints.index(name) for name in names)


def _say_exchanges(skeleton: Skeleton, order: tuple[int, ...]) -> str:
    moved = [f"{skeleton.joints[k]} at the place of {skeleton.joints[at]}" for k, at in enumerate(order) if k != at]
    return ", ".join(moved) if moved else "no change"


def _worst(skeleton: Skeleton, tree: Tree, misfit: Floats, length: Floats, spread: Floats) -> str:
    """The bone that is worst, with its length and spread."""
    a, b = tree.pairs[int(misfit.argmax())]
    names = f"{skeleton.joints[a]} to {skeleton.joints[b]}"
    body = tree.expected[int(misfit.argmax())]
    return f"{names} is {length[a, b]:.4g} mm long (a body: {body:.0f}), spread {spread[a, b]:.0%}"

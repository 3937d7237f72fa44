"""What a card says of the people that a lifter was trained on: enough to measure others beside them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from poseda.anthropometry.persons import person_bones
from poseda.anthropometry.proportions import Anatomy, Proportions, rebuilt
from poseda.anthropometry.reference import Reference
from poseda.errors import CheckpointError
from poseda.geometry.bones import bone_lengths
from tests.anthropometry.floor import looking_down, on_floor


@pytest.fixture(scope="module")
def people(make_clips):
    far, near = looking_down(4, 1700.0, 5000.0, 0), looking_down(4, 1300.0, 3600.0, 1)
    source = on_floor(make_clips(sequences=160, frames=5, seed=5, bend=0.15, cameras=far), 1.0, far)
    return source, on_floor(make_clips(sequences=330, frames=5, seed=6, bend=0.15, cameras=near), 0.9, near)


def longer_arms(anatomy):
    """Proportions that change every kind of segment, and the places of the trunk's joints."""
    ratios = {name: 1 + 0.03 * (number - 4) for number, name in enumerate(anatomy.segments)}
    return Proportions(ratios, {joint: 0.02 * number - 0.03 for number, joint in enumerate(anatomy.trunk)})


def test_bones_with_other_proportions_are_those_of_bodies_rebuilt_one_by_one(people):
    source, _ = people
    reference, anatomy = Reference.of(source), Anatomy(source.skeleton)
    for proportions in (None, longer_arms(anatomy)):
        bodies = source.poses.double()
        if proportions:
            bodies = rebuilt(bodies, proportions.matrix(anatomy), source.skeleton)
        lengths = bone_lengths(bodies, source.skeleton).numpy()
        squares = np.sqrt((lengths**2).mean(0))
        np.testing.assert_allclose(reference.bones(proportions) / reference.steady, squares, rtol=1e-6)
        np.testing.assert_allclose(reference.bones(proportions), lengths.mean(0), rtol=1e-3)


def test_a_card_measures_people_as_the_clips_do(people):
    source, target = people
    reference = Reference.of(source)
    card = json.loads(json.dumps(reference.to_card(), allow_nan=False))
    read = Reference.from_card(card, source.skeleton)
    relative = target.poses - target.poses[:, :1]
    for floor in (True, False):
        before, after = (person_bones(known, target.unlabelled(), relative, floor=floor) for known in (reference, read))
        assert after[1:] == before[1:] and before.by_floor == (before.people if floor else 0)
        torch.testing.assert_close(after.bones, before.bones, rtol=1e-4, atol=0.02, equal_nan=True)
    assert len(json.dumps(card)) < 4000


def test_what_nobody_shows_is_null_on_a_card_and_unknown_when_read(people):
    source, target = people
    reference = Reference.of(source)
    place = list(reference.anatomy.segments).index("head")
    reference.seen[place] = torch.nan
    read = Reference.from_card(reference.to_card(), source.skeleton)
    assert bool(read.seen[place].isnan())
    assert reference.proportions(target.unlabelled()).ratios["head"] == 1.0


def test_joints_in_one_place_leave_a_card_that_can_be_read(people):
    source, _ = people
    poses = source.poses.clone()
    poses[:, source.skeleton.index("spine")] = poses[:, source.skeleton.root]
    known = Reference.of(source._derive(poses=poses))
    read = Reference.from_card(json.loads(json.dumps(known.to_card(), allow_nan=False)), source.skeleton)
    assert float(read.bones()[source.skeleton.bone_names.index("spine")]) < 1
    poses[:, source.skeleton.index("rwrist")] = poses[:, source.skeleton.index("relbow")]
    poses[:, source.skeleton.index("lwrist")] = poses[:, source.skeleton.index("lelbow")]
    assert Reference.of(source._derive(poses=poses)) is None


def _without(card, key):
    return {name: value for name, value in card.items() if name != key}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda card: [card], "no object"),
        (lambda card: _without(card, "segments"), "not measured by hips, shoulders, trunk"),
        (lambda card: {**card, "length_mm": [1.0]}, "length_mm of people must be 9 numbers above 0"),
        (lambda card: {**card, "seen_mm": [-1.0] * 9}, "seen_mm of people must be 9 numbers above 0"),
        (lambda card: {**card, "place": ["high"] * 4}, "place of people must be"),
        (lambda card: {**card, "place": None}, "place of people must be"),
        (lambda card: {**card, "products_mm2": [True] * 153}, "products_mm2 of people must be 153 numbers"),
        (lambda card: {**card, "products_mm2": [float("inf")] * 153}, "products_mm2 of people must be 153 numbers"),
        (lambda card: {**card, "steady": [0] * 16}, "steady of people must be 16 numbers above 0"),
        (lambda card: {**card, "floor": {"ankle_mm": 80}}, "floor must say ankle_mm and height_mm"),
        (lambda card: {**card, "floor": [80, 1700]}, "floor must say ankle_mm and height_mm"),
    ],
)  # fmt: skip
def test_a_spoilt_card_is_refused_in_a_sentence(people, spoil, message):
    card = Reference.of(people[0]).to_card()
    with pytest.raises(CheckpointError, match=message):
        Reference.from_card(spoil(card), people[0].skeleton)

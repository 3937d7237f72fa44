"""How tall target people are, told from the floor, and source people made as tall."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poseda.anthropometry.height import FloorReference
from poseda.stages.bodies import Bodies, BodiesConfig
from tests.anthropometry.floor import looking_down, on_floor


def relative_size(source, target):
    reference = FloorReference.of(source)
    return reference.size_of(target) if reference else None


@pytest.fixture(scope="module")
def standing(make_clips):
    """Source people on a floor, and a function that gives target people of another size elsewhere."""
    far, near = looking_down(4, 1700.0, 5000.0, 0), looking_down(4, 1300.0, 3600.0, 1)
    source = on_floor(make_clips(sequences=160, frames=5, seed=5, bend=0.15, cameras=far), 1.0, far)
    people = make_clips(sequences=160, frames=5, seed=6, bend=0.15, cameras=near)
    return source, lambda size: on_floor(people, size, near)


@pytest.mark.parametrize("size", [0.85, 1.0, 1.15])
def test_the_size_of_target_bodies_is_found_from_the_floor(standing, size):
    source, target = standing
    found = relative_size(source, target(size).unlabelled())
    assert found is not None
    assert found[0] == pytest.approx(size, rel=0.025)


def test_cameras_that_disagree_show_that_the_floor_lies_elsewhere(standing, make_clips):
    source, _ = standing
    rig = looking_down(4, [900.0, 1000.0, 2100.0, 2200.0], 3600.0, 1)
    right = on_floor(make_clips(sequences=160, frames=5, seed=6, bend=0.15, cameras=rig), 1.0, rig)
    wrong = right._derive(cameras=replace(rig, t=rig.t + 400 * rig.R[:, :, 2]))  # the floor at -400 mm
    assert relative_size(source, right.unlabelled()) is not None
    assert relative_size(source, wrong.unlabelled()) is None
    alike = wrong.select(lambda sequence: sequence.camera < 2)  # these alone agree, on people of half their size
    assert relative_size(source, alike.unlabelled()) is not None


def test_people_are_made_as_tall_as_the_targets(standing):
    source, target = standing
    made, remark = Bodies(BodiesConfig(proportions="source")).recast(source, target(0.85).unlabelled())
    size = relative_size(source, target(0.85).unlabelled())[0]
    assert remark.startswith("target people are 0.8")
    before, after = (clips.poses - clips.poses[:, :1] for clips in (source, made))
    torch.testing.assert_close(after, size * before, atol=5e-3, rtol=1e-5)
    torch.testing.assert_close(made.keypoints, made.cameras[made.camera_index].project(made.poses), atol=2e-3, rtol=0)


def test_without_extrinsics_or_a_floor_people_stay_as_tall_as_they_are_and_the_log_says_so(standing, make_clips):
    source, target = standing
    unknown = make_clips().unlabelled()  # its camera is in the world's origin
    afloat = target(1.0)
    afloat = afloat._derive(cameras=replace(afloat.cameras, t=afloat.cameras.t + 4000 * afloat.cameras.R[:, :, 2]))
    assert relative_size(source, unknown) is None
    assert relative_size(make_clips(), target(1.0).unlabelled()) is None
    assert relative_size(source, afloat.unlabelled()) is None
    made, remark = Bodies(BodiesConfig(proportions="source")).recast(source, unknown)
    assert remark.startswith("size=floor leaves people as tall as recorded")
    torch.testing.assert_close(made.poses, source.poses, atol=1e-2, rtol=0)
